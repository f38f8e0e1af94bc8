"""Probabilities of the classes, a band each: softmax values from 0 to 1, in steps of 0.004."""

from rsfm.output import RasterKind


class Probability(RasterKind):
    name = "probability"
    dtype = "uint8"
    nodata = 255
    scale = 0.004
    overviews = "average"
    predictor = 2
