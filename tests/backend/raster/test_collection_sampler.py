import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from rasterio.warp import transform as project
from rsfm.errors import UserError
from rsfm.raster.collection import Band
from rsfm.raster.collection_sampler import CollectionSampler
from rsfm.raster.entry_raster import entry_grid
from rsfm.raster.grid import Window
from rsfm.raster.resampled import Resampled
from rsfm.raster.sampling_config import SamplingConfig
from rsfm.raster.window_batch import Part
from scipy.ndimage import binary_erosion

GRIDS = {
    "EPSG:32633": (500000, 5100000, 10),
    "EPSG:3857": (1669792, 5788939, 14),
    "EPSG:4326": (15, 46.05357, 1.1e-4),
    "EPSG:32634": (35886, 5117528, 11),
}
"""Of each CRS a place near 15° E, 46.05° N, and a pixel of about 10 m."""
MAKES_FILES = settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def noise(bands=1, height=96, width=96, seed=0):
    return np.random.default_rng(seed).integers(1, 3000, (bands, height, width)).astype(np.uint16)


def coordinates(height=60, width=50):
    return np.stack(np.mgrid[:height, :width]).astype(np.uint16) + 1


@MAKES_FILES
@given(
    crs=st.sampled_from(sorted(GRIDS)),
    shape=st.tuples(st.integers(20, 70), st.integers(20, 70)),
    size=st.integers(8, 20),
    corner=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    south_up=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
def test_windows_stay_inside_their_area_and_hold_its_pixels(make_entry, crs, shape, size, corner, south_up, seed):
    west, north, side = GRIDS[crs]
    transform = from_origin(west, north, side, -side if south_up else side)
    entry = make_entry(coordinates(*shape), profile={"crs": crs, "transform": transform})
    area = Window(*corner, shape[0] - corner[0], shape[1] - corner[1])
    if min(area.height, area.width) < size:
        with pytest.raises(UserError, match="as large as a window"):
            CollectionSampler([entry], size, areas=[area], seed=seed)
        return
    found = CollectionSampler([entry], size, areas=[area], seed=seed).batch(0, 4)
    rows_NHW, columns_NHW = np.moveaxis(found.pixels_NTCHW[:, 0] - 1, 1, 0)
    assert found.valid_NTHW.all()
    assert (rows_NHW[:, :, 0] == rows_NHW[:, :1, 0] + np.arange(size)).all()
    assert (columns_NHW[:, 0] == columns_NHW[:, 0, :1] + np.arange(size)).all()
    assert rows_NHW.min() >= corner[0]
    assert rows_NHW.max() < shape[0]
    assert columns_NHW.min() >= corner[1]
    assert columns_NHW.max() < shape[1]


def degrees_raster(make_entry, crs, name, shift, side, date):
    """A raster whose values are the places of its pixels, in units of 1e-5 degrees from 15° E, 46° N."""
    west, north, pixel = GRIDS[crs]
    pixel *= side
    transform = from_origin(west + shift[0] * pixel, north - shift[1] * pixel, pixel, pixel)
    x, y = transform @ np.meshgrid(np.arange(90) + 0.5, np.arange(90) + 0.5)
    lon, lat = project(crs, "EPSG:4326", x.ravel(), y.ravel())
    places = np.stack([(np.array(lon) - 15) * 1e5, (np.array(lat) - 46) * 1e5]).reshape(2, 90, 90).astype(np.float32)
    return make_entry(places, name, {"crs": crs, "transform": transform}, date=date)


@MAKES_FILES
@given(
    crs=st.sampled_from(sorted(GRIDS)),
    other=st.sampled_from(sorted(GRIDS)),
    shift=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    side=st.floats(0.75, 1.35),
    seed=st.integers(0, 100),
)
def test_dates_of_any_grid_are_aligned_to_a_tenth_of_a_pixel(make_entry, crs, other, shift, side, seed):
    entries = [
        degrees_raster(make_entry, crs, "a.tif", (0, 0), 1, "2020-01-01"),
        degrees_raster(make_entry, other, "b.tif", shift, side, "2020-03-01"),
    ]
    sampler = CollectionSampler(entries, 16, seed=seed)
    assert sampler.check_dates(timed=True)
    found = sampler.batch(0, 8, dates=2)
    pixel = np.array([1, 1 / np.cos(np.radians(46))])[::-1].reshape(1, 2, 1, 1) * 10 / 1.1132
    both_NHW = found.valid_NTHW.all(1)
    misses_NHW = (np.abs(found.pixels_NTCHW[:, 0] - found.pixels_NTCHW[:, 1]) / pixel).max(1) * both_NHW
    inner_NHW = binary_erosion(both_NHW, np.ones((1, 3, 3)))  # beside nodata a value is that of the pixel next to it
    assert inner_NHW.any()
    assert misses_NHW[inner_NHW].max() < 0.1
    assert misses_NHW.max() <= 0.5 * 1.2 * max(side, 1)


@MAKES_FILES
@given(top=st.floats(-24, 84), east=st.floats(2e-5, 4e-4), seed=st.integers(0, 100))
def test_ground_sampling_distance_is_that_of_the_windows_own_latitude(make_entry, top, east, seed):
    tall = {"crs": "EPSG:4326", "transform": from_origin(10, top, east, 0.01)}
    entry = make_entry(coordinates(6000, 20), profile=tall)
    found = CollectionSampler([entry], 16, seed=seed).batch(0, 40)
    latitude = np.radians(found.place_N2[:, 0])
    assert (np.abs(found.place_N2[:, 0] - (top - 30)) < 30).all()
    across = 111412.84 * np.cos(latitude) - 93.5 * np.cos(3 * latitude) + 0.118 * np.cos(5 * latitude)
    along = 111132.92 - 559.82 * np.cos(2 * latitude) + 1.175 * np.cos(4 * latitude)
    np.testing.assert_allclose(found.gsd_N, np.sqrt(across * east * along * 0.01), rtol=1e-4)


@pytest.mark.parametrize(("crs", "expected"), [("EPSG:32633", 10.0), ("EPSG:3857", 14 * np.cos(np.radians(46)))])
def test_ground_sampling_distance_of_metric_rasters(make_entry, crs, expected):
    west, north, side = GRIDS[crs]
    entry = make_entry(coordinates(), profile={"crs": crs, "transform": from_origin(west, north, side, side)})
    assert CollectionSampler([entry], 16).batch(0, 8).gsd_N == pytest.approx(expected, rel=4e-3)


def test_too_much_nodata_clouds_and_single_values_are_refused(make_entry, make_raster):
    pixels = noise(2, 40, 160)
    pixels[:, :, :40] = 0
    pixels[:, :, 40:80] = 255
    cloud = np.zeros((1, 40, 160), np.uint8)
    cloud[:, :, 80:120] = 3
    mask = str(make_raster(cloud, "cloud.tif"))
    entry = make_entry(pixels, profile={"nodata": 0}, mask=mask, masked=(3,))
    rules = SamplingConfig(max_invalid=0.1, max_cloud=0.25)
    found = CollectionSampler([entry], 16, rules).batch(0, 60)
    assert (~found.valid_NTHW).mean((1, 2, 3)).max() <= 0.35
    sharp = {"max_invalid": 0, "max_cloud": 0}
    right = CollectionSampler([entry], 16, SamplingConfig(**sharp)).batch(0, 60)
    assert right.valid_NTHW.all()
    assert ((right.pixels_NTCHW[:, 0] == 255).mean((1, 2, 3)) < 0.98).all()
    with_flat = CollectionSampler([entry], 16, SamplingConfig(**sharp, skip_flat=False)).batch(0, 60)
    assert ((with_flat.pixels_NTCHW[:, 0] == 255).mean((1, 2, 3)) == 1).any()
    cloudy = CollectionSampler([entry], 16, SamplingConfig(max_cloud=0.9)).batch(0, 60)
    assert (~cloudy.valid_NTHW).mean((1, 2, 3)).max() > 0.5
    assert (cloudy.pixels_NTCHW[:, 0].transpose(0, 2, 3, 1)[~cloudy.valid_NTHW[:, 0]] == 0).all()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [("nodata", "had too much nodata"), ("flat", "held a single value"), ("cloud", "were too cloudy")],
)
def test_a_raster_without_a_usable_window_says_why(make_entry, make_raster, spoil, sentence):
    pixels = np.full((1, 40, 40), 7, np.uint8) if spoil == "flat" else noise(1, 40, 40)
    pixels[:, ::2] = 0 if spoil == "nodata" else pixels[:, ::2]
    mask = str(make_raster(np.full((1, 40, 40), 1, np.uint8), "m.tif")) if spoil == "cloud" else None
    entry = make_entry(pixels, profile={"nodata": 0}, mask=mask, masked=(1,))
    with pytest.raises(UserError, match=f"1000 {sentence}"):
        CollectionSampler([entry], 16).batch(0, 1)


def test_a_mask_on_another_grid_is_found_at_the_same_place(make_entry, make_raster):
    cloud = np.zeros((1, 30, 30), np.uint8)
    cloud[:, :15] = 1
    coarse = {"crs": "EPSG:3857", "transform": from_origin(*mercator(500000, 5100000), 45, 45)}
    entry = make_entry(noise(1, 90, 90), mask=str(make_raster(cloud, "m.tif", **coarse)), masked=(1,))
    found = CollectionSampler([entry], 16, SamplingConfig(max_cloud=0.9)).batch(0, 200)
    latitude_N = found.place_N2[:, 0]
    clear_N = found.valid_NTHW[:, 0].mean((1, 2))
    edge = 15 * 45 * np.cos(np.radians(46.05)) / 111150
    north = latitude_of_corner(entry)
    assert (clear_N[latitude_N < north - edge - 0.0012] == 1).all()
    assert (clear_N[latitude_N > north - edge + 0.0006] < 0.4).all()


def mercator(x, y):
    (east,), (north,) = project("EPSG:32633", "EPSG:3857", [x], [y])
    return east, north


def latitude_of_corner(entry):
    return entry.footprint[3]


def test_values_are_in_units_and_bands_are_found_by_name(make_entry):
    first, second = noise(3, seed=1), noise(4, seed=2)
    entries = [
        make_entry(first, "a.tif", date="2020-01-01", bands=named("B02", "B03", "B08"), scale=1e-4, offset=-0.1),
        make_entry(second, "b.tif", date="2020-02-01", bands=named("nir", "B3", "swir", "B2")),
    ]
    sampler = CollectionSampler(entries, 90)
    assert sampler.band_names == ("B02", "B03", "B08")
    found = sampler.batch(0, 6, dates=2)
    a, b = first * 1e-4 - 0.1, second[[3, 1, 0]]
    for date in (0, 1):
        row, column = locate(entries[found.entry_NT[0, 0]], found.place_N2[0], 90)
        expected = (a, b)[found.entry_NT[0, date]][:, row : row + 90, column : column + 90]
        np.testing.assert_allclose(found.pixels_NTCHW[0, date], expected, rtol=1e-5, atol=1e-7)
    entries[1] = entries[1].model_copy(update={"bands": named("x", "y", "z", "w")})
    with pytest.raises(UserError, match="none is common to all"):
        CollectionSampler(entries, 16)


def named(*names):
    return tuple(Band(number=number, name=name) for number, name in enumerate(names, 1))


def locate(entry, place, size):
    grid = entry_grid(entry)
    (x,), (y,) = project("EPSG:4326", grid.crs, [place[1]], [place[0]])
    column, row = ~grid.transform @ (x, y)
    return round(row - size / 2), round(column - size / 2)


def test_a_batch_depends_on_seed_and_index_alone(make_entry):
    entries = [make_entry(noise(seed=n), f"{n}.tif", date=f"2020-0{n + 1}-01") for n in range(3)]
    first, again = CollectionSampler(entries, 16, seed=3), CollectionSampler(entries, 16, seed=3)
    expected = [first.batch(index, 4, 2) for index in range(6)]
    for index in reversed(range(6)):
        for part, other in zip(again.batch(index, 4, 2), expected[index], strict=True):
            np.testing.assert_array_equal(part, other)
    assert not np.array_equal(expected[0].pixels_NTCHW, expected[1].pixels_NTCHW)
    other = CollectionSampler(entries, 16, seed=4).batch(0, 4, 2)
    assert not np.array_equal(expected[0].pixels_NTCHW, other.pixels_NTCHW)


def test_windows_of_a_batch_decode_a_block_once(make_entry):
    tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    pixels = noise(3, 512, 512)
    sampler = CollectionSampler([make_entry(pixels, profile=tiles)], 40)
    found = sampler.batch(0, 60)
    shown = set()
    for window_CHW in found.pixels_NTCHW[:, 0]:
        (row,), (column,) = np.nonzero((pixels == window_CHW[:, :1, :1]).all(0))
        shown |= {(down // 64, right // 64) for down in (row, row + 39) for right in (column, column + 39)}
    assert sampler.reader.decoded_bytes == len(shown) * 3 * 64 * 64 * 2
    sampler.close()


@pytest.mark.parametrize("dates", [1, 3])
def test_every_date_of_a_window_is_what_its_raster_shows_there_alone(make_entry, make_raster, dates):
    shifted = {"crs": "EPSG:32633", "transform": from_origin(500030, 5099950, 10, 10), "nodata": 7}
    finer = {"crs": "EPSG:32633", "transform": from_origin(500002, 5100001, 9, 9)}
    mask = str(make_raster((noise(1, 96, 96, 9) > 2900).astype(np.uint8), "m.tif"))
    entries = [
        make_entry(noise(2, seed=1), "a.tif", date="2020-01-01", scale=1e-4, offset=0.1, mask=mask, masked=(1,)),
        make_entry(noise(2, seed=2), "b.tif", shifted, date="2020-02-01"),
        make_entry(noise(2, seed=3), "c.tif", finer, date="2020-03-01"),
    ]
    sampler = CollectionSampler(entries, 16)
    found = sampler.batch(0, 40, dates)
    for number, (place, own) in enumerate(zip(found.place_N2, found.entry_NT, strict=True)):
        grid = sampler.rasters[own[0]].grid
        row, column = locate(entries[own[0]], place, 16)
        for when, entry in enumerate(own):
            if entry >= 0:
                alone = Resampled(sampler.rasters[entry], grid).read(Window(row, column, 16, 16))
                np.testing.assert_array_equal(found.pixels_NTCHW[number, when], alone[0])
                np.testing.assert_array_equal(found.valid_NTHW[number, when], alone[1])
    assert (found.entry_NT >= 0).mean() > 0.6
    sampler.close()


def test_windows_of_a_batch_show_different_ground_where_there_is_enough(make_entry):
    entries = [make_entry(coordinates(300, 300), f"{n}.tif", date=f"2020-0{n + 1}-01") for n in range(2)]
    corners = CollectionSampler(entries, 16).batch(0, 24).pixels_NTCHW[:, 0, :, 0, 0]
    apart = np.abs(corners[:, None] - corners[None]).max(-1) >= 16
    assert apart[~np.eye(24, dtype=bool)].all()
    small = [make_entry(coordinates(20, 20), "small.tif")]
    assert CollectionSampler(small, 16).batch(0, 8).valid_NTHW.all()


MEMORY = """
import os, sys
from rsfm.raster.collection import Collection, load, save
from rsfm.raster.collection_sampler import CollectionSampler
from rsfm.raster.resampled import Resampled
from rsfm.raster.sampling_config import SamplingConfig
from rsfm.raster.window_batch import Part
import time
started = time.monotonic()
sampler = CollectionSampler(load(sys.argv[1]).imagery, 224, SamplingConfig(skip_flat=False), seed=1)
opened = time.monotonic() - started
assert sampler.check_dates(True)
for index in range(12):
    found = sampler.batch(index, 16, 2)
    assert (found.entry_NT >= 0).all()
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(opened, peak // 1024, len(sampler.files), len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
def test_ten_thousand_rasters_of_a_gigabyte_are_sampled_in_less_than_one(tmp_path, make_entry):
    import rasterio
    from rsfm.raster.collection import Collection, save
    from rsfm.raster.plain_entry import plain_entry
    from rsfm.raster.reader import open_raster

    path = tmp_path / "huge.tif"
    profile = {"count": 5, "height": 10240, "width": 10240, "dtype": "uint16", "crs": "EPSG:32633", "nodata": None}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "SPARSE_OK": True}
    transform = from_origin(500000, 5100000, 10, 10)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile, **tiles):
        pass
    assert 5 * 10240**2 * 2 > 10**9
    with open_raster(str(path)) as raster:
        entry = plain_entry(raster)
    entries = []
    for number in range(10000):
        name = tmp_path / f"{number}.tif"
        os.link(path, name)
        date = f"20{10 + number // 1000}-{1 + number % 12:02d}-{1 + number // 12 % 28:02d}"
        entries.append(entry.model_copy(update={"path": name.name, "date": date}))
    file = tmp_path / "many.collection.json"
    save(file, Collection(name="many", entries=tuple(entries)))
    done = subprocess.run([sys.executable, "-c", MEMORY, str(file)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    seconds, megabytes, held, files = (float(word) for word in done.stdout.split())
    print(f"opened in {seconds:.2f} s, {megabytes:.0f} MB at most, {files:.0f} files open")
    assert seconds < 5
    assert megabytes < 1000
    assert held <= 64
    assert files < 100


@pytest.mark.parametrize("dates", [1, 2])
def test_parts_of_a_batch_read_apart_are_the_batch(make_entry, dates):
    holed = [noise(height=200, width=200, seed=n) for n in range(3)]
    for pixels_CHW in holed:
        pixels_CHW[:, 40:160, 50:150] = 0
    profile = {"nodata": 0}
    entries = [make_entry(pixels, f"{n}.tif", profile, date=f"2020-0{n + 1}-01") for n, pixels in enumerate(holed)]
    told, all_told = {}, threading.Condition()

    def exchange(about, refused):
        with all_told:
            told.setdefault(about, []).append(refused)
            all_told.notify_all()
            all_told.wait_for(lambda: len(told[about]) == 3, 60)
        return {number: reason for part in told[about] for number, reason in part.items()}

    def read(number):
        return CollectionSampler(entries, 16, seed=5).batch(2, 12, dates, Part(number, 3, exchange))

    expected = CollectionSampler(entries, 16, seed=5).batch(2, 12, dates)
    with ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(read, range(3)))
    assert any(refused for parts_told in told.values() for refused in parts_told)
    for whole, *pieces in zip(expected, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
