import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.raster.band_measure import measure_counts, measure_pixels, sampling_errors

KINDS = ["constant", "two values", "uniform", "normal", "extremes"]


def draw(kind, dtype, size, seed):
    random, limits = np.random.default_rng(seed), np.iinfo(dtype)
    if kind == "constant":
        return np.full(size, random.integers(limits.min, limits.max, endpoint=True), dtype)
    if kind == "two values":
        return random.choice(np.array([limits.min, limits.max], dtype), size, p=[0.995, 0.005])
    if kind == "normal":
        middle = (limits.max + limits.min) / 2
        return random.normal(middle, 20, size).clip(limits.min, limits.max).astype(dtype)
    values = random.integers(limits.min, limits.max, size, endpoint=True).astype(dtype)
    return np.where(random.random(size) < 0.5, limits.max, values).astype(dtype) if kind == "extremes" else values


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16"]),
    size=st.integers(1, 3000),
    seed=st.integers(0, 10**6),
)
def test_counts_give_what_numpy_gives_on_the_pixels(kind, dtype, size, seed):
    pixels = draw(kind, dtype, size, seed).astype(np.float64)
    values, counts = np.unique(pixels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(values))
    found = measure_counts(values[order], counts[order])
    first, last = np.percentile(pixels, (1, 99))
    assert (found.first, found.last) == pytest.approx((first, last), rel=1e-12)
    expected = measure_pixels(pixels)
    assert found[2:5] == pytest.approx(expected[2:5], rel=1e-9, abs=1e-9)
    assert found.std == pytest.approx(expected.std, rel=1e-6, abs=1e-9)


def test_values_that_occur_twice_in_the_table_are_added():
    once = measure_counts(np.array([1.0, 5, 9]), np.array([10, 20, 30]))
    twice = measure_counts(np.array([9.0, 1, 5, 1, 9, 7]), np.array([10, 4, 20, 6, 20, 0]))
    assert once == twice


def test_a_small_deviation_on_a_large_mean_is_kept():
    random = np.random.default_rng(0)
    pixels = (1e6 + random.normal(0, 1, 200_000)).astype(np.float32)
    values, counts = np.unique(pixels.astype(np.float64), return_counts=True)
    exact = pixels.astype(np.float64).std()
    assert measure_pixels(pixels).std == pytest.approx(exact, rel=1e-4)
    assert measure_counts(values, counts).std == pytest.approx(measure_pixels(pixels).std, rel=1e-6)


def test_the_error_of_independent_pixels_is_the_textbook_one():
    random = np.random.default_rng(0)
    pixels, sizes = random.normal(50, 10, 400_000), np.full(4000, 100)
    errors = sampling_errors(pixels, sizes, measure_pixels(pixels), unseen=1.0)
    assert errors.mean == pytest.approx(10 / np.sqrt(400_000), rel=0.1)
    assert errors.std == pytest.approx(10 / np.sqrt(2 * 400_000), rel=0.1)
    textbook = np.sqrt(0.01 * 0.99 / 400_000) / (np.exp(-(2.326**2) / 2) / np.sqrt(2 * np.pi) / 10)
    assert errors.low == pytest.approx(2 * textbook, rel=0.25)
    half = sampling_errors(pixels, sizes, measure_pixels(pixels), unseen=0.5)
    assert half.mean == pytest.approx(errors.mean / np.sqrt(2), rel=1e-2)
    assert tuple(sampling_errors(pixels, sizes, measure_pixels(pixels), unseen=0.0)) == (0, 0, 0, 0)


def test_blocks_that_differ_make_the_error_larger_than_independent_pixels_would():
    random = np.random.default_rng(0)
    level = np.repeat(random.normal(0, 10, 200), 500)
    pixels = level + random.normal(0, 1, level.size)
    errors = sampling_errors(pixels, np.full(200, 500), measure_pixels(pixels), unseen=1.0)
    assert errors.mean == pytest.approx(10 / np.sqrt(200), rel=0.2)


def test_empty_blocks_and_a_constant_band_have_an_error_too():
    pixels = np.full(300, 7.0)
    sizes = np.array([0, 100, 0, 0, 200, 0])
    assert tuple(sampling_errors(pixels, sizes, measure_pixels(pixels), unseen=0.9)) == (0, 0, 0, 0)
    pixels[0] = 9
    found = measure_pixels(pixels)
    assert sampling_errors(pixels, sizes, found, unseen=0.9).low >= found.high - found.low
