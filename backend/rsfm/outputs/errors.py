"""Where a map of classes is right and where it is wrong; nodata is what no label tells."""

from rsfm.output import RasterKind

RIGHT, WRONG = 1, 2


class Errors(RasterKind):
    name = "errors"
    dtype = "uint8"
    nodata = 255
    overviews = "mode"
    predictor = 1
