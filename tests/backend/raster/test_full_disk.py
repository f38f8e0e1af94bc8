"""A disk that fills up while a file is written: an error, and no part of a file under its name.

A limit on the size of files stands in for the disk: writing beyond it fails as on a full one.
"""

import resource
from contextlib import contextmanager

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rsfm.preview import write_raster
from rsfm.raster.grid import Grid
from rsfm.raster.polygons import PolygonWriter

PLACE = {"crs": CRS.from_epsg(32633), "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
PIXELS = np.random.default_rng(0).integers(1, 255, (3, 200, 200)).astype(np.uint8)


@contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 4096, 60_000])
def test_a_small_raster_is_whole_or_is_not_there(tmp_path, size):
    path = tmp_path / "small.tif"
    with files_of_at_most(size), pytest.raises(OSError, match=r"large|space"):
        write_raster(path, PIXELS, PLACE)
    assert list(tmp_path.iterdir()) == []
    write_raster(path, PIXELS, PLACE)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), PIXELS)
        assert file.crs == PLACE["crs"]
        assert file.transform == PLACE["transform"]


def test_what_stood_there_stays(tmp_path):
    path = tmp_path / "small.tif"
    write_raster(path, PIXELS, PLACE)
    with files_of_at_most(5000), pytest.raises(OSError, match=r"large|space"):
        write_raster(path, PIXELS[:, ::-1].copy(), PLACE)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), PIXELS)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 100, 50_000, 100_000])
def test_polygons_are_whole_or_are_not_there(tmp_path, size):
    def write():
        grid = Grid(PLACE["crs"], PLACE["transform"], 200, 200)
        with PolygonWriter(tmp_path / "polygons.gpkg", grid, ["number"]) as writer:
            for number in range(2000):
                row, column = divmod(number, 50)
                writer.add(shapely.box(column, row, column + 1, row + 1), number)

    with files_of_at_most(size), pytest.raises((OSError, RuntimeError)):
        write()
    assert [path for path in tmp_path.iterdir() if path.suffix == ".gpkg"] == []
    write()
    assert (tmp_path / "polygons.gpkg").exists()
