"""SatMAE on dates: as MAE, but the positions leave room for year, month and hour, which have no weights."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Backbone, Found, Importer, last_norm, side_of, vit_config, without
from rsfm.published_scaling import RGB

OUTSIDE = ("decoder", "mask_token", "head.")


class SatmaeTemporal(Importer):
    name = "satmae_temporal"
    title = "SatMAE on dates"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("model") or checkpoint.states.get("") or {}
        positions, embed = state.get("pos_embed"), state.get("patch_embed.proj.weight")
        if positions is None or embed is None or "cls_token" not in state or positions.shape[-1] >= embed.shape[0]:
            return None
        weights, left_out = without(last_norm(state), *OUTSIDE)
        config = vit_config(weights, embed, "mean") | {
            "name": "vit_temporal",
            "time_width": embed.shape[0] - positions.shape[-1],
            "window": side_of(positions.shape[1] - 1) * embed.shape[-1],
        }
        colours = embed.shape[1] == len(RGB)
        scaling, band_names = ("satmae_rgb", RGB) if colours else ("", ())
        return Found(Backbone(config, embed.shape[1], weights), "satmae", band_names, scaling, left_out)
