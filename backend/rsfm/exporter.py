"""Writes models into files that other programs read. A member of `exporters/` knows one kind of file.

Shape letters: B batch, C bands, S side of a tile.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rsfm.model_file import Model
from rsfm.portable import Portable
from rsfm.raster.tiling import Plan


class Subject(NamedTuple):
    """What is exported, and for what use.

    Attributes:
        portable: the graph, from pixels in the unit that the model reads.
        band_names: of these pixels, in order.
        plan: how a raster is cut for it.
        gsd: metres per pixel; 0 where that is not known.
        scale, offset: stored pixels become those units by stored * scale + offset; None where it takes more.
    """

    model: Model
    portable: Portable
    band_names: tuple[str, ...]
    plan: Plan
    gsd: float
    scale: float | None = 1.0
    offset: float | None = 0.0

    @property
    def overlap(self) -> int:
        """Percent of a tile's side that neighbours must share."""
        shared = self.plan.core - self.plan.step if self.plan.shared else 2 * self.plan.halo
        return min(-(-100 * shared // self.plan.side), 90)


class Exporter(ABC):
    """A kind of file.

    Attributes:
        name: the module's name.
        title: what people call it.
        suffix: of the file, with its dot.
        whole: it holds all of the model, from pixels to classes; else the encoder's weights alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    whole: ClassVar[bool]

    def side(self, subject: Subject) -> int:
        """Return the side of the tiles that the file is made for, in pixels."""
        return subject.plan.side

    @abstractmethod
    def write(self, subject: Subject, path: Path) -> dict[str, Any]:
        """Write the file.

        Returns:
            What its reader must know beyond what the model's card says; JSON can hold it.

        Raises:
            UserError: this kind of file cannot hold this model.
        """

    @abstractmethod
    def answers(self, subject: Subject, path: Path, pixels_BCSS: Tensor) -> dict[str, Tensor]:
        """Read the file as another program would, and return what it makes of tiles, by the names of the outputs.

        Args:
            pixels_BCSS: in the unit that the model reads; NaN where invalid.
        """


def normalised(subject: Subject, pixels_BCSS: Tensor) -> Tensor:
    """Normalise tiles as the model does, for files that leave this to their reader."""
    valid_BSS = ~torch.isnan(pixels_BCSS).any(dim=1)
    network: Any = subject.portable.network
    result_BCSS: Tensor = network.normalisation(pixels_BCSS, valid_BSS)
    return result_BCSS
