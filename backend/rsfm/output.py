"""An output kind says how results are stored as a file; its twin in the plugin's `layers/` says how it looks.

A new kind is these two files.
"""

from typing import ClassVar, Literal

Resampling = Literal["nearest", "mode", "average"]


class RasterKind:
    """How a kind of raster is stored.

    Attributes:
        name: the module's name.
        dtype: numpy's name of the data type.
        nodata: what invalid pixels hold.
        scale: what a stored number is multiplied with to be the value; software that reads the file does it.
        overviews: how pyramids are made.
        predictor: of DEFLATE: 1, which is none, for classes, 2 for other integers, 3 for floats.
        bits: of a number in the file, where they are fewer than its type has.
    """

    name: ClassVar[str]
    dtype: ClassVar[str]
    nodata: ClassVar[float]
    scale: ClassVar[float] = 1.0
    overviews: ClassVar[Resampling]
    predictor: ClassVar[int]
    bits: ClassVar[int | None] = None


class VectorKind:
    """How a kind of shapes is stored.

    Attributes:
        name: the module's name.
        fields: names of the attributes, in order.
    """

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
