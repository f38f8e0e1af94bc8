"""Places to label next, numbered by what they would teach: how uncertain they are, and between which classes."""

from rsfm.output import VectorKind


class Spots(VectorKind):
    name = "spots"
    fields = ("number", "uncertainty", "class", "second")
