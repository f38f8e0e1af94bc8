"""Principal components of an encoder's features, or the features themselves."""

from rsfm.output import RasterKind


class Embedding(RasterKind):
    name = "embedding"
    dtype = "float32"
    nodata = float("nan")
    overviews = "average"
    predictor = 3
