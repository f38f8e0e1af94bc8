"""When a place first changed: days since 1899-12-30, as spreadsheets count them; 0 where it did not."""

from rsfm.output import RasterKind


class FirstChange(RasterKind):
    name = "first_change"
    dtype = "int32"
    nodata = -1
    overviews = "mode"
    predictor = 2
