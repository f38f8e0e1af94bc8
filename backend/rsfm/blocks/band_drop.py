"""Views without some of their bands, or without one of two sensors, so that an encoder does not lean on one of them.

A sensor is missing from a view at random as in SSL4EO-S12 (Wang et al., 2023, arXiv:2211.07044).

Shape letters: B batch, C bands, H rows, W columns, S sensors: the radar first, then the optical one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from rsfm.blocks.ranks import own_rows, ranks
from rsfm.encoder import Encoder
from rsfm.errors import UserError
from rsfm.method import Method, MethodConfig
from rsfm.params import Fraction
from rsfm.raster.known_sensors import is_radar


class ViewsConfig(MethodConfig):
    """Base of the configs of methods that compare views."""

    band_drop: Fraction = Field(
        0, ge=0, le=0.9, description="Chance of each band to be missing from a view; one is always left. 0: all stay."
    )
    sensor_drop: Fraction = Field(
        0,
        ge=0,
        le=1,
        description="Chance that a view lacks its radar bands or its optical ones. For rasters that hold both.",
    )


class ViewsMethod(Method):
    """Base of methods that compare views, from which bands may be missing.

    Attributes:
        sensors_SC: which bands are of which sensor; None until `tell_bands`, or where nothing asks for it.
    """

    config: Any
    sensors_SC: Tensor | None

    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.register_buffer("sensors_SC", None, persistent=False)

    def tell_bands(self, names: Sequence[str]) -> None:
        """Find the sensor of each band by its name, where a sensor may be missing from a view.

        Raises:
            UserError: all bands are of one sensor.
        """
        if self.config.sensor_drop:
            self.sensors_SC = find_sensors(names, "method.sensor_drop").to(next(self.parameters()).device)

    def drop(self, pixels_BCHW: Tensor, kept_BC: Tensor | None = None) -> Tensor:
        """Set to 0 what is missing from views.

        Args:
            kept_BC: bands that may stay; drawn if not given.
        """
        if kept_BC is None and self.sensors_SC is not None:
            kept_BC = keep_sensors(len(pixels_BCHW), self.config.sensor_drop, self.sensors_SC)
        return drop_bands(pixels_BCHW, self.config.band_drop, kept_BC)


def drop_bands(pixels_BCHW: Tensor, chance: float, kept_BC: Tensor | None = None) -> Tensor:
    """Set bands of each view to 0, their mean, each with a chance; one at least is left. Nothing is drawn for 0.

    Args:
        kept_BC: bands that may stay, one at least of each view; None is all of them.
    """
    if chance:
        count, bands = pixels_BCHW.shape[:2]
        drawn_BC = own_rows(torch.rand(count * ranks(), bands, device=pixels_BCHW.device))
        if kept_BC is not None:
            drawn_BC = drawn_BC.masked_fill(~kept_BC, -1)
        kept_BC = (drawn_BC >= chance) | (drawn_BC == drawn_BC.amax(1, keepdim=True))
    return pixels_BCHW if kept_BC is None else pixels_BCHW * kept_BC[:, :, None, None]


def find_sensors(names: Sequence[str], field: str) -> Tensor:
    """Tell radar bands (VV, VH, HH, HV) from the others by their names, sensors_SC.

    Raises:
        UserError: all bands are of one sensor.
    """
    radar_C = torch.tensor([is_radar(name) for name in names])
    if radar_C.all() or not radar_C.any():
        raise UserError(
            f"The bands {', '.join(names)} are all {'radar' if radar_C.all() else 'optical'}, and two sensors are "
            "needed to leave one out. Choose rasters that hold radar bands (VV, VH, HH or HV) beside optical ones: a "
            "collection made with 'Join sensors', or a stack. Or set 'Sensor drop' to 0 and 'The other sensor' off.",
            field,
        )
    return torch.stack([radar_C, ~radar_C])


def keep_sensors(count: int, chance: float, sensors_SC: Tensor) -> Tensor:
    """Draw the bands of views that stay, kept_BC: all, or with a chance those of one sensor, either as often."""
    lost_B = own_rows(torch.rand(count * ranks(), device=sensors_SC.device)) < chance
    return sensors_SC[draw_sensor(count, sensors_SC)] | ~lost_B[:, None]


def draw_sensor(count: int, sensors_SC: Tensor) -> Tensor:
    """Draw one of the two sensors for each window, sensor_B."""
    return own_rows(torch.randint(2, (count * ranks(),), device=sensors_SC.device))
