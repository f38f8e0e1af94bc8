"""A small detector of random weights for tests of boxes."""

from pathlib import Path

import torch
from rsfm import model_file
from rsfm.detector import new_detector
from rsfm.model_file import Card, ClassName, build_encoder
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics

QUICK = {
    "training": {"minutes": 0, "epochs": 1, "batch_size": 2, "learning_rate": 1e-3},
    "window": 96,
    "encoder": {"name": "conv_small", "width": 32},
    "detector": {"width": 16, "box_features": 32, "proposals": 50, "samples": 16},
    "device": "cpu",
}


def make_detector(path: Path, raster: Path | str, largest_m: float = 12.0) -> Path:
    """Write a detector of random weights that finds something: its boxes are anywhere, but always the same."""
    torch.manual_seed(0)
    with open_raster(str(raster)) as opened:
        statistics = band_statistics([opened], [opened.grid.window], 0)
        bands, gsd = opened.bands, opened.grid.gsd
    encoder = build_encoder(QUICK["encoder"], bands)
    head = {**QUICK["detector"], "name": "faster_rcnn", "largest_m": largest_m}
    detector = new_detector(head, encoder, 2)
    torch.nn.init.normal_(detector.roi_heads.box_predictor.cls_score.weight, std=0.5)
    card = Card(
        title="toy", bands=bands, statistics=statistics, gsd=gsd, window=96, encoder=QUICK["encoder"], head=head,
        classes=(ClassName(value=1, name="one", colour="#e69f00"), ClassName(value=2, name="two", colour="#56b4e9")),
    )  # fmt: skip
    rest = torch.nn.ModuleDict({"pyramid": detector.pyramid, "rpn": detector.rpn, "roi_heads": detector.roi_heads})
    model_file.save(path, card, model_file.parts(encoder=encoder, head=rest))
    return path
