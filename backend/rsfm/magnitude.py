"""A magnitude says how much two dates differ, place by place and without labels. Members of `magnitudes/`.

What is global is measured once, over the whole overlap; then strips of any area are computed, and an area gives the
crop of the whole. Swapping two dates on one grid changes nothing. None of them is a probability.

Shape letters: H rows, W columns of cells, N cells of the sample.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np

from rsfm.inference_config import TilingConfig
from rsfm.raster.grid import Window
from rsfm.raster.pair import Pair
from rsfm.raster.pair_pixels import Finish
from rsfm.raster.pair_sample import PairSample


class Scene(NamedTuple):
    """What magnitudes are measured on.

    Attributes:
        model: file of an encoder, for members that read one.
        level: "early" or "late", which of the encoder's feature maps counts.
        device: the encoder runs on.
        check: lets the user end the work; called often.
    """

    pair: Pair
    model: str | None = None
    level: str = "early"
    device: str = "cpu"
    tiling: TilingConfig = TilingConfig()
    check: Callable[[], None] = lambda: None


class Magnitude(ABC):
    """A measured magnitude.

    Attributes:
        name: the module's name.
        title: what its layer is called.
        reads_encoder: it needs `Scene.model`.
        has_histogram: its values fall into two groups, so that a histogram can tell where to cut.
        stride: pixels of a cell of its result.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reads_encoder: ClassVar[bool] = False
    has_histogram: ClassVar[bool] = True
    stride: int = 1

    @classmethod
    @abstractmethod
    def fit(cls, scene: Scene, sample: PairSample) -> tuple["Magnitude", np.ndarray]:
        """Measure what holds for the whole overlap.

        Returns:
            The magnitude, and values_N: what it is in a sample of the overlap, float32.
        """

    @abstractmethod
    def write(self, scene: Scene, window: Window, finish: Finish) -> None:
        """Hand over magnitude_HW, float32, and valid_HW in strips of full width, from top to bottom.

        They cover `window.cells(self.stride)`; invalid cells hold anything. Whoever takes them may keep them.
        """
