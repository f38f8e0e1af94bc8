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
        overviews: how pyramids are made.
        predictor: of DEFLATE: 1, which is none, for classes, 2 for other integers, 3 for floats.
    """

    name: ClassVar[str]
    dtype: ClassVar[str]
    nodata: ClassVar[float]
    overviews: ClassVar[Resampling]
    predictor: ClassVar[int]
