"""Confidence of a segmentation: the largest softmax value, from 0 to 1."""

from rsfm.output import RasterKind


class Confidence(RasterKind):
    name = "confidence"
    dtype = "float32"
    nodata = float("nan")
    overviews = "average"
    predictor = 3
