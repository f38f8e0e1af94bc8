"""What light does to a window: brightness, contrast, saturation, hue, gray, blur and inversion, drawn then applied.

Pixels are taken as light between black (0) and white (1). As in an image of 8 bits no change leaves that range, except
that what was outside of it before, in float rasters, may stay where it was.

Shape letters: B batch, C bands, H rows, W columns.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rsfm.blocks import colour
from rsfm.blocks.ranks import own_rows, ranks
from rsfm.blocks.resampling import blur_axis, resample_valid
from rsfm.blocks.validity import nothing_missing
from rsfm.blocks.view import BLACK, View, make_in_pieces


class Chances(NamedTuple):
    """How often each change happens; blur has a sigma of 0.1 to 2 px in a view of 224 px, and less in a smaller one."""

    jitter: float = 0.8
    gray: float = 0.2
    blur: float = 0.0
    invert: float = 0.0


class Light(NamedTuple):
    """The changes of each window.

    Attributes:
        order: of brightness (0), contrast (1), saturation (2) and hue (3), the same for the batch.
        factors_4B: three factors and the turn of the hue as a share of the circle; used where jittered.
        sigma_B: of the blur in pixels; 0 is none.
    """

    order: tuple[int, ...]
    factors_4B: Tensor
    jittered_B: Tensor
    gray_B: Tensor
    sigma_B: Tensor
    inverted_B: Tensor

    def of(self, piece: slice) -> "Light":
        """Return the changes of some of the windows."""
        return Light(self.order, self.factors_4B[:, piece], *(values_B[piece] for values_B in self[2:]))

    def changes_nothing(self) -> bool:
        """Tell that no window is changed, if that is cheap to know: a GPU is not waited for."""
        if self.gray_B.device.type != "cpu":
            return False
        return not (self.jittered_B.any() or self.gray_B.any() or self.sigma_B.any() or self.inverted_B.any())


def draw_light(count: int, chances: Chances, shrink: float, device: torch.device) -> Light:
    """Draw brightness and contrast of 0.6 to 1.4, saturation of 0.8 to 1.2, a hue turned by up to a tenth.

    Args:
        shrink: how much smaller than published the views are; the blur shrinks with them.
    """
    spread_41 = torch.tensor([0.4, 0.4, 0.2, 0.1], device=device)[:, None]
    factors_4B = spread_41 * (2 * own_rows(torch.rand(4, count * ranks(), device=device), 1) - 1)
    factors_4B[:3] += 1
    chance_4B = own_rows(torch.rand(4, count * ranks(), device=device), 1)
    sigma_B = (0.1 + 1.9 * own_rows(torch.rand(count * ranks(), device=device))) * shrink
    return Light(
        tuple(torch.randperm(4).tolist()),
        factors_4B,
        chance_4B[0] < chances.jitter,
        chance_4B[1] < chances.gray,
        sigma_B * (chance_4B[2] < chances.blur),
        chance_4B[3] < chances.invert,
    )


def relight(view: View, light: Light, clamped: bool = True) -> View:
    """Apply changes to standardised pixels: BLACK standard deviations below the mean are black, as much above white.

    Args:
        clamped: keep the range of an image of 8 bits, or of what was outside of it before.
    """

    def make(piece: slice) -> View:
        pixels_BCHW, valid_BHW = view.of(piece)
        if light.of(piece).changes_nothing():
            return view.of(piece)
        middle = torch.full((), 0.5, device=pixels_BCHW.device)
        light_BCHW = torch.add(middle, pixels_BCHW, alpha=1 / (2 * BLACK))  # in one pass
        _change_(light_BCHW, valid_BHW, light.of(piece), clamped)
        changed_BCHW = torch.add(-BLACK * torch.ones_like(middle), light_BCHW, alpha=2 * BLACK, out=light_BCHW)
        return View(changed_BCHW, valid_BHW).cleared()

    height, width = view.valid_BHW.shape[1:]
    return make_in_pieces(make, view.pixels_BCHW, (height, width))


def change_light(light_BCHW: Tensor, valid_BHW: Tensor, light: Light) -> Tensor:
    """Apply changes to light: the colours in their order, then gray, blur and inversion.

    Saturation and hue are those of three bands; other numbers of bands have neither, and gray is their mean.
    """
    changed_BCHW = light_BCHW.clone()
    _change_(changed_BCHW, valid_BHW, light, clamped=True)
    return changed_BCHW


def _change_(light_BCHW: Tensor, valid_BHW: Tensor, light: Light, clamped: bool) -> None:
    range_B2 = _range(light_BCHW) if clamped else None
    _where_(light.jittered_B, _jitter_, light_BCHW, valid_BHW, range_B2, light.factors_4B.T, light.order)
    _where_(light.gray_B, _gray_, light_BCHW)
    _where_(light.sigma_B > 0, _blur_, light_BCHW, valid_BHW, light.sigma_B)
    _where_(light.inverted_B, _invert_, light_BCHW, range_B2)


_BLACK_TO_WHITE = torch.tensor([0.0, 1.0])


def _range(light_BCHW: Tensor) -> Tensor:
    """Return the lowest and highest value that each window may have, range_B2."""
    return torch.stack([light_BCHW.amin((1, 2, 3)).clamp(max=0), light_BCHW.amax((1, 2, 3)).clamp(min=1)], 1)


def _jitter_(
    light_BCHW: Tensor, valid_BHW: Tensor, range_B2: Tensor | None, factors_B4: Tensor, order: tuple[int, ...]
) -> None:
    three = light_BCHW.shape[1] == len(colour.LUMA)
    for change, factor_B in ((change, factors_B4[:, change]) for change in order):
        if change == 0:
            colour.change_brightness_(light_BCHW, factor_B)
        elif change == 1:
            colour.change_contrast_(light_BCHW, valid_BHW, factor_B)
        elif three:
            (colour.change_saturation_ if change == 2 else colour.shift_hue_)(light_BCHW, factor_B)
        if not _stays(change, factor_B):
            _clamp_(light_BCHW, range_B2)


def _stays(change: int, factor_B: Tensor) -> bool:
    """Tell that a change leaves every value in its range, if that is cheap to know: a GPU is not waited for.

    Below 1, a factor draws values towards black, the mean or the luma; a turned hue keeps what is highest and lowest.
    """
    return change == 3 or (factor_B.device.type == "cpu" and bool((factor_B <= 1).all()))


def _gray_(light_BCHW: Tensor) -> None:
    light_BCHW.copy_(colour.gray(light_BCHW))


def _blur_(light_BCHW: Tensor, valid_BHW: Tensor, sigma_B: Tensor) -> None:
    """Blur valid pixels; those with less than half of the weight valid stay as they are."""
    rows, columns = (blur_axis(sigma_B, cells) for cells in light_BCHW.shape[2:])
    blurred_BCHW, enough_BHW = resample_valid(light_BCHW, valid_BHW, rows, columns)
    if nothing_missing(valid_BHW):
        light_BCHW.copy_(blurred_BCHW)
    else:
        torch.where(enough_BHW[:, None], blurred_BCHW, light_BCHW, out=light_BCHW)


def _invert_(light_BCHW: Tensor, range_B2: Tensor | None) -> None:
    """Invert what is brighter than half: the darker of a pixel and its inverse."""
    torch.minimum(light_BCHW, 1 - light_BCHW, out=light_BCHW)
    _clamp_(light_BCHW, range_B2)


def _clamp_(light_BCHW: Tensor, range_B2: Tensor | None) -> None:
    if range_B2 is None:
        return
    if range_B2.device.type == "cpu" and bool((range_B2 == _BLACK_TO_WHITE).all()):
        light_BCHW.clamp_(0, 1)
        return
    low_B111, high_B111 = range_B2[:, :, None, None, None].unbind(1)
    torch.maximum(light_BCHW, low_B111, out=light_BCHW)
    torch.minimum(light_BCHW, high_B111, out=light_BCHW)


def _where_(chosen_B: Tensor, change_: Callable[..., None], light_BCHW: Tensor, *given: Any) -> None:
    """Change the chosen windows alone; a GPU changes all of them, and is not waited for.

    Args:
        given: further arguments of the change; tensors are of all windows.
    """
    if chosen_B.device.type == "cpu" and not bool(chosen_B.any()):
        return
    if chosen_B.device.type == "cpu" and bool(chosen_B.all()):
        change_(light_BCHW, *given)
        return
    if chosen_B.device.type == "cpu":
        some_B = chosen_B.nonzero()[:, 0]
        changed_BCHW = light_BCHW.index_select(0, some_B)  # by rows: four times as fast as an index
        change_(changed_BCHW, *(value[some_B] if isinstance(value, Tensor) else value for value in given))
        light_BCHW.index_copy_(0, some_B, changed_BCHW)
        return
    changed_BCHW = light_BCHW.clone()
    change_(changed_BCHW, *given)
    torch.where(chosen_B[:, None, None, None], changed_BCHW, light_BCHW, out=light_BCHW)
