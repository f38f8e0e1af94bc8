"""Where two dates differ: 1 changed, 0 not."""

from rsfm.output import RasterKind


class Change(RasterKind):
    name = "change"
    dtype = "uint8"
    nodata = 255
    overviews = "mode"
    predictor = 1
