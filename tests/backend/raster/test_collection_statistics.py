import resource
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rsfm.errors import UserError
from rsfm.raster import collection_statistics as module
from rsfm.raster.collection import Band, Entry
from rsfm.raster.collection_statistics import Budget, collection_statistics
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.scaling import to_units
from rsfm.raster.statistics import band_statistics
from scipy import ndimage

NUMBERS = ("mean", "std", "low", "high")
DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"]


def whole(entries):
    return [Window(0, 0, entry.height, entry.width) for entry in entries]


def measure(entries, seed=0, bands=(), **budget):
    return collection_statistics(entries, whole(entries), seed, bands, budget=Budget(**budget))


def write(path, pixels_CHW, **profile):
    count, height, width = pixels_CHW.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels_CHW.dtype}
    place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5100000, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **profile) as target:
        target.write(pixels_CHW)
    return path


def entry(path, pixels_CHW, names=(), **fields):
    bands = tuple(Band(number=number + 1, name=name) for number, name in enumerate(names))
    return Entry(path=str(path), height=pixels_CHW.shape[1], width=pixels_CHW.shape[2], bands=bands, **fields)


def truth(valid_CN):
    """Do slowly in float64 what the statistics are said to be."""
    first, last = np.percentile(valid_CN, (1, 99), axis=1)
    nearly = first == last
    first, last = np.where(nearly, valid_CN.min(1), first), np.where(nearly, valid_CN.max(1), last)
    low, high = first - (last - first) / 2, last + (last - first) / 2
    clipped_CN = np.clip(valid_CN, low[:, None], high[:, None])
    std = clipped_CN.std(1)
    return {"mean": clipped_CN.mean(1), "std": np.where(std > 0, std, 1), "low": low, "high": high}


def assert_exact(found, valid_CN):
    assert found.measured == "exact"
    assert found.count == (valid_CN.shape[1],) * len(valid_CN)
    size = np.abs(valid_CN).max(1)
    for name, expected in truth(valid_CN).items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6, atol=1e-6 * size.max(), err_msg=name)
        assert getattr(found, f"{name}_error") == (0.0,) * len(valid_CN)


def textured(side, seed=0, bands=2):
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(bands, side, side)), (0, side / 40, side / 40))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return 1000 * np.exp(0.4 * fields) + random.normal(0, 30, fields.shape)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    rasters=st.integers(1, 4),
    bands=st.integers(1, 3),
    invalid=st.sampled_from([0, 0.1, 0.9]),
    layout=st.sampled_from([{}, {"tiled": True, "blockxsize": 16, "blockysize": 32}, {"interleave": "pixel"}]),
    cloudy=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_exact_statistics_are_those_of_numpy(dtype, rasters, bands, invalid, layout, cloudy, seed):
    random = np.random.default_rng(seed)
    valid, entries = [], []
    with TemporaryDirectory() as folder:
        for number in range(rasters):
            height, width = random.integers(1, 90, 2)
            pixels = random.integers(1, 120, (bands, height, width)).astype(dtype)
            usable = random.random((height, width)) >= invalid
            usable[0, 0] = True
            hole = np.nan if dtype.startswith("float") and number % 2 else 0
            pixels[random.integers(bands)][~usable] = hole
            scaling = {"scale": float(random.choice([1, 0.5])), "offset": float(random.choice([0, -1000]))}
            path = write(Path(folder) / f"{number}.tif", pixels, nodata=0, **layout)
            clouds = random.integers(0, 4, (1, height, width)).astype(np.uint8)
            clouds[0, 0, 0] = 0
            if cloudy:
                scaling |= {"mask": str(write(Path(folder) / f"clouds{number}.tif", clouds)), "masked": (2, 3)}
                usable &= clouds[0] < 2
            entries.append(entry(path, pixels, **scaling))
            valid.append(pixels[:, usable].astype(np.float64) * scaling["scale"] + scaling["offset"])
        assert_exact(measure(entries), np.concatenate(valid, axis=1))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_truth_lies_within_three_errors_whatever_the_seed(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(module, "FEWEST_PIXELS", 32 * 32)
    pixels = textured(768).astype(dtype)
    pixels[:, 100:300, 400:] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0, tiled=True, blockxsize=32, blockysize=32)
    entries = [entry(path, pixels)]
    exact = truth(pixels[:, pixels[0] != 0].astype(np.float64))
    inside = {name: [] for name in NUMBERS}
    for seed in range(60):
        found = measure(entries, seed, counted=0, held=100_000, sample=150_000)
        assert found.measured == "sample"
        assert found.pixels == 768 * 768
        assert max(found.count) <= 50_000
        for name in NUMBERS:
            off = np.abs(np.array(getattr(found, name)) - exact[name])
            inside[name].append(off <= 3 * np.array(getattr(found, f"{name}_error")))
        assert np.all(3 * np.array(found.mean_error) < 0.4 * exact["std"])  # and the errors say something
    for name in NUMBERS:
        assert np.mean(inside[name], axis=0).min() >= 0.95, name


def test_a_sample_follows_its_seed_and_says_how_it_was_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_PIXELS", 32 * 32)
    pixels = textured(512).astype(np.float32)
    entries = [entry(write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=32, blockysize=32), pixels)]
    found = measure(entries, 3, held=100_000, sample=40_000)
    assert found == measure(entries, 3, held=100_000, sample=40_000)
    assert found != measure(entries, 4, held=100_000, sample=40_000)
    assert f"a sample of {found.count[0]:,} valid pixels of 262,144" in found.how
    assert "all 262,144 valid pixels" in measure(entries).how


def test_a_sample_of_unlike_rasters_takes_from_each_in_proportion(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_PIXELS", 16 * 16)
    entries, values = [], []
    for number, side in enumerate([64, 256, 128, 320]):
        pixels = np.full((1, side, side), 100 * (number + 1), np.float32)
        pixels += np.random.default_rng(number).normal(0, 1, pixels.shape).astype(np.float32)
        path = write(tmp_path / f"{number}.tif", pixels, tiled=True, blockxsize=16, blockysize=16)
        entries.append(entry(path, pixels))
        values.append(pixels.ravel())
    exact = np.concatenate(values).astype(np.float64)
    for seed in range(10):
        found = measure(entries, seed, held=60_000, sample=30_000)
        assert found.mean[0] == pytest.approx(exact.mean(), abs=0.04 * exact.std())
        assert abs(found.mean[0] - exact.mean()) <= 3 * found.mean_error[0]


def test_a_sample_goes_on_until_it_has_seen_valid_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEWEST_PIXELS", 16 * 16)
    pixels = np.zeros((1, 1000, 1000), np.float32)
    pixels[:, 700:730, 700:730] = 5
    path = write(tmp_path / "a.tif", pixels, nodata=0, tiled=True, blockxsize=16, blockysize=16)
    found = measure([entry(path, pixels)], held=10_000, sample=5_000)
    assert found.count == (900,)
    assert found.mean == (5,)


def test_large_means_extremes_and_constant_bands(tmp_path):
    random = np.random.default_rng(0)
    large = (1e6 + random.normal(0, 1, (1, 300, 300))).astype(np.float32)
    assert_exact(measure([entry(write(tmp_path / "l.tif", large), large)]), large.reshape(1, -1).astype(np.float64))
    ends = random.choice(np.array([0, 65535], np.uint16), (1, 200, 200))
    assert_exact(measure([entry(write(tmp_path / "e.tif", ends), ends)]), ends.reshape(1, -1).astype(np.float64))
    flat = np.full((1, 50, 50), 65535, np.uint16)
    found = measure([entry(write(tmp_path / "f.tif", flat), flat)])
    assert (found.mean, found.std, found.low, found.high) == ((65535,), (1,), (65535,), (65535,))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_radar_is_measured_in_decibels_without_its_zeros(tmp_path, dtype):
    pixels = (1000 * np.random.default_rng(0).gamma(2, 0.1, (3, 120, 130))).astype(dtype)
    pixels[0, :20] = 0
    pixels[2, 50:] = 0  # an angle may be 0
    told = entry(write(tmp_path / "s1.tif", pixels), pixels, ("VV", "VH", "angle"))
    usable = (pixels[:2] > 0).all(axis=0)
    expected = pixels[:, usable].astype(np.float64)
    expected[:2] = 10 * np.log10(expected[:2])
    assert_exact(measure([told]), expected)


@pytest.mark.parametrize("counted", [0, 2**28])
def test_statistics_are_of_the_numbers_that_scaling_gives(tmp_path, counted):
    pixels = np.random.default_rng(0).integers(0, 9000, (2, 90, 80)).astype(np.uint16)
    told = entry(write(tmp_path / "a.tif", pixels), pixels, ("VV", "B4"), nodata=77, scale=2.75e-5, offset=0.01)
    scaled, valid = to_units(pixels, np.ones((90, 80), bool), told)
    assert_exact(measure([told], counted=counted), scaled[:, valid].astype(np.float64))


def test_bands_are_found_by_name_and_missing_ones_are_said(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 99, (3, 40, 40)).astype(np.uint8)
    first = entry(write(tmp_path / "a.tif", pixels), pixels, ("red", "green", "nir"))
    second = entry(write(tmp_path / "b.tif", pixels[::-1]), pixels, ("nir", "green", "red"))
    wanted = np.concatenate([pixels[[2, 0]].reshape(2, -1)] * 2, axis=1).astype(np.float64)
    assert_exact(measure([first, second], bands=("nir", "red")), wanted)
    with pytest.raises(UserError, match=r"'a.tif' has no band blue; it has red, green, nir"):
        measure([first], bands=("red", "blue"))
    single = entry(write(tmp_path / "one.tif", pixels[:1]), pixels)
    with pytest.raises(UserError, match=r"'a.tif' has 3 bands but 'one.tif' has 1"):
        measure([first, single])


def test_an_area_counts_alone_and_one_without_valid_pixels_is_said(tmp_path):
    pixels = np.zeros((1, 300, 300), np.uint16)
    pixels[:, 10:20, 260:280] = np.arange(200).reshape(10, 20) + 1
    told = entry(write(tmp_path / "a.tif", pixels, nodata=0), pixels)
    found = collection_statistics([told], [Window(10, 260, 10, 20)], 0)
    assert found.count == (200,)
    assert found.mean[0] == pytest.approx(100.5)
    for budget in (Budget(), Budget(counted=0), Budget(counted=0, held=100)):
        with pytest.raises(UserError, match="no valid pixel"):
            collection_statistics([told], [Window(100, 0, 100, 200)], 0, budget=budget)


@pytest.mark.parametrize("budget", [{}, {"counted": 0}])
def test_nodata_is_that_of_each_raster_alone(tmp_path, budget):
    pixels = np.random.default_rng(0).integers(1, 9, (2, 40, 40)).astype(np.uint8)
    path = write(tmp_path / "a.tif", pixels)
    told = [entry(path, pixels, nodata=nodata, scale=2) for nodata in (5, None, 7)]
    valid = [pixels[:, (pixels != nodata).all(axis=0)] for nodata in (5, None, 7)]
    assert_exact(measure(told, **budget), 2 * np.concatenate(valid, axis=1).astype(np.float64))


def test_an_area_beside_the_raster_and_no_raster_at_all_are_said(tmp_path):
    pixels = np.ones((1, 30, 30), np.float32)
    told = entry(write(tmp_path / "a.tif", pixels), pixels)
    for area in (Window(100, 100, 5, 5), Window(0, 0, 0, 0)):
        with pytest.raises(UserError, match="no valid pixel"):
            collection_statistics([told], [area], 0)
    found = collection_statistics([told, told], [Window(100, 100, 5, 5), Window(20, 20, 50, 50)], 0)
    assert found.count == (100,)
    assert found.pixels == 100
    with pytest.raises(UserError, match="no raster to measure"):
        collection_statistics([], [], 0)


def test_plain_rasters_and_a_plain_collection_agree(data):
    path = data / "s2_slovenia" / "S2_L1C_20150711.tif"
    with open_raster(str(path)) as raster:
        plain = band_statistics([raster], [raster.grid.window], 0)
        told = Entry(path=str(path), height=raster.grid.height, width=raster.grid.width)
    found = measure([told])
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-6)
    assert found.count == plain.count


def test_a_thousand_rasters_need_few_handles(tmp_path):
    random = np.random.default_rng(0)
    entries = []
    for number in range(1000):
        pixels = random.integers(1, 5000, (1, 16, 16)).astype(np.uint16)
        entries.append(entry(write(tmp_path / f"{number}.tif", pixels), pixels, offset=float(-(number % 3))))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 10, limits[1]))
    try:
        found = measure(entries)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found.measured == "exact"
    assert found.count == (1000 * 16 * 16,)


@pytest.mark.parametrize(("dtype", "budget"), [("uint8", Budget()), ("float32", Budget(held=200_000, sample=200_000))])
def test_memory_does_not_grow_with_the_rasters(tmp_path, monkeypatch, dtype, budget):
    monkeypatch.setattr(module, "CHUNK_VALUES", 2**17)
    pixels = np.random.default_rng(0).integers(1, 200, (2, 1024, 1024)).astype(dtype)
    told = entry(write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=128, blockysize=128), pixels)

    def peak(rasters):
        tracemalloc.start()
        collection_statistics([told] * rasters, [Window(0, 0, 1024, 1024)] * rasters, 0, budget=budget)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # loads what is loaded once
    assert peak(12) < 1.5 * peak(2)
    assert peak(12) < 12 * 2**20
