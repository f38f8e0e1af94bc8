"""A method teaches an encoder without labels. A member of `methods/` is one file that reads like the paper's algorithm.

It knows nothing of files, optimizers, devices, schedules of the learning rate or progress bars.
Shape letters: B batch, T dates, C bands, H rows, W columns.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from rsfm.encoder import Encoder
from rsfm.job import Preset
from rsfm.params import Config


class MethodConfig(Config):
    """Base of the methods' configs; each has a field `name: Literal[...]`."""


class Dates(NamedTuple):
    """The same windows at several dates, on one grid; the first date is that of the sample's own pixels.

    Attributes:
        pixels_BTCHW: as a sample's pixels.
        valid_BTHW: a window that has fewer dates than others is invalid as a whole at those it lacks.
        time_BT3: int64, UTC: year - 2002, month - 1, hour.
        place_B2: latitude and longitude of each window's centre, in degrees.
    """

    pixels_BTCHW: Tensor
    valid_BTHW: Tensor
    time_BT3: Tensor
    place_B2: Tensor


class Sample(NamedTuple):
    """A batch of windows on the device.

    Attributes:
        pixels_BCHW: float, normalised by the collection's statistics, 0 where invalid.
        valid_BHW: bool, False for nodata and outside the raster.
        gsd_B: metres per pixel of each window.
        dates: None where only one date was read.
    """

    pixels_BCHW: Tensor
    valid_BHW: Tensor
    gsd_B: Tensor
    dates: Dates | None = None


class Loss(NamedTuple):
    """What is minimised, its parts for the chart, and sentences to tell the user once.

    Attributes:
        parts: single numbers without gradient; left on the device, which a step must not wait for.
    """

    total: Tensor
    parts: dict[str, Tensor]
    warnings: tuple[str, ...] = ()


class Picture(NamedTuple):
    """What a method makes of windows, for a person to look at; B, T, C, H and W are those of the windows shown.

    Attributes:
        title: such as "Rebuilt".
        pixels_BTCHW: scaled as a sample's pixels; one date where a method knows one only.
        shown_BTCHW: bool, False where nothing is shown, such as hidden patches.
    """

    title: str
    pixels_BTCHW: Tensor
    shown_BTCHW: Tensor


class Method(nn.Module):
    """A way to pretrain.

    Everything a resumed run needs is in `state_dict()`: parameters and buffers, queues and averages included.

    Attributes:
        name: the module's name.
        title: what the form calls it.
        Config: its parameters; the first line of its docstring says when to use it.
        undecayed: names of parameters that weight decay leaves alone, besides biases and norms.
        presets: values of the whole pretrain config that make a recipe, the default first.
        encoder: what is kept.
        dates: of a window that a step looks at; above 1, a sample has them where the rasters do.
        one_date: why rasters of one date cannot be learned from, as a sentence; empty where they can.
        timed: when the dates were is learned from, so that it must be known.
        placed: where windows lie is learned from, so that `prepare` is told.
        indivisible: why a step's windows must be computed at once, as a sentence; empty where they need not.
        least: windows that can be computed at once.
        parts: in which a step's windows are computed, one call of `loss` each.
        averages: names of buffers that a step moves by a mean over its windows; each part moves them from the same
            start, and the mean of that is taken.
        once: names of buffers that tell what a step has done already, so that trying it again does not do it twice.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Config: ClassVar[type[MethodConfig]]
    undecayed: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[tuple[Preset, ...]] = ()
    encoder: Encoder
    dates: int = 1
    one_date: str = ""
    timed: bool = False
    placed: bool = False
    indivisible: str = ""
    least: int = 1
    parts: int = 1
    averages: ClassVar[tuple[str, ...]] = ()
    once: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __init__(self, config: Any, encoder: Encoder) -> None:
        super().__init__()

    def tell_bands(self, names: Sequence[str]) -> None:
        """Learn what the bands are called, before the first step; a resumed run does it again."""

    def prepare(self, places_N2: Tensor) -> tuple[str, ...]:
        """Look at the places that will be learned from, before the first step; a resumed run does it again.

        Args:
            places_N2: latitude and longitude of windows' centres in degrees, a place of several dates once.

        Returns:
            What the user should know, in sentences.
        """
        return ()

    def kept(self) -> dict[str, Tensor]:
        """Return what the model file keeps of the method, beside the encoder."""
        return {}

    def pictures(self, sample: Sample) -> list[Picture]:
        """Show what the method hides and rebuilds of a few windows: first the windows; empty if it rebuilds none."""
        return []

    @abstractmethod
    def loss(self, sample: Sample, progress: float) -> Loss:
        """Draw views of the windows and compute the loss; `progress` goes from 0 to 1 over the whole training."""

    def after_step(self, progress: float) -> None:
        """Do what follows an optimizer step, such as a teacher's moving average."""
