"""The encoder's weights as timm names them, in a .safetensors file that timm's own networks load strictly."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from rsfm.blocks.timm_layout import timm_features, timm_layout
from rsfm.exporter import Exporter, Subject, normalised


class Timm(Exporter):
    name = "timm"
    title = "weights for timm"
    suffix = ".safetensors"
    whole = False

    def side(self, subject: Subject) -> int:
        model = subject.model
        return timm_layout(model.encoder(), model.card.encoder or {}).side or subject.plan.side

    def write(self, subject: Subject, path: Path) -> dict[str, Any]:
        model = timm_layout(subject.model.encoder(), subject.model.card.encoder or {})
        save_file(model.weights, path, metadata={"format": "pt", "timm": model.call})
        return {"load": f"{model.call}.load_state_dict(safetensors.torch.load_file(path))"}

    def answers(self, subject: Subject, path: Path, pixels_BCSS: Tensor) -> dict[str, Tensor]:
        model = timm_layout(subject.model.encoder(), subject.model.card.encoder or {})
        normal_BCSS = normalised(subject, pixels_BCSS)
        return {"features": timm_features(model.name, model.arguments, load_file(path), normal_BCSS)}
