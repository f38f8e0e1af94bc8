"""MoCo v2: tell the other view of a place from the views of places seen before.

Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning", arXiv:2003.04297; He et al., 2020,
"Momentum Contrast for Unsupervised Visual Representation Learning", arXiv:1911.05722.

Shape letters: B batch, C bands, H rows, W columns, D features compared, K length of the queue.
"""

from typing import Literal

from rsfm.blocks.momentum_contrast import MomentumContrast, MomentumContrastConfig, contrast, top
from rsfm.blocks.recipes import MOCO_QUICK, MOCO_TRAINING, SMALL_CONV
from rsfm.blocks.views import draw_view
from rsfm.job import Preset
from rsfm.method import Loss, Sample


class MoCoV2Config(MomentumContrastConfig):
    """Learns that two views of one place belong together and all others do not. A good first choice."""

    name: Literal["moco_v2"] = "moco_v2"


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
                "method": {
                    "name": "moco_v2",
                    "views": "quick",
                    "view_size": 32,
                    "queue": 2048,
                    "temperature": 0.2,
                    "momentum": 0.99,
                    "dimension": 64,
                },
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
                },
                "encoder": {"name": "resnet", "depth": "50"},
                "training": MOCO_TRAINING,
                "window": 224,
            },
        ),
    )

    def loss(self, sample: Sample, progress: float) -> Loss:
        config, windows = self.config, (sample.pixels_BCHW, sample.valid_BHW)
        query, key = (draw_view(config.views, *windows, config.view_size, band_drop=config.band_drop) for _ in range(2))
        logits_BK = self.compare(query.pixels_BCHW, key.pixels_BCHW)
        total = contrast(logits_BK)
        return Loss(total, {"contrast": total.detach(), "top1": top(logits_BK, 1)})
