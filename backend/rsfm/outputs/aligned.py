"""A date on the grid of another one, in its own unit."""

from rsfm.output import RasterKind


class Aligned(RasterKind):
    name = "aligned"
    dtype = "float32"
    nodata = float("nan")
    overviews = "average"
    predictor = 3
