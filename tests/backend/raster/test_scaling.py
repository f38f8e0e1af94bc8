import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsfm.raster.collection import Band, Entry
from rsfm.raster.scaling import radar_bands, to_units


def entry(*names, **fields):
    return Entry(path="x.tif", bands=tuple(Band(number=i + 1, name=name) for i, name in enumerate(names)), **fields)


def everywhere(pixels):
    return np.ones(pixels.shape[-2:], bool)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_an_entry_without_scaling_changes_no_bit(dtype):
    pixels = np.random.default_rng(0).integers(0, 200, (3, 20, 30)).astype(dtype)
    found, valid = to_units(pixels, everywhere(pixels), entry("B2", "B3", "B4"))
    assert found.dtype == np.float32
    assert valid.all()
    np.testing.assert_array_equal(found, pixels.astype(np.float32))


def test_pixels_given_are_left_as_they_were():
    pixels = np.random.default_rng(0).uniform(0, 9, (2, 8, 8)).astype(np.float32)
    before = pixels.copy()
    to_units(pixels, everywhere(pixels), entry("VV", "VH", nodata=0))
    to_units(pixels, everywhere(pixels), entry("a", "b", scale=2, offset=-1))
    np.testing.assert_array_equal(pixels, before)


def test_sentinel_2_offset_is_applied_to_valid_pixels_only():
    pixels = np.array([[[0, 1, 1000, 11000]]], np.uint16)
    found, valid = to_units(pixels, everywhere(pixels), entry("B4", nodata=0, offset=-1000))
    assert found.tolist() == [[[0, -999, 0, 10000]]]
    assert valid.tolist() == [[False, True, True, True]]


@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]),
    scale=st.sampled_from([1, 2.75e-5, 0.0001, 3, -2]),
    offset=st.sampled_from([0, -1000, -0.2, 273.15]),
    seed=st.integers(0, 99),
)
def test_units_are_those_of_float64(dtype, scale, offset, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 5, 7)).astype(dtype)
    found, valid = to_units(pixels, everywhere(pixels), entry("a", "b", scale=scale, offset=offset))
    expected = pixels.astype(np.float64) * scale + offset
    assert valid.all()
    tolerance = 2e-7 * (np.abs(pixels * float(scale)).max() + abs(offset))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_linear_radar_becomes_decibels_and_what_has_no_logarithm_is_invalid(dtype):
    pixels = np.array([[[1, 10, 100, 0]], [[0, 1, 1, 1]], [[30, 31, 32, 33]]], dtype)
    found, valid = to_units(pixels, everywhere(pixels), entry("VV", "VH", "angle"))
    assert valid.tolist() == [[False, True, True, False]]
    expected = [[[0, 10, 20, 0]], [[0, 0, 0, 0]], [[0, 31, 32, 0]]]
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6)


def test_decibels_stay_decibels():
    pixels = np.array([[[-12.5, 0, 3]]], np.float32)
    for told in (entry("VV", decibel=True), entry("VV_dB"), entry("Sigma0_VV_db")):
        found, valid = to_units(pixels, everywhere(pixels), told)
        np.testing.assert_array_equal(found, pixels)
        assert valid.all()


def test_radar_is_known_by_the_words_of_a_name():
    names = ("VV", "Sigma0_VH", "hh", "gamma0-HV", "VVV", "B4", "VH dB", "")
    assert radar_bands(entry(*names)) == [0, 1, 2, 3]
    assert radar_bands(entry(*names), ["B4", "vv"]) == [1]


def test_nodata_of_the_table_counts_in_any_band_and_may_lie_outside_the_type():
    pixels = np.array([[[5, 7, 9]], [[7, 8, 9]]], np.uint8)
    found, valid = to_units(pixels, everywhere(pixels), entry("a", "b", nodata=7))
    assert valid.tolist() == [[False, False, True]]
    assert found.tolist() == [[[0, 0, 9]], [[0, 0, 9]]]
    for nodata in (-9999, 7.5, float("nan"), 1e39):
        assert to_units(pixels, everywhere(pixels), entry("a", "b", nodata=nodata))[1].all()


def test_a_batch_is_scaled_as_its_windows_are():
    pixels = np.random.default_rng(0).integers(0, 9, (4, 2, 6, 5)).astype(np.uint16)
    valid = np.random.default_rng(1).random((4, 6, 5)) > 0.2
    told = entry("VV", "angle", nodata=3, scale=0.5, offset=-0.1)
    found, usable = to_units(pixels, valid, told)
    for window in range(4):
        one, one_valid = to_units(pixels[window], valid[window], told)
        np.testing.assert_array_equal(found[window], one)
        np.testing.assert_array_equal(usable[window], one_valid)


def test_too_large_for_float32_and_not_finite_are_invalid():
    pixels = np.array([[[1e300, np.nan, np.inf, 4]]])
    found, valid = to_units(pixels, everywhere(pixels), entry("a"))
    assert valid.tolist() == [[False, False, False, True]]
    assert found.tolist() == [[[0, 0, 0, 4]]]
