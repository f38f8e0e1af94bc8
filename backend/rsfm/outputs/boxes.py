"""Objects that were found: a box along the raster's grid, its class, score, size and centre."""

from rsfm.output import VectorKind


class Boxes(VectorKind):
    name = "boxes"
    fields = ("class", "name", "score", "width_m", "height_m", "x", "y")
