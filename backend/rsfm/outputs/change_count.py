"""How often a place changed in a series of dates."""

from rsfm.output import RasterKind


class ChangeCount(RasterKind):
    name = "change_count"
    dtype = "uint16"
    nodata = 65535
    overviews = "mode"
    predictor = 2
