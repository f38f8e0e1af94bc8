import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.raster.difference import Dates, fit_median_difference, measure_gate
from rsfm.raster.ir_mad import CHUNK, MOST_BANDS, RIDGE, _unchanged, fit_ir_mad
from rsfm.raster.smoothing import MARGIN, smooth
from scipy.special import gammaincc


def dates(bands: int = 3, pixels: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw two dates with correlated bands, of which one pixel in ten changed."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(bands, bands))
    before = mixing @ random.normal(size=(bands, pixels)) * 20 + 100
    after = before * 1.3 + 7 + random.normal(size=before.shape)
    after[:, : pixels // 10] = before[:, : pixels // 10][::-1] + 30
    return before.astype(np.float32), after.astype(np.float32)


def slow_mad(before_CN: np.ndarray, after_CN: np.ndarray) -> np.ndarray:
    """MAD by the generalised eigenvalue problem of the paper, unweighted, for one pass."""
    from scipy.linalg import eigh

    bands = len(before_CN)
    covariance = np.cov(before_CN, after_CN, bias=True)
    xx, xy, yy = covariance[:bands, :bands], covariance[:bands, bands:], covariance[bands:, bands:]
    squared, a = eigh(xy @ np.linalg.solve(yy, xy.T), xx)
    total = np.zeros(before_CN.shape[1])
    for rho, vector in zip(np.sqrt(squared), a.T, strict=True):
        partner = np.linalg.solve(yy, xy.T @ vector) / rho
        mad = vector @ (before_CN - before_CN.mean(1, keepdims=True)) - partner @ (
            after_CN - after_CN.mean(1, keepdims=True)
        )
        total += mad**2 / (2 * (1 - rho))
    return np.asarray(np.sqrt(total))


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_one_pass_is_the_multivariate_alteration_detection_of_the_paper(bands):
    before_CN, after_CN = dates(bands)
    found = fit_ir_mad(before_CN, after_CN, passes=1).magnitude(before_CN, after_CN)
    np.testing.assert_allclose(found, slow_mad(before_CN.astype(float), after_CN.astype(float)), rtol=2e-3, atol=2e-3)


def slow_weighted_mad(before_CN: np.ndarray, after_CN: np.ndarray, passes: int) -> np.ndarray:
    """IR-MAD by the generalised eigenvalue problem with the same ridge, in float64, all pixels at once."""
    from scipy.linalg import eigh

    bands, weights_N = len(before_CN), np.ones(before_CN.shape[1])
    for _ in range(passes):
        covariance = np.cov(before_CN, after_CN, bias=True, aweights=weights_N)
        parts = slice(bands), slice(bands, None)
        for part in parts:  # the ridge is of bands of variance 1
            covariance[part, part] += RIDGE * np.diag(np.diag(covariance[part, part]))
        xx, xy, yy = (covariance[one, other] for one, other in ((parts[0],) * 2, parts, (parts[1],) * 2))
        squared, a = eigh(xy @ np.linalg.solve(yy, xy.T), xx)
        total = np.zeros(before_CN.shape[1])
        for rho, vector in zip(np.sqrt(squared), a.T, strict=True):
            partner = np.linalg.solve(yy, xy.T @ vector) / rho
            centred = [dates_CN - np.average(dates_CN, 1, weights_N)[:, None] for dates_CN in (before_CN, after_CN)]
            total += (vector @ centred[0] - partner @ centred[1]) ** 2 / (2 * (1 - rho))
        weights_N = gammaincc(bands / 2, total / 2)
    return np.asarray(np.sqrt(total))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_ten_passes_are_those_of_a_slow_version_in_float64(bands):
    before_CN, after_CN = dates(bands, CHUNK + 999)
    found = fit_ir_mad(before_CN, after_CN).magnitude(before_CN, after_CN)
    slow = slow_weighted_mad(before_CN.astype(float), after_CN.astype(float), 10)
    np.testing.assert_allclose(found, slow, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7, 12, 100, 237, MOST_BANDS, MOST_BANDS + 1])
def test_weights_are_the_upper_tail_of_the_chi_square_law_to_the_last_bit_of_float32(bands):
    magnitude_N = np.concatenate([np.linspace(0, 60, 20_001), [1e3, 1e6, 1e12]]).astype(np.float32)
    expected_N = gammaincc(bands / 2, np.square(magnitude_N).astype(np.float64) / 2)
    found_N = _unchanged(magnitude_N, bands)
    np.testing.assert_allclose(found_N, expected_N, rtol=2.0**-25, atol=1e-45)
    assert (np.diff(found_N) <= 1e-12).all()


@pytest.mark.parametrize("bands", [1, 3, 9])
def test_smoothing_what_is_left_over_is_smoothing_the_dates(bands):
    before_CN, after_CN = dates(bands, 90 * 70)
    fitted = fit_ir_mad(before_CN, after_CN)
    valid_HW = np.ones((90, 70), bool)
    valid_HW[20:30, 40:60] = valid_HW[:MARGIN] = valid_HW[:, :MARGIN] = False
    before_CHW, after_CHW = (pixels_CN.reshape(bands, 90, 70) * valid_HW for pixels_CN in (before_CN, after_CN))
    inside = slice(MARGIN, 90 - MARGIN, 1), slice(MARGIN, 70 - MARGIN, 1)
    expected_RS = fitted.magnitude(smooth(before_CHW, valid_HW, *inside), smooth(after_CHW, valid_HW, *inside))
    found_RS = fitted.magnitude_of_smooth(before_CHW, after_CHW, valid_HW)
    np.testing.assert_allclose(found_RS[valid_HW[inside]], expected_RS[valid_HW[inside]], rtol=1e-3, atol=1e-3)
    rows, columns = slice(30, 30 + 2 * MARGIN + 7), slice(11, 11 + 2 * MARGIN + 3)
    crop = before_CHW[:, rows, columns], after_CHW[:, rows, columns], valid_HW[rows, columns]
    found_part = fitted.magnitude_of_smooth(*crop)
    np.testing.assert_array_equal(found_part, found_RS[30:37, 11:14])


def test_reweighting_finds_the_changed_pixels_that_one_pass_mixes_with_the_others():
    before_CN, after_CN = dates()
    changed_N = np.arange(before_CN.shape[1]) < 400
    gaps = []
    for passes in (1, 10):
        magnitude_N = fit_ir_mad(before_CN, after_CN, passes).magnitude(before_CN, after_CN)
        gaps.append(np.median(magnitude_N[changed_N]) / np.percentile(magnitude_N[~changed_N], 95))
    assert gaps[1] > 3 * gaps[0]


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.01, 1000), offset=st.floats(-1e4, 1e4), bands=st.integers(1, 5), seed=st.integers(0, 1000))
def test_gain_and_offset_of_a_date_change_nothing(gain, offset, bands, seed):
    before_CN, after_CN = dates(bands, 500, seed)
    plain = fit_ir_mad(before_CN, after_CN).magnitude(before_CN, after_CN)
    other_CN = (after_CN * gain).astype(np.float32)
    scaled = fit_ir_mad(before_CN, other_CN).magnitude(before_CN, other_CN)
    np.testing.assert_allclose(scaled, plain, rtol=0.02, atol=0.02 * np.median(plain) + 1e-3)


@pytest.mark.parametrize("fit", [fit_ir_mad, fit_median_difference])
def test_swapping_the_dates_keeps_the_magnitude(fit):
    before_CN, after_CN = dates()
    one, other = fit(before_CN, after_CN), fit(after_CN, before_CN)
    np.testing.assert_allclose(one.magnitude(before_CN, after_CN), other.magnitude(after_CN, before_CN), rtol=1e-4)


def test_one_date_twice_has_no_difference():
    before_CN, _ = dates()
    assert fit_ir_mad(before_CN, before_CN).magnitude(before_CN, before_CN).max() < 0.1
    assert fit_median_difference(before_CN, before_CN).magnitude(before_CN, before_CN).max() == 0


@pytest.mark.parametrize("bands", [4, 9, 33])
def test_a_pixel_has_the_same_magnitude_alone_and_in_a_raster(bands):
    before_CN, after_CN = dates(bands, 6000)
    fitted = fit_ir_mad(before_CN, after_CN)
    flat_N = fitted.magnitude(before_CN, after_CN)
    raster_HW = fitted.magnitude(before_CN.reshape(bands, 60, 100), after_CN.reshape(bands, 60, 100))
    np.testing.assert_array_equal(raster_HW.ravel(), flat_N)
    for part in (slice(77, 79), slice(78, 79), slice(0, 17), slice(5999, 6000)):
        np.testing.assert_array_equal(fitted.magnitude(before_CN[:, part], after_CN[:, part]), flat_N[part])


def test_constant_and_repeated_bands_give_finite_magnitudes():
    before_CN, after_CN = dates(2)
    constant_N = np.full(before_CN.shape[1], 5, np.float32)
    before_CN, after_CN = (
        np.stack([*before_CN, before_CN[0], constant_N]),
        np.stack([*after_CN, after_CN[0], constant_N]),
    )
    magnitude_N = fit_ir_mad(before_CN, after_CN).magnitude(before_CN, after_CN)
    assert np.isfinite(magnitude_N).all()
    assert np.median(magnitude_N[:400]) > 3 * np.median(magnitude_N[400:])


def test_large_values_keep_their_precision_over_several_chunks():
    before_CN, after_CN = dates(2, CHUNK + 999)
    plain = fit_ir_mad(before_CN, after_CN, 2).correlations_C
    lifted = fit_ir_mad(before_CN + np.float32(30000), after_CN + np.float32(30000), 2).correlations_C
    np.testing.assert_allclose(lifted, plain, atol=1e-4)


def test_medians_are_removed_before_the_plain_difference():
    before_CN = np.array([[1, 2, 3, 4, 5]], np.float32)
    after_CN = np.array([[11, 12, 13, 14, 25]], np.float32)
    np.testing.assert_allclose(
        fit_median_difference(before_CN, after_CN).magnitude(before_CN, after_CN), [0, 0, 0, 0, 10]
    )


@pytest.mark.parametrize(("share", "verdict"), [(0.0, "none"), (0.08, "weak"), (0.3, "differences")])
def test_the_gate_measures_the_share_that_a_shift_does_not_explain(share, verdict):
    random = np.random.default_rng(0)
    before_CN = random.normal(size=(2, 10_000)).astype(np.float32)
    after_CN = before_CN.copy()
    after_CN[:, : int(share * 10_000)] += np.array([[5], [-5]], np.float32)
    shift_CN = random.normal(size=before_CN.shape).astype(np.float32)
    shift_CN[:, ::7] = np.nan
    dates = Dates(before_CN, after_CN, before_CN + shift_CN, after_CN + shift_CN)
    gate = measure_gate(dates, dates._replace(after_CN=before_CN))
    assert gate.verdict == verdict
    assert gate.share == pytest.approx(share, abs=0.05)
