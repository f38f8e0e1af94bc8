import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.raster.threshold import automatic_threshold, otsu, top_share
from skimage.filters import threshold_otsu


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.6), distance=st.floats(3, 50))
def test_otsu_cuts_where_the_reference_does(seed, share, distance):
    random = np.random.default_rng(seed)
    values = np.concatenate([random.gamma(2, 1, 3000), random.normal(distance, 1, int(3000 * share))])
    width = np.ptp(values) / 4096
    assert otsu(values) == pytest.approx(threshold_otsu(values, nbins=4096), abs=2 * width)


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
def test_otsu_follows_the_unit_of_the_values(scale, offset):
    values = np.random.default_rng(0).gamma(2, 1, 2000)
    assert otsu(values * scale + offset) == pytest.approx(otsu(values) * scale + offset, rel=1e-2, abs=1e-2 * scale)


def test_otsu_of_two_values_lies_between_them_and_of_one_is_that_one():
    assert 1 <= otsu(np.array([1.0, 1, 1, 9, 9])) < 9
    assert otsu(np.full(5, 3.0)) == 3


def test_the_automatic_threshold_is_a_quarter_above_otsu():
    values = np.random.default_rng(1).gamma(2, 1, 2000)
    assert automatic_threshold(values) == pytest.approx(1.25 * otsu(values))


@pytest.mark.parametrize("percent", [0.1, 5, 50])
def test_the_share_that_is_asked_for_lies_above(percent):
    values = np.random.default_rng(2).random(100_000)
    assert (values > top_share(values, percent)).mean() * 100 == pytest.approx(percent, abs=0.01)
