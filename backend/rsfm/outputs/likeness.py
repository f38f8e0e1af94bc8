"""How much changes are like those that were marked: below 1, and 1 more for each further kind.

The whole part is the number of the most likely kind, from 0; the rest is the probability of a change of any kind, for
marks of this pair. Probabilities are as balanced as the marks are: the slider's share of the area decides, not 0.5.
"""

from rsfm.output import RasterKind


class Likeness(RasterKind):
    name = "likeness"
    dtype = "float32"
    nodata = float("nan")
    overviews = "nearest"
    predictor = 3
