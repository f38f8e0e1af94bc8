"""The gate of a sample: do two dates differ at all beyond one pixel of misalignment?"""

from rsfm.raster.difference import Dates, Gate, measure_gate
from rsfm.raster.pair_sample import PairSample


def gate_of(sample: PairSample) -> Gate:
    """Measure it on pixels as they are, and smoothed."""
    plain = Dates(sample.before_CN, sample.after_CN, sample.moved_before_CN, sample.moved_after_CN)
    smooth = Dates(
        sample.smooth_before_CN,
        sample.smooth_after_CN,
        sample.smooth_moved_before_CN,
        sample.smooth_moved_after_CN,
    )
    return measure_gate(plain, smooth)
