"""PerA: student and teacher in one state of a training checkpoint; the teacher is taken."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, under
from rsfm.sensors import PUBLISHED, UNKNOWN

TEACHER = ("teacher.backbone.", "module.teacher.backbone.")


class Pera(Importer):
    name = "pera"
    title = "PerA (training checkpoint)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("model") or checkpoint.states.get("") or {}
        prefix = next((prefix for prefix in TEACHER if any(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            return None
        backbone = backbone_of(under(state, prefix), "class")
        if backbone is None:
            return None
        sensor = PUBLISHED.get(backbone.bands, UNKNOWN)
        left_out = tuple(name for name in state if not name.startswith(prefix))
        return Found(backbone, "pera", sensor.band_names, sensor.scaling, left_out)
