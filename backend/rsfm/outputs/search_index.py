"""Features of length 1, one band each, among which similar places are found."""

from rsfm.output import RasterKind


class SearchIndex(RasterKind):
    name = "search_index"
    dtype = "float32"
    nodata = float("nan")
    overviews = "average"
    predictor = 3
    bits = 16
