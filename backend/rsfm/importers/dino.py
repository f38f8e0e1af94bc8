"""DINO and SatDINO, and DINO of SSL4EO-S12: student and teacher of a training checkpoint; the teacher is taken."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, under
from rsfm.sensors import PUBLISHED, SATDINO, UNKNOWN

WRAPPED = ("module.backbone.", "backbone.")


class Dino(Importer):
    name = "dino"
    title = "DINO or SatDINO (training checkpoint)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        """Take the teacher, or the student of a file that has no teacher."""
        side = "teacher" if "teacher" in checkpoint.states else "student"
        state = checkpoint.states.get(side, {})
        prefix = next((prefix for prefix in WRAPPED if any(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            return None
        backbone = backbone_of(under(state, prefix), "class")
        if backbone is None:
            return None
        method = "satdino" if "gsd_register" in backbone.weights else "dino"
        sensor = (SATDINO if method == "satdino" else PUBLISHED).get(backbone.bands, UNKNOWN)
        left_out = tuple(name for name in state if not name.startswith(prefix))
        notes = () if side == "teacher" else ("The file has no teacher; its student was taken.",)
        return Found(backbone, method, sensor.band_names, sensor.scaling, left_out, notes)
