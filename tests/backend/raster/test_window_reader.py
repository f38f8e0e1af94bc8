"""Windows read together are those read one by one, and every block is decoded once."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.resampled import Resampled
from rsfm.raster.window_reader import MEMORY, Patch, Request, WindowReader

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LAYOUTS = {
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate"},
    "large tiles": {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "lzw"},
    "strips": {"blockysize": 1, "compress": "deflate"},
    "one block": {"blockysize": 4000, "compress": "deflate"},
    "uncompressed": {},
}
windows = st.builds(
    Window, st.integers(-60, 240), st.integers(-60, 190), st.integers(1, 130), st.integers(1, 130)
)  # of a raster of 210 x 170 px


class Recorded(Raster):
    """Notes what is read from the file."""

    reads: list[Window]

    def _read_inside(self, window: Window, pixels_CHW: np.ndarray, valid_HW: np.ndarray) -> None:
        self.reads.append(window)
        super()._read_inside(window, pixels_CHW, valid_HW)


def noise(bands: int = 3, dtype: str = "uint16", height: int = 210, width: int = 170) -> np.ndarray:
    return np.random.default_rng(bands).integers(0, 120, (bands, height, width)).astype(dtype)


def record(raster: Raster) -> list[Window]:
    raster.__class__ = Recorded
    raster.reads = []  # type: ignore[attr-defined]
    return raster.reads  # type: ignore[attr-defined, no-any-return]


def assert_same_pixels(found: Sequence[Patch], pixels_CHW: np.ndarray) -> None:
    for patch in found:
        np.testing.assert_array_equal(patch.pixels_CHW, pixels_CHW)


def assert_same(requests: Sequence[Request], found: Sequence[Patch]) -> None:
    assert len(requests) == len(found)
    for request, patch in zip(requests, found, strict=True):
        pixels_CHW, valid_HW = request.raster.read_native(request.window)
        assert patch.pixels_CHW.dtype == request.raster.dtype
        np.testing.assert_array_equal(patch.pixels_CHW, pixels_CHW)
        np.testing.assert_array_equal(patch.valid_HW, valid_HW)


@SETTINGS
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    interleave=st.sampled_from(["band", "pixel"]),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
    nodata=st.sampled_from([None, 0, 7]),
    masked=st.booleans(),
    parts=st.lists(st.lists(windows, max_size=6), min_size=1, max_size=3),
    memory=st.sampled_from([0, 10_000, 10**8]),
    threads=st.integers(1, 3),
)
def test_every_window_is_that_read_alone(
    make_raster, layout, interleave, dtype, nodata, masked, parts, memory, threads
):
    path = make_raster(noise(dtype=dtype), interleave=interleave, nodata=nodata, **LAYOUTS[layout])
    if masked:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask((noise(1)[0] > 20).astype(np.uint8) * 255)
    with open_raster(str(path)) as raster, WindowReader(memory, threads) as reader:
        for part in parts:
            requests = [Request(raster, window) for window in part]
            assert_same(requests, reader.read(requests))


@pytest.mark.parametrize("kept", [0, 0.5, 1], ids=["none kept", "half kept", "all kept"])
def test_many_windows_of_kept_cells_are_copied_by_several_threads(make_raster, kept):
    path = make_raster(noise(), nodata=7, **LAYOUTS["tiles"])
    random = np.random.default_rng(0)
    with open_raster(str(path)) as raster, WindowReader(10**8, 3, keep_all=True) as reader:
        if kept:
            reader.read([Request(raster, Window(0, 0, int(210 * kept), 170))])
        places = zip(random.integers(-20, 180, 400).tolist(), random.integers(-20, 150, 400).tolist(), strict=True)
        requests = [Request(raster, Window(*place, 40, 30)) for place in places]
        assert_same(requests, reader.read(requests))


def make_mosaic(make_raster, pixels: np.ndarray, rows: Sequence[int], columns: Sequence[int]) -> Path:
    """Cut pixels into tiles, which overlap by nothing, and put them together again in a VRT."""
    sources = []
    for row, bottom in zip(rows, rows[1:], strict=False):
        for column, right in zip(columns, columns[1:], strict=False):
            name = f"tile_{row}_{column}.tif"
            make_raster(pixels[:, row:bottom, column:right], name, tiled=True, blockxsize=64, blockysize=64)
            rectangles = f'<SrcRect xOff="0" yOff="0" xSize="{right - column}" ySize="{bottom - row}"/>' + (
                f'<DstRect xOff="{column}" yOff="{row}" xSize="{right - column}" ySize="{bottom - row}"/>'
            )
            sources.append(f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>BAND'
                           f"</SourceBand>{rectangles}</SimpleSource>")  # fmt: skip
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}"><NoDataValue>7</NoDataValue>'
        + "".join(sources).replace("BAND", str(band))
        + "</VRTRasterBand>"
        for band in range(1, len(pixels) + 1)
    )
    path = make_raster(pixels[:, :1, :1], "corner.tif").with_name("mosaic.vrt")
    transform = "500000, 10, 0, 5100000, 0, -10"
    path.write_text(
        f'<VRTDataset rasterXSize="{pixels.shape[2]}" rasterYSize="{pixels.shape[1]}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>{transform}</GeoTransform>{bands}</VRTDataset>"
    )
    return path


@SETTINGS
@given(
    cuts=st.tuples(st.integers(1, 209), st.integers(1, 169)),
    part=st.lists(windows, max_size=6),
    memory=st.sampled_from([0, 10**8]),
)
def test_a_mosaic_is_read_like_a_file(make_raster, cuts, part, memory):
    path = make_mosaic(make_raster, noise(), (0, cuts[0], 210), (0, cuts[1], 170))
    with open_raster(str(path)) as raster, WindowReader(memory) as reader:
        requests = [Request(raster, window) for window in part]
        assert_same(requests, reader.read(requests))


def test_a_mosaic_is_cut_along_the_blocks_of_its_files(make_raster):
    path = make_mosaic(make_raster, noise(height=420, width=300), (0, 200, 420), (0, 150, 300))
    with open_raster(str(path)) as raster:
        cells = raster.cells()
    assert cells is not None
    assert cells.rows == (0, 64, 128, 200, 264, 328, 420)  # 392 would leave less than 64 rows
    assert cells.columns == (0, 64, 150, 214, 300)


def test_a_mosaic_of_enlarged_pixels_is_read_window_by_window(make_raster):
    path = make_mosaic(make_raster, noise(), (0, 210), (0, 170))
    path.write_text(
        path.read_text().replace('<SrcRect xOff="0" yOff="0" xSize="170"', '<SrcRect xOff="0" yOff="0" xSize="83"')
    )
    with open_raster(str(path)) as raster, WindowReader() as reader:
        assert raster.cells() is None
        requests = [Request(raster, Window(row, 21, 50, 60)) for row in (-10, 0, 33)]
        assert_same(requests, reader.read(requests))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_block_is_decoded_once_however_many_windows_show_it(make_raster, layout):
    path = make_raster(noise(), **LAYOUTS[layout])
    random = np.random.default_rng(1)
    with open_raster(str(path)) as raster, WindowReader(memory_bytes=0) as reader:
        reads = record(raster)
        corners = random.integers((0, 0), (210 - 60, 170 - 60), (40, 2)).tolist()
        reader.read([Request(raster, Window(row, column, 60, 60)) for row, column in corners])
        hits = np.zeros((210, 170), int)
        for row, column, height, width in reads:
            hits[row : row + height, column : column + width] += 1
    assert hits.max() == 1


def test_what_fits_in_memory_is_kept_from_its_second_decoding_on_and_the_rest_is_forgotten(make_raster):
    pixels = noise()
    path = make_raster(pixels, **LAYOUTS["large tiles"])  # four cells
    with open_raster(str(path)) as raster:
        reads = record(raster)
        for memory, decoded in ((4 * pixels.nbytes, {8}), (pixels.nbytes // 2, set(range(9, 20))), (0, {20})):
            reads.clear()
            with WindowReader(memory) as reader:
                for _ in range(5):
                    requests = [Request(raster, raster.grid.window)]
                    assert_same_pixels(reader.read(requests), pixels)
                    assert reader.kept_bytes <= memory
            assert len(reads) in decoded


def test_rasters_that_memory_holds_are_decoded_once_for_all(make_raster):
    pixels = noise()
    with open_raster(str(make_raster(pixels, **LAYOUTS["tiles"]))) as raster, WindowReader.of(pixels.nbytes) as reader:
        for _ in range(3):
            assert_same_pixels(reader.read([Request(raster, raster.grid.window)]), pixels)
        assert reader.decoded_bytes == pixels.nbytes
        assert reader.kept_bytes <= reader.memory_bytes
    with WindowReader.of(10**15) as reader:
        assert reader.memory_bytes == MEMORY


def test_several_rasters_are_read_by_several_callers_at_once(make_raster):
    paths = [make_raster(noise(3) + number, f"{number}.tif", **LAYOUTS["tiles"]) for number in range(5)]
    rasters = [open_raster(str(path)) for path in paths]
    random = np.random.default_rng(0)
    with WindowReader(200_000, threads=3) as reader, ThreadPoolExecutor(3) as callers:
        batches = [
            [
                Request(rasters[raster], Window(row, column, 50, 70))
                for raster, row, column in random.integers(0, (5, 200, 160), (20, 3))
            ]
            for _ in range(12)
        ]
        for requests, found in zip(batches, callers.map(reader.read, batches), strict=True):
            assert_same(requests, found)
    for raster in rasters:
        raster.close()


def test_arrays_of_the_caller_are_filled_also_outside_the_raster(make_raster):
    with open_raster(str(make_raster(noise(), nodata=3))) as raster, WindowReader() as reader:
        requests = [Request(raster, Window(row, 120, 64, 64)) for row in (-300, -10, 40, 190)]
        pixels_NCHW, valid_NHW = np.full((4, 3, 64, 64), 99, np.uint16), np.ones((4, 64, 64), bool)
        found = reader.read(requests, [Patch(*both) for both in zip(pixels_NCHW, valid_NHW, strict=True)])
        assert_same(requests, found)
        assert found[0].pixels_CHW.base is pixels_NCHW


def test_a_raster_on_another_grid_is_read_window_by_window(make_raster):
    with open_raster(str(make_raster(noise()))) as raster, WindowReader() as reader:
        fine = Resampled(
            raster, raster.grid.crop(Window(3, 5, 80, 70))._replace(transform=raster.grid.shrink(2).transform)
        )
        requests = [Request(fine, Window(row, 7, 30, 40)) for row in (-10, 0, 33)]
        assert_same(requests, reader.read(requests))


@SETTINGS
@given(
    window=windows,
    shrink=st.sampled_from([2, 3, 4, 8]),
    overviews=st.sampled_from([(), (2,), (2, 4), (3,)]),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
)
def test_a_shrunk_window_holds_the_means_of_its_overview(make_raster, window, shrink, overviews, dtype):
    path = make_raster(noise(2, dtype), nodata=5, **LAYOUTS["tiles"])
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(overviews, Resampling.nearest)
    step = max((step for step in overviews if shrink % step == 0), default=1)
    with open_raster(str(path)) as raster, WindowReader() as reader:
        request = Request(raster, window, shrink)
        (found,) = reader.read([request])
        overview, _ = raster.overview(step)
        assert overview.grid == (raster.grid.shrink(step) if step > 1 else raster.grid)
        row, column, height, width = window.cells(shrink)
        assert found.pixels_CHW.shape == request.shape == (2, height, width)
        rest = shrink // step
        for down in range(height):
            for right in range(width):
                cell = Window((row + down) * rest, (column + right) * rest, rest, rest)
                pixels_CHW, valid_HW = overview.read_native(cell)
                enough = valid_HW.mean() >= 0.5
                assert found.valid_HW[down, right] == enough
                means_C = pixels_CHW[:, valid_HW].mean(axis=1, dtype=float) if enough else np.zeros(2)
                means_C = means_C if dtype == "float32" else np.rint(means_C)
                np.testing.assert_allclose(found.pixels_CHW[:, down, right], means_C, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_real_rasters_are_read_like_one_by_one(data):
    random = np.random.default_rng(0)
    opened = []
    for path in sorted([*data.rglob("*.tif"), *data.rglob("*.vrt")]):
        with contextlib.suppress(UserError):
            opened.append(open_raster(str(path), require_crs=False))
    requests = [
        Request(raster, Window(*random.integers((-30, -30), raster.grid[2:]).tolist(), 100, 90))
        for raster in opened
        for _ in range(4)
    ]
    with WindowReader() as reader:
        readable = [request for request in requests if reads_alone(request)]
        assert_same(readable, reader.read(readable))
    assert len(readable) > 100
    for raster in opened:
        raster.close()


def reads_alone(request: Request) -> bool:
    try:
        request.raster.read_native(request.window)
    except UserError:
        return False
    return True


def test_damage_is_told_only_where_a_window_shows_it(make_raster):
    path = make_raster(noise(height=256, width=64), blockysize=1, compress="deflate", interleave="pixel")
    offset = _strip(path, 40)
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    with open_raster(str(path)) as raster, WindowReader() as reader:
        assert raster.cells().window(0, 0).height == 64
        requests = [Request(raster, Window(0, 0, 40, 64)), Request(raster, Window(41, 3, 80, 40))]
        assert_same(requests, reader.read(requests))
        with pytest.raises(UserError, match="is damaged"):
            reader.read([*requests, Request(raster, Window(30, 0, 20, 20))])


def _strip(path: Path, row: int) -> int:
    """Return where the strip of a row starts in the file."""
    with rasterio.open(path) as file:
        return int(file.get_tag_item(f"BLOCK_OFFSET_0_{row}", "TIFF", bidx=1))
