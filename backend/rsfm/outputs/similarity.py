"""How alike places are to those that were clicked: a cosine, from -1 to 1."""

from rsfm.output import RasterKind


class Similarity(RasterKind):
    name = "similarity"
    dtype = "float32"
    nodata = float("nan")
    overviews = "average"
    predictor = 3
