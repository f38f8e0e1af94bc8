import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rsfm.errors import UserError
from rsfm.raster.collection import Band, Entry
from rsfm.raster.common_bands import common_bands
from rsfm.raster.open_files import OpenFiles
from rsfm.raster.reader import open_raster


@pytest.fixture
def paths(make_raster):
    return [str(make_raster(np.full((1, 8, 8), n, np.uint8), f"{n}.tif")) for n in range(6)]


def test_the_files_used_last_stay_open_and_no_more(paths):
    files, opened = OpenFiles(2), []

    def use(path):
        def open_it():
            opened.append(path)
            return open_raster(path)

        with files.use(path, open_it) as raster:
            return int(raster.read(raster.grid.window)[0][0, 0, 0])

    assert [use(paths[n]) for n in (0, 1, 0, 2, 0, 1)] == [0, 1, 0, 2, 0, 1]
    assert opened == [paths[n] for n in (0, 1, 2, 1)]
    assert len(files) == 2
    files.close()
    assert len(files) == 0


def test_a_file_that_is_lent_is_not_closed(paths):
    files = OpenFiles(1)
    with files.use(paths[0], lambda: open_raster(paths[0])) as first:
        for path in paths[1:]:
            with files.use(path, lambda path=path: open_raster(path)):
                pass
        assert first.read(first.grid.window)[1].all()
    assert len(files) <= 2


def test_threads_share_files_without_opening_one_twice_at_a_time(paths):
    files, together = OpenFiles(3), threading.Barrier(4)

    def read(number):
        if number < 4:
            together.wait()
        path = paths[number % 6]
        with files.use(path, lambda: open_raster(path)) as raster:
            return int(raster.read(raster.grid.window)[0].max())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(200))) == [number % 6 for number in range(200)]
    assert len(files) <= 4


def test_a_file_that_cannot_be_opened_is_tried_again(paths):
    files = OpenFiles()
    with pytest.raises(UserError), files.use("x", lambda: open_raster("/nowhere.tif")):
        pass
    with files.use("x", lambda: open_raster(paths[1])) as raster:
        assert raster.bands == 1


def entry(*names):
    bands = tuple(Band(number=number, name=name) for number, name in enumerate(names, 1))
    return Entry(path=f"/{'-'.join(names)}.tif", bands=bands)


def test_bands_are_matched_by_name_in_the_order_of_the_first_raster():
    found = common_bands([entry("B04", "B08", "B02"), entry("aerosol", "B2", "nir", "Red"), entry("b8", "b4", "b2")])
    assert found.names == ("B04", "B08", "B02")
    assert found.numbers == ((1, 2, 3), (4, 3, 2), (2, 1, 3))
    assert found.left_out == ("aerosol",)


def test_names_used_twice_leave_the_order_to_count():
    found = common_bands([entry("gray", "gray"), entry("a", "b")])
    assert found.numbers == ((1, 2), (1, 2))
    assert common_bands([entry("a"), Entry(path="/x.tif")]).numbers == (None, None)


def test_rasters_without_a_common_band_are_refused_by_name():
    with pytest.raises(UserError, match=r"'b.tif' has b, c|'a.tif' has the bands a and 'b.tif' has b"):
        common_bands([entry("a"), entry("b")])
