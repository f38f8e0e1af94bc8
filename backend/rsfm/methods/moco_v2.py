"""MoCo v2: tell the other view of a place from the views of places seen before.

Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning", arXiv:2003.04297; He et al., 2020,
"Momentum Contrast for Unsupervised Visual Representation Learning", arXiv:1911.05722.

Shape letters: B batch, C bands, H rows, W columns, D features compared, K length of the queue.
"""

from typing import Literal

from pydantic import Field

from rsfm.blocks.dates import on_two_dates
from rsfm.blocks.momentum_contrast import MomentumContrast, MomentumContrastConfig, contrast, top
from rsfm.blocks.recipes import MOCO_QUICK, MOCO_QUICK_METHOD, MOCO_TRAINING, SMALL_CONV
from rsfm.blocks.views import draw_view
from rsfm.encoder import Encoder
from rsfm.job import Preset
from rsfm.method import Loss, Sample

ONE_DATE = (
    "These rasters show every place on one date only, but 'The same place on the other date' needs two. Choose rasters "
    "of the same place on two dates under 'Rasters', or switch it off under 'Method'."
)


class MoCoV2Config(MomentumContrastConfig):
    """Learns that two views of one place belong together and all others do not. A good first choice."""

    name: Literal["moco_v2"] = "moco_v2"
    other_date: bool = Field(
        False,
        title="The same place on the other date",
        description="Take the second view from another date, to find change between these dates; needs two dates.",
    )


class MoCoV2(MomentumContrast):
    name = "moco_v2"
    title = "MoCo v2"
    Config = MoCoV2Config
    presets = (
        Preset(
            "quick",
            "Quick: small MoCo v2, minutes on a CPU",
            "A small variant, not the paper's model: learns texture and pattern of a raster in about 3 minutes.",
            {
                "method": {**MOCO_QUICK_METHOD, "other_date": False},
                "encoder": SMALL_CONV,
                "training": MOCO_QUICK,
                "window": 40,
            },
        ),
        Preset(
            "moco_v2_change",
            "For change: small MoCo v2 across your dates, minutes on a CPU",
            "To find change between the dates it learns from: the same place on the other date is the match. Choose "
            "both dates under 'Rasters', then take the encoder as 'Model' of 'Detect Change'.",
            {
                "method": {**MOCO_QUICK_METHOD, "other_date": True},
                "encoder": SMALL_CONV,
                "training": MOCO_QUICK,
                "window": 40,
            },
        ),
        Preset(
            "moco_v2_official",
            "MoCo v2 as published, ResNet-50, for a GPU",
            "The paper's model and recipe: 200 passes over the windows, for many rasters and days on a GPU.",
            {
                "method": {
                    "name": "moco_v2",
                    "views": "published",
                    "view_size": 224,
                    "queue": 65536,
                    "temperature": 0.2,
                    "momentum": 0.999,
                    "dimension": 128,
                    "other_date": False,
                },
                "encoder": {"name": "resnet", "depth": "50"},
                "training": MOCO_TRAINING,
                "window": 224,
            },
        ),
    )

    config: MoCoV2Config

    def __init__(self, config: MoCoV2Config, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if config.other_date:
            self.dates, self.one_date = 2, ONE_DATE

    def loss(self, sample: Sample, progress: float) -> Loss:
        config = self.config
        if not config.other_date:
            sample = sample._replace(dates=None)
        first, second, alone = on_two_dates(sample)
        query, key = (
            draw_view(config.views, *windows, config.view_size, band_drop=config.band_drop)
            for windows in (first, second)
        )
        logits_BK = self.compare(query.pixels_BCHW, key.pixels_BCHW)
        total = contrast(logits_BK)
        parts = {"contrast": total.detach(), "top1": top(logits_BK, 1)}
        return Loss(total, parts | ({"one_date": alone} if config.other_date else {}))
