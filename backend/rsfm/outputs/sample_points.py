"""Points drawn at random in each class of a map, whose true class is to be looked up."""

from rsfm.output import VectorKind


class SamplePoints(VectorKind):
    name = "sample_points"
    fields = ("number", "class", "mapped")
