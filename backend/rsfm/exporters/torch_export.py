"""A program of torch.export: runs in PyTorch without our code, for batches of any size."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsfm.exporter import Exporter, Subject


class TorchExport(Exporter):
    name = "torch_export"
    title = "PyTorch program"
    suffix = ".pt2"
    whole = True

    def write(self, subject: Subject, path: Path) -> dict[str, Any]:
        side = self.side(subject)
        example = (torch.zeros(2, subject.model.card.bands, side, side),)
        batch = {"pixels": {0: torch.export.Dim("batch")}}
        torch.export.save(torch.export.export(subject.portable, example, dynamic_shapes=batch), path)
        return {"load": "torch.export.load(path).module()(pixels)", "torch": torch.__version__}

    def answers(self, subject: Subject, path: Path, pixels_BCSS: Tensor) -> dict[str, Tensor]:
        found = torch.export.load(path).module()(pixels_BCSS)
        return dict(zip(subject.portable.outputs, found, strict=True))
