"""Classes of a segmentation: 1 is the first class."""

from rsfm.output import RasterKind


class Classes(RasterKind):
    name = "classes"
    dtype = "uint8"
    nodata = 255
    overviews = "mode"
    predictor = 1
