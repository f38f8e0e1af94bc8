"""How much two dates differ; never a probability."""

from rsfm.output import RasterKind


class Magnitude(RasterKind):
    name = "magnitude"
    dtype = "float32"
    nodata = float("nan")
    overviews = "average"
    predictor = 3
