"""MAE, MAE of SSL4EO-S12, and SatMAE on single images: encoder and decoder, or the encoder alone, under "model"."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, last_norm, without
from rsfm.published_scaling import RGB
from rsfm.sensors import PUBLISHED, UNKNOWN, Sensor

OUTSIDE = ("decoder", "mask_token", "head.")
NO_DECODER = "The file has no decoder: going on with its pretraining would start that part afresh."
MAYBE_SATMAE = "Colours are scaled as for MAE on ImageNet; for SatMAE choose 'satmae_rgb' under 'Scaling'."
SATMAE = Sensor(RGB, "satmae_rgb")


class Mae(Importer):
    name = "mae"
    title = "MAE, or SatMAE on single images"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("model", {})
        positions, embed = state.get("pos_embed"), state.get("patch_embed.proj.weight")
        if positions is None or embed is None or positions.shape[-1] != embed.shape[0]:
            return None
        weights, left_out = without(last_norm(state), *OUTSIDE)
        backbone = backbone_of(weights, "mean")
        if backbone is None:
            return None
        satmae = backbone.bands == len(RGB) and "dataset_type" in checkpoint.settings
        sensor = SATMAE if satmae else PUBLISHED.get(backbone.bands, UNKNOWN)
        notes = () if "mask_token" in state else (NO_DECODER,)
        if backbone.bands == len(RGB) and not satmae:
            notes = (*notes, MAYBE_SATMAE)
        return Found(backbone, "satmae" if satmae else "mae", sensor.band_names, sensor.scaling, left_out, notes)
