"""Rasters decoded to disk are read like their files, and never outlive a change of these."""

import os
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rsfm.errors import UserError
from rsfm.raster.decoded_cache import DecodedCache, Rates, measure, pays
from rsfm.raster.decoding import advice, keep_decoded
from rsfm.raster.entry_raster import EntryRaster
from rsfm.raster.grid import Window
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import open_raster
from rsfm.raster.window_reader import Request, WindowReader

SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}


def noise(bands=3, dtype="uint16", height=210, width=170):
    return np.random.default_rng(bands).integers(0, 120, (bands, height, width)).astype(dtype)


@SETTINGS
@given(
    row=st.integers(-60, 240),
    column=st.integers(-60, 190),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
    nodata=st.sampled_from([None, 7]),
    layout=st.sampled_from([TILES, {}, {"interleave": "pixel"}]),
)
def test_a_window_from_disk_is_that_of_the_file(make_raster, tmp_path, row, column, dtype, nodata, layout):
    path, disk = make_raster(noise(dtype=dtype), nodata=nodata, **layout), DecodedCache(tmp_path / "cache", 10**8)
    with open_raster(str(path)) as raster, WindowReader(0, disk=disk) as reader:
        assert disk.add(raster)
        assert disk.cell(raster, raster.cells().window(0, 0)) is not None
        window = Window(row, column, 90, 80)
        (found,) = reader.read([Request(raster, window)])
        pixels_CHW, valid_HW = raster.read_native(window)
    np.testing.assert_array_equal(found.pixels_CHW, pixels_CHW)
    np.testing.assert_array_equal(found.valid_HW, valid_HW)


def test_a_changed_file_is_decoded_again(make_raster, tmp_path):
    disk = DecodedCache(tmp_path / "cache", 10**8)
    for pixels in (noise(), noise() + 1):
        with open_raster(str(make_raster(pixels, **TILES))) as raster, WindowReader(0, disk=disk) as reader:
            assert disk.add(raster)
            (found,) = reader.read([Request(raster, raster.grid.window)])
        np.testing.assert_array_equal(found.pixels_CHW, pixels)
    assert len(list(disk.folder.iterdir())) == 2


def test_a_second_process_finds_what_the_first_decoded(make_raster, tmp_path):
    path = make_raster(noise(), **TILES)
    with open_raster(str(path)) as raster:
        assert DecodedCache(tmp_path / "cache", 10**8).add(raster)
    (file,) = (tmp_path / "cache").iterdir()
    written = file.stat().st_ino
    with open_raster(str(path)) as raster:
        assert DecodedCache(tmp_path / "cache", 10**8).add(raster)
    assert file.stat().st_ino == written


def test_the_limit_holds_and_the_raster_used_longest_ago_goes(make_raster, tmp_path):
    paths = [make_raster(noise() + number, f"{number}.tif", **TILES) for number in range(3)]
    limit = round(2.5 * noise().nbytes)  # room for two, with a byte a pixel while they are written
    disk = DecodedCache(tmp_path / "cache", limit)
    for number, path in enumerate(paths):
        with open_raster(str(path)) as raster:
            assert disk.add(raster)
        for file in disk.folder.iterdir():  # so that the order is sure where clocks are coarse
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 10 * (3 - number)))
        assert sum(file.stat().st_size for file in disk.folder.iterdir()) <= limit
    assert len(list(disk.folder.iterdir())) == 2
    with open_raster(str(paths[0])) as raster:
        assert not DecodedCache(tmp_path / "cache", 1000).add(raster)


def test_what_was_never_finished_is_not_read_and_goes_after_a_day(make_raster, tmp_path):
    disk = DecodedCache(tmp_path / "cache", 10**8)
    disk.folder.mkdir()
    old, new = disk.folder / "old.part", disk.folder / "new.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    with open_raster(str(make_raster(noise(), **TILES))) as raster:
        assert disk.add(raster)
    assert not old.exists()
    assert new.exists()


def test_a_damaged_raster_leaves_nothing_behind(make_raster, tmp_path):
    path = make_raster(noise(), **TILES)
    path.write_bytes(path.read_bytes()[:-20_000])
    disk = DecodedCache(tmp_path / "cache", 10**8)
    with open_raster(str(path)) as raster, pytest.raises(UserError, match="damaged"):
        disk.add(raster)
    assert list(disk.folder.iterdir()) == []


def test_it_pays_where_decoding_is_slow_and_pixels_are_read_often():
    slow, fast = Rates(decode=100e6, disk=500e6), Rates(decode=400e6, disk=500e6)
    assert pays(10**10, 10**9, visits=10, rates=slow)
    assert not pays(10**10, 10**9, visits=1, rates=slow)
    assert not pays(10**10, 10**9, visits=1000, rates=fast)
    assert not pays(10**9, 10**10, visits=1000, rates=slow)


def test_rates_are_measured_on_the_raster_and_the_disk(make_raster, tmp_path):
    with open_raster(str(make_raster(noise(), **TILES))) as raster:
        rates = measure(raster, tmp_path / "cache")
    assert 1e5 < rates.decode < 1e11
    assert 1e3 < rates.disk < 1e11
    assert list((tmp_path / "cache").iterdir()) == []


def entry_rasters(paths, files):
    found = []
    for path in paths:
        with open_raster(str(path)) as raster:
            found.append(EntryRaster(plain_entry(raster), files))
    return found


def test_rasters_are_decoded_until_the_disk_space_is_used_up_and_removed_when_told(make_raster, tmp_path):
    paths = [make_raster(noise() + number, f"{number}.tif", **TILES) for number in range(3)]
    files, told = OpenFiles(), []
    rasters = entry_rasters(paths, files)
    disk = DecodedCache(tmp_path / "cache", 3 * noise().nbytes)  # with a byte a pixel, room for two
    assert keep_decoded(disk, rasters, lambda *at: told.append(at)) == 2
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert sum(file.stat().st_size for file in disk.folder.iterdir()) <= disk.limit_bytes
    held = []
    for raster in rasters:
        with raster.lend() as file:
            held.append(disk.cell(file, file.cells().window(0, 0)) is not None)
    assert held == [True, True, False]
    disk.remove()
    assert not disk.folder.exists()
    files.close()


def test_the_disk_is_advised_where_decoding_takes_long_and_memory_does_not_hold_the_rasters(make_raster):
    files = OpenFiles()
    (raster,) = entry_rasters([make_raster(noise(), **TILES)], files)
    slow, fast = (lambda _, rate=rate: Rates(decode=rate, disk=500e6) for rate in (100e6, 400e6))
    for memory in (0, 10**9):
        with WindowReader(memory) as reader:
            with raster.lend() as file:
                for _ in range(20):
                    reader.read([Request(file, file.grid.window)])
            spent = reader.decoded_seconds
            assert reader.decoded_bytes == (2 if memory else 20) * noise().nbytes
            assert ("set 'Cache gb' under 'Sampling' to 0.1" in advice(reader, [raster], spent, slow)) == (memory == 0)
            assert advice(reader, [raster], spent, fast) == ""
            assert advice(reader, [raster], 100 * spent, slow) == ""
    files.close()
