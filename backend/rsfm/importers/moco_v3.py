"""MoCo v3, as SSL4EO-S12 trains it: a vision transformer as the base encoder of a training checkpoint."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, under, without
from rsfm.sensors import PUBLISHED, UNKNOWN

BASE = ("module.base_encoder.", "base_encoder.")


class MocoV3(Importer):
    name = "moco_v3"
    title = "MoCo v3 (training checkpoint)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("state_dict") or checkpoint.states.get("") or {}
        prefix = next((prefix for prefix in BASE if any(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            return None
        weights, heads = without(under(state, prefix), "head.", "fc.")
        backbone = backbone_of(weights, "class")
        if backbone is None:
            return None
        sensor = PUBLISHED.get(backbone.bands, UNKNOWN)
        others = tuple(name for name in state if not name.startswith(prefix))
        left_out = (*(prefix + name for name in heads), *others)
        return Found(backbone, "moco_v3", sensor.band_names, sensor.scaling, left_out)
