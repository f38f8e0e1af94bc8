import subprocess
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rsfm.errors import Stopped, UserError
from rsfm.outputs.classes import Classes
from rsfm.outputs.confidence import Confidence
from rsfm.outputs.embedding import Embedding
from rsfm.raster import writer as writing
from rsfm.raster.grid import Grid
from rsfm.raster.writer import RasterWriter


def grid(height, width, up=-10):
    return Grid(CRS.from_epsg(32633), Affine(10, 0, 500000, 0, up, 5000000), height, width)


def classes(height, width):
    values = np.random.default_rng(0).integers(1, 5, (1, height, width)).astype(np.uint8)
    values[:, :3] = 255
    return values


def write(path, kind, pixels, steps, up=-10, **options):
    with RasterWriter(path, kind, grid(*pixels.shape[1:], up), len(pixels), **options) as writer:
        row = 0
        while row < pixels.shape[1]:
            step = next(steps)
            writer.write(pixels[:, row : row + step])
            row += step


def every(step):
    while True:
        yield step


@pytest.mark.parametrize("shape", [(1, 1), (511, 40), (512, 513), (1300, 700)])
@pytest.mark.parametrize("step", [1, 100, 512, 2000])
def test_what_is_read_is_what_was_written_in_steps_of_any_height(tmp_path, shape, step):
    pixels = classes(*shape)
    write(tmp_path / "a.tif", Classes, pixels, every(step))
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("bands", [1, 3])
def test_blocks_without_a_predictor_read_as_written_and_are_as_small_as_gdals(tmp_path, bands):
    fields = np.kron(np.random.default_rng(0).integers(1, 5, (bands, 64, 64)), np.ones((1, 16, 16))).astype(np.uint8)
    write(tmp_path / "ours.tif", Classes, fields, every(512))
    shape = {"count": bands, "height": 1024, "width": 1024, "dtype": "uint8", "nodata": 255}
    shape |= {"transform": grid(1024, 1024).transform}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "pixel"}
    with rasterio.open(
        tmp_path / "gdal.tif", "w", driver="GTiff", compress="deflate", zlevel=1, **shape, **layout
    ) as to:
        to.write(fields)
    sizes = []
    for name in ("ours.tif", "gdal.tif"):
        with rasterio.open(tmp_path / name) as file:
            np.testing.assert_array_equal(file.read(), fields)
            places = [(column, row) for row in (0, 1) for column in (0, 1)]
            sizes.append(sum(int(file.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", 1)) for x, y in places))
    assert sizes[0] <= 1.05 * sizes[1]


def test_the_caller_may_use_its_array_again(tmp_path):
    rows = np.zeros((1, 10, 600), np.uint8)
    with RasterWriter(tmp_path / "a.tif", Classes, grid(1000, 600)) as writer:
        for step in range(100):
            rows[:] = step
            writer.write(rows)
    with rasterio.open(tmp_path / "a.tif") as file:
        np.testing.assert_array_equal(file.read(1)[:, 0], np.repeat(np.arange(100), 10))


@pytest.mark.parametrize("up", [-10, 10])
def test_the_file_is_a_cog_at_its_place_with_style_and_provenance(tmp_path, up):
    options = {"band_names": ["Class"], "colours": {1: (255, 0, 0), 2: (0, 9, 0)}, "metadata": {"RSFM_MODEL": "m"}}
    write(tmp_path / "a.tif", Classes, classes(1300, 1100), every(300), up, **options)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2, 4]
        assert (file.transform, file.crs) == (grid(1, 1, up).transform, grid(1, 1).crs)
        assert file.nodata == 255
        assert file.compression.name == "deflate"
        assert file.descriptions == ("Class",)
        assert file.tags()["RSFM_MODEL"] == "m"
        assert file.colormap(1)[1] == (255, 0, 0, 255)
        assert file.colormap(1)[2] == (0, 9, 0, 255)


def test_overviews_of_classes_are_the_most_frequent_one_and_of_numbers_the_mean(tmp_path):
    pixels = np.tile(np.array([[1, 1], [1, 4]], np.uint8), (600, 600))[None]
    write(tmp_path / "a.tif", Classes, pixels, every(512))
    write(tmp_path / "b.tif", Confidence, pixels.astype(np.float32), every(512))
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as file:
        assert (file.read() == 1).all()
    with rasterio.open(tmp_path / "b.tif", overview_level=0) as file:
        np.testing.assert_allclose(file.read(), 1.75)


def test_numbers_have_nodata_and_several_bands_their_names(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(3, 600, 70)).astype(np.float32)
    pixels[:, 5, 5] = np.nan
    write(tmp_path / "a.tif", Embedding, pixels, every(64), band_names=["one", "two", "three"])
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.isnan(file.nodata)
        assert file.descriptions == ("one", "two", "three")
        np.testing.assert_array_equal(file.read(), pixels)
        assert not file.dataset_mask()[5, 5]


def test_a_stop_leaves_no_file_and_an_old_result_untouched(tmp_path):
    write(tmp_path / "a.tif", Classes, classes(600, 50), every(600))
    before = (tmp_path / "a.tif").read_bytes()

    def stopped():
        with RasterWriter(tmp_path / "a.tif", Classes, grid(1200, 50)) as writer:
            writer.write(classes(600, 50))
            assert any(".partial" in path.name for path in tmp_path.iterdir())
            raise Stopped

    with pytest.raises(Stopped):
        stopped()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == before


@pytest.mark.parametrize("rows", [599, 601])
def test_too_few_or_too_many_rows_are_a_bug_and_leave_nothing(tmp_path, rows):
    def wrong():
        with RasterWriter(tmp_path / "a.tif", Classes, grid(600, 50)) as writer:
            writer.write(classes(rows, 50))

    with pytest.raises(ValueError, match=r"Only 599|does not fit"):
        wrong()
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="GB are free"):
        RasterWriter(tmp_path / "a.tif", Confidence, grid(10_000_000, 10_000_000))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        RasterWriter(tmp_path / "gone" / "a.tif", Classes, grid(10, 10))


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rsfm.errors import UserError
from rsfm.outputs.confidence import Confidence
from rsfm.raster.grid import Grid
from rsfm.raster.writer import RasterWriter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 500000, 0, -10, 5000000), 2048, 1024)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
random = np.random.default_rng(0)
try:
    with RasterWriter(Path(sys.argv[1]) / "a.tif", Confidence, grid) as writer:
        for _ in range(4):
            writer.write(random.random((1, 512, 1024)).astype(np.float32))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100_000, 3_000_000, 7_300_000, 9_000_000])
def test_a_disk_that_fills_up_is_said_and_no_half_file_is_left(tmp_path, limit):
    command = [sys.executable, "-c", FULL, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "cannot be written" in done.stdout, (done.stdout, done.stderr)
    assert "Free some space" in done.stdout
    assert not list(tmp_path.iterdir())


def test_without_a_limit_the_same_file_is_written(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path), "100000000"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
    assert (tmp_path / "a.tif").stat().st_size > 9_000_000


def test_the_expected_size_is_not_below_that_of_noise():
    assert writing.MAX_EXPECTED_RATIO["f"] >= 0.85
