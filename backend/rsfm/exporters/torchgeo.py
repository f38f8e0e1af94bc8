"""The encoder's weights as torchgeo publishes them: a state dict of plain tensors, in timm's names, in a .pth file.

torchgeo makes its ResNets and vision transformers by `timm.create_model` of the function's name with `in_chans`, and
loads a weight file by `load_state_dict(..., strict=False)`, where only the classifier may be missing
(microsoft/torchgeo: torchgeo/models/resnet.py and vit.py). Only networks that it has a function for are written.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.timm_layout import TimmModel, timm_features, timm_layout
from rsfm.errors import UserError
from rsfm.exporter import Exporter, Subject, normalised

FUNCTIONS = (
    "resnet18",
    "resnet50",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_large_patch16_224",
    "vit_huge_patch14_224",
)


class Torchgeo(Exporter):
    name = "torchgeo"
    title = "weights for torchgeo"
    suffix = ".pth"
    whole = False

    def side(self, subject: Subject) -> int:
        return _layout(subject).side or subject.plan.side

    def write(self, subject: Subject, path: Path) -> dict[str, Any]:
        model = _layout(subject)
        torch.save(model.weights, path)
        given = ", ".join(f"{name}={value!r}" for name, value in model.arguments.items())
        make = f"torchgeo.models.{model.name}({given})"
        return {"load": f"{make}.load_state_dict(torch.load(path, weights_only=True))"}

    def answers(self, subject: Subject, path: Path, pixels_BCSS: Tensor) -> dict[str, Tensor]:
        model = _layout(subject)
        weights = torch.load(path, weights_only=True)
        normal_BCSS = normalised(subject, pixels_BCSS)
        return {"features": timm_features(model.name, model.arguments, weights, normal_BCSS)}


def _layout(subject: Subject) -> TimmModel:
    model = timm_layout(subject.model.encoder(), subject.model.card.encoder or {})
    if model.name not in FUNCTIONS or "embed_dim" in model.arguments or "reg_tokens" in model.arguments:
        raise UserError(
            f"torchgeo has no function that makes this encoder ({model.call}); it has {', '.join(FUNCTIONS)}. "
            "Choose the weights for timm under 'Format'.",
            "format",
        )
    return model
