"""SatDINO as released: a bare teacher, beside a linear head."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of
from rsfm.sensors import SATDINO, UNKNOWN


class SatdinoRelease(Importer):
    name = "satdino_release"
    title = "SatDINO (release)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("teacher", {})
        if "gsd_register" not in state:
            return None
        backbone = backbone_of(state, "class")
        if backbone is None:
            return None
        sensor = SATDINO.get(backbone.bands, UNKNOWN)
        left_out = tuple(f"linear_head.{name}" for name in checkpoint.states.get("linear_head", {}))
        return Found(backbone, "satdino", sensor.band_names, sensor.scaling, left_out)
