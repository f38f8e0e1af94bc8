"""MoCo v1 and v2, GASSL, and MoCo of SSL4EO-S12: a ResNet as the query encoder of a training checkpoint."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, under, without
from rsfm.sensors import PUBLISHED, UNKNOWN

TIMELESS = (
    "GASSL was taught that a place looks the same at all dates. For finding change, another encoder does better, or "
    "the first feature maps of this one."
)
QUERY = ("module.encoder_q.", "encoder_q.")


class Moco(Importer):
    name = "moco"
    title = "MoCo v1 or v2, GASSL (training checkpoint)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        """Take the query encoder: the authors evaluate that one, not its average."""
        state = checkpoint.states.get("state_dict") or checkpoint.states.get("") or {}
        prefix = next((prefix for prefix in QUERY if f"{prefix}conv1.weight" in state), None)
        if prefix is None:
            return None
        weights, heads = without(under(state, prefix), "fc.")
        backbone = backbone_of(weights, "mean")
        if backbone is None:
            return None
        sensor = PUBLISHED.get(backbone.bands, UNKNOWN)
        others = tuple(name for name in state if not name.startswith(prefix))
        places = tuple(f"geo_dict.{name}" for name in checkpoint.states.get("geo_dict", {}))
        left_out = (*(prefix + name for name in heads), *others, *places)
        method = "gassl" if places else "moco_v2" if "fc.0.weight" in heads else "moco_v1"
        notes = (TIMELESS,) if places else ()
        return Found(backbone, method, sensor.band_names, sensor.scaling, left_out, notes)
