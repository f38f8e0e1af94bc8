"""MoCo v2: tell the other view of a place from the views of places seen before.

Chen et al., 2020, "Improved Baselines with Momentum Contrastive Learning", arXiv:2003.04297; He et al., 2020,
"Momentum Contrast for Unsupervised Visual Representation Learning", arXiv:1911.05722.

Variants of others: three spaces (Mañas et al., 2021, "Seasonal Contrast", arXiv:2103.16607), and the other sensor's
view of a place as its match, in the manner of Jain et al., 2022, "Self-Supervised Learning for Invariant
Representations from Multi-Spectral and SAR Images".

Shape letters: B batch, C bands, H rows, W columns, D features compared, K length of the queue, S sensors.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from rsfm.blocks.band_drop import draw_sensor, find_sensors
from rsfm.blocks.batch_groups import in_groups
from rsfm.blocks.dates import on_two_dates
from rsfm.blocks.momentum_contrast import MomentumContrast, MomentumContrastConfig, contrast, top
from rsfm.blocks.recipes import MOCO_EVENING, MOCO_QUICK, MOCO_QUICK_METHOD, MOCO_TRAINING, SMALL_CONV
from rsfm.blocks.seasonal_contrast import DATES_OF_A_PLACE, SPACES, Space, compare_spaces, draw_seasons
from rsfm.blocks.view import View
from rsfm.blocks.views import draw_view, plain_crop
from rsfm.encoder import Encoder
from rsfm.job import Preset
from rsfm.method import Loss, Sample

ONE_DATE = (
    "These rasters show every place on one date only, but 'The same place on the other date' needs two. Choose rasters "
    "of the same place on two dates under 'Rasters', or switch it off under 'Method'."
)
ONE_SEASON = (
    "These rasters show every place on one date only, but 'Three' under 'Spaces' compares dates. Choose rasters of the "
    "same place on several dates under 'Rasters', or 'One' under 'Spaces'."
)


class MoCoV2Config(MomentumContrastConfig):
    """Learns that two views of one place belong together and all others do not. A good first choice."""

    name: Literal["moco_v2"] = "moco_v2"
    other_date: bool = Field(
        False,
        title="The same place on the other date",
        description="Take the second view from another date, to find change between these dates; needs two dates.",
    )
    other_sensor: bool = Field(
        False,
        title="The other sensor",
        description="Match the radar bands of a place with its optical ones: each view has those of one sensor. For "
        "rasters that hold both.",
    )
    spaces: Literal["one", "three"] = Field(
        "one",
        description="In how many ways views are compared; three need several dates.",
        json_schema_extra={
            "choices": ["one", "three"],
            "titles": [
                "One: all views of a place match",
                "Three (SeCo): blind to season and light, to the season only, to the light only",
            ],
        },
    )

    @model_validator(mode="after")
    def _one_variant(self) -> Self:
        if self.spaces == "three" and (self.other_date or self.other_sensor):
            raise ValueError(
                "Three spaces choose dates and views themselves: switch 'The same place on the other date' and "
                "'The other sensor' off, or choose one space."
            )
        return self


class MoCoV2(MomentumContrast):
    name = "moco_v2"
    title = "MoCo v2"
    Config = MoCoV2Config
    presets = (
        Preset(
            "quick",
            "MoCo v2: quick, minutes on a CPU",
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
            "MoCo v2: quick, for change across your dates",
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
            "moco_v2_seasons",
            "MoCo v2: quick, three spaces for seasons (SeCo)",
            "A small variant, not the paper's model; for rasters of one place at several dates. One of its spaces "
            "keeps what changes with the season.",
            {
                "method": {**MOCO_QUICK_METHOD, "other_date": False, "spaces": "three"},
                "encoder": SMALL_CONV,
                "training": MOCO_QUICK,
                "window": 40,
            },
        ),
        Preset(
            "moco_v2_gpu",
            "MoCo v2: evening on a GPU, ResNet-50",
            "Four hours on one GPU: the paper's network and views on smaller windows. Its worth is not measured.",
            {
                "method": {
                    "name": "moco_v2",
                    "views": "published",
                    "view_size": 112,
                    "queue": 16384,
                    "temperature": 0.2,
                    "momentum": 0.999,
                    "dimension": 128,
                    "other_date": False,
                },
                "encoder": {"name": "resnet", "depth": "50"},
                "training": MOCO_EVENING,
                "window": 128,
            },
            for_gpu=True,
        ),
        Preset(
            "moco_v2_official",
            "MoCo v2: as published, ResNet-50, days on a GPU",
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
            for_gpu=True,
        ),
    )

    config: MoCoV2Config

    def __init__(self, config: MoCoV2Config, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if config.other_date:
            self.dates, self.one_date = 2, ONE_DATE
        if config.spaces == "three":
            self.dates, self.one_date = DATES_OF_A_PLACE, ONE_SEASON
            del self.projection, self.key_projection, self.negatives
            made = [Space(encoder.width, config.dimension, config.queue) for _ in range(SPACES)]
            self.spaces = nn.ModuleList(made)

    def tell_bands(self, names: Sequence[str]) -> None:
        super().tell_bands(names)
        if self.config.other_sensor:
            self.sensors_SC = find_sensors(names, "method.other_sensor").to(next(self.parameters()).device)

    def loss(self, sample: Sample, progress: float) -> Loss:
        config = self.config
        if config.spaces == "three":
            return self._loss_of_seasons(sample)
        if not config.other_date:
            sample = sample._replace(dates=None)
        first, second, alone = on_two_dates(sample)
        query, key = self._views(first, second)
        logits_BK = self.compare(query.pixels_BCHW, key.pixels_BCHW)
        total = contrast(logits_BK)
        parts = {"contrast": total.detach(), "top1": top(logits_BK, 1)}
        return Loss(total, parts | ({"one_date": alone} if config.other_date else {}))

    def _views(self, first: View, second: View) -> tuple[View, View]:
        """Draw the views that match; of different sensors if that is asked for, either as often the query."""
        draw = partial(draw_view, self.config.views, size=self.config.view_size)
        if not self.config.other_sensor or self.sensors_SC is None:
            return draw(first, drop=self.drop), draw(second, drop=self.drop)
        sensor_B = draw_sensor(len(first.pixels_BCHW), self.sensors_SC)
        query_BC, key_BC = self.sensors_SC[sensor_B], self.sensors_SC[1 - sensor_B]
        return draw(first, drop=partial(self.drop, kept_BC=query_BC)), draw(
            second, drop=partial(self.drop, kept_BC=key_BC)
        )

    def _loss_of_seasons(self, sample: Sample) -> Loss:
        """Compare a plain crop of a date with: a changed view of another, a plain crop of a third, its own changed."""
        (now, then, later), alone = draw_seasons(sample)
        kind, size = self.config.views, self.config.view_size
        query, kept = plain_crop(kind, now, size), plain_crop(kind, later, size)
        keys = [draw_view(kind, then, size), kept, draw_view(kind, now, size)]
        logits = self.compare_seasons(*(self.drop(view.pixels_BCHW) for view in (query, *keys)))
        losses = [contrast(logits_BK) for logits_BK in logits]
        names = ("contrast", "contrast_of_seasons", "contrast_of_light")
        parts = {name: one.detach() for name, one in zip(names, losses, strict=True)}
        return Loss(sum(losses[1:], losses[0]), {**parts, "top1": top(logits[0], 1), "one_date": alone})

    def compare_seasons(self, query_BCHW: Tensor, *keys_SBCHW: Tensor) -> list[Tensor]:
        """Compare queries with a key for each space, then put each key into its space's queue; returns logits_BK."""
        query_BD = in_groups(self.encoder, self.encoder.embedding, query_BCHW, self.groups(len(query_BCHW)))
        self.move_average()
        keys_SBD = [self.encode_keys(key_BCHW, self.key_encoder.embedding) for key_BCHW in keys_SBCHW]
        return compare_spaces(self._spaces(), query_BD, keys_SBD, self.config.temperature)

    def _spaces(self) -> list[Space]:
        return [space for space in self.spaces if isinstance(space, Space)]

    def averages_of(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        if self.config.spaces == "one":
            yield from super().averages_of()
            return
        yield self.key_encoder, self.encoder
        yield from ((space.key_projection, space.projection) for space in self._spaces())
