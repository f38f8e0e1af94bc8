"""Blocks that are decoded without GDAL are what GDAL reads, bit for bit; it reads all that is unusual."""

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.windows import Window as FileWindow
from rsfm.errors import UserError
from rsfm.raster.grid import Window
from rsfm.raster.mosaic_blocks import NoBlocks, find_blocks
from rsfm.raster.reader import open_raster
from rsfm.raster.tiff_blocks import TiffBlocks
from rsfm.raster.tiff_layout import read_layout
from rsfm.raster.window_reader import Request, WindowReader

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEIGHT, WIDTH = 75, 58
WHOLE = Window(0, 0, HEIGHT, WIDTH)
TILES = {"tiled": True, "blockxsize": 16, "blockysize": 32}
LAYOUTS = [TILES, {"blockysize": 1}, {"blockysize": 7}, {"blockysize": 500}]
DECODED = ("deflate", "zstd")


def noise(bands: int, dtype: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = (
        random.normal(100, 40, (bands, HEIGHT, WIDTH))
        if dtype[0] == "f"
        else random.integers(0, 2**15, (bands, HEIGHT, WIDTH))
    )
    return values.astype(dtype)


def gdal(path, window: Window = WHOLE) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(window=FileWindow(window.column, window.row, window.width, window.height))


def decode(path, window: Window = WHOLE, numbers=(1, 2, 3)) -> tuple[bool, np.ndarray]:
    with rasterio.open(path) as file:
        bands_CHW = np.zeros((len(numbers), window.height, window.width), file.dtypes[0])
        return find_blocks(file).read(window, numbers, list(bands_CHW)), bands_CHW


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8)


@SETTINGS
@given(
    compress=st.sampled_from(["none", "lzw", *DECODED]),
    predictor=st.sampled_from([1, 2, 3]),
    layout=st.sampled_from(LAYOUTS),
    interleave=st.sampled_from(["band", "pixel"]),
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int64", "float32", "float64"]),
    order=st.sampled_from(["LITTLE", "BIG"]),
    big=st.sampled_from(["YES", "NO"]),
    bands=st.integers(1, 4),
    numbers=st.lists(st.integers(1, 4), min_size=1, max_size=4, unique=True),
    corner=st.tuples(st.integers(0, 2), st.integers(0, 3)),
)
def test_whole_blocks_are_those_of_gdal(
    make_raster, compress, predictor, layout, interleave, dtype, order, big, bands, numbers, corner
):
    numbers = [number for number in numbers if number <= bands] or [1]
    predictor = predictor if (predictor == 3) == (dtype[0] == "f") or predictor == 1 else 1
    packed = {"compress": compress, "predictor": predictor} if compress != "none" else {}
    path = make_raster(noise(bands, dtype), interleave=interleave, ENDIANNESS=order, BIGTIFF=big, **packed, **layout)
    high, wide = rasterio.open(path).block_shapes[0]
    row, column = min(corner[0], (HEIGHT - 1) // high) * high, min(corner[1], (WIDTH - 1) // wide) * wide
    window = Window(row, column, HEIGHT, WIDTH).intersection(WHOLE)
    done, found_CHW = decode(path, window, numbers)
    assert done == (compress in DECODED and predictor > 1)
    if done:
        np.testing.assert_array_equal(bits(found_CHW), bits(gdal(path, window)[[number - 1 for number in numbers]]))


@SETTINGS
@given(
    layout=st.sampled_from(LAYOUTS),
    interleave=st.sampled_from(["band", "pixel"]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    nodata=st.sampled_from([None, 0, 7]),
    hole=st.booleans(),
    mask=st.booleans(),
    window=st.builds(Window, st.integers(-9, 70), st.integers(-9, 50), st.integers(1, 90), st.integers(1, 70)),
)
def test_windows_with_holes_masks_and_nodata_are_those_of_gdal(
    make_raster, layout, interleave, dtype, nodata, hole, mask, window
):
    pixels_CHW = noise(3, dtype)
    pixels_CHW[:, 20:50, 10:30] = 7
    path = make_raster(pixels_CHW, compress="deflate", predictor=2 if dtype != "float32" else 3,
                       interleave=interleave, nodata=nodata, **layout)  # fmt: skip
    if hole:
        profile = {
            "interleave": interleave,
            "compress": "deflate",
            "predictor": 2 if dtype != "float32" else 3,
            "nodata": nodata,
            "SPARSE_OK": True,
            **layout,
        }
        with rasterio.open(
            path, "w", driver="GTiff", count=3, height=HEIGHT, width=WIDTH, dtype=dtype, **profile
        ) as file:
            file.write(pixels_CHW[:, :32], window=FileWindow(0, 0, WIDTH, 32))
    mask_HW = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.9
    if mask:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
            file.write_mask(mask_HW)
    with open_raster(str(path), require_crs=False) as ours, open_raster(str(path), require_crs=False) as plain:
        plain._blocks, reader = NoBlocks(), WindowReader()
        (patch,) = reader.read([Request(ours, window)])
        pixels_CHW, valid_HW = plain.read_native(window)
        reader.close()
    np.testing.assert_array_equal(patch.pixels_CHW, pixels_CHW)
    np.testing.assert_array_equal(patch.valid_HW, valid_HW)


def test_a_block_that_was_never_written_is_left_to_gdal(make_raster):
    path = make_raster(noise(3, "uint16"), compress="deflate", predictor=2, **TILES)
    with rasterio.open(path, "w", driver="GTiff", count=3, height=HEIGHT, width=WIDTH, dtype="uint16",
                       compress="deflate", predictor=2, SPARSE_OK=True, **TILES) as file:  # fmt: skip
        file.write(noise(3, "uint16")[:, :32, :16], window=FileWindow(0, 0, 16, 32))
    assert decode(path, Window(0, 0, 32, 16))[0]
    assert not decode(path)[0]


@pytest.mark.parametrize(
    "window", [Window(1, 0, 31, 16), Window(0, 0, 32, 15), Window(64, 0, 32, 16), Window(-32, 0, 64, 16)]
)
def test_parts_of_blocks_are_left_to_gdal(make_raster, window):
    assert not decode(make_raster(noise(3, "uint16"), compress="deflate", predictor=2, **TILES), window)[0]


@pytest.mark.parametrize("compress", DECODED)
@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_a_damaged_block_is_named(make_raster, compress, interleave):
    path = make_raster(noise(3, "uint16"), compress=compress, predictor=2, interleave=interleave, **TILES)
    blocks = TiffBlocks.find(str(path))
    assert blocks
    place = int(blocks.layout.offsets_PRC[0, 0, 0])
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes(64))
    assert not decode(path)[0]
    with (
        open_raster(str(path)) as raster,
        pytest.raises(UserError, match="is damaged: its pixels near row 0, column 0"),
    ):
        raster.read_native(WHOLE)


def test_a_file_that_was_changed_meanwhile_is_left_to_gdal(make_raster, tmp_path):
    path = make_raster(noise(3, "uint16"), compress="deflate", predictor=2, **TILES)
    with open_raster(str(path)) as raster:
        before_CHW, _ = raster.read_native(WHOLE)
        path.rename(tmp_path / "moved.tif")
        moved_CHW, _ = raster.read_native(WHOLE)
        make_raster(noise(3, "uint16", seed=1), compress="deflate", predictor=2, **TILES)
        replaced_CHW, _ = raster.read_native(WHOLE)
    np.testing.assert_array_equal(moved_CHW, before_CHW)
    np.testing.assert_array_equal(replaced_CHW, before_CHW)


@pytest.mark.parametrize(
    "unusual",
    [
        {"predictor": 1},
        {"NBITS": 12, "predictor": 1},
        {"photometric": "cmyk", "count": 4},
        {"compress": "lerc", "predictor": 1},
        {"compress": "packbits", "predictor": 1},
    ],
)
def test_unusual_files_are_left_to_gdal(make_raster, unusual):
    count = unusual.pop("count", 3)
    path = make_raster(noise(count, "uint16") % 4096, **{"compress": "deflate", "predictor": 2, **TILES, **unusual})
    assert not decode(path)[0]


@pytest.mark.parametrize(
    "data", [b"", b"II", b"PK\3\4" * 9, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(90)]
)
def test_what_is_no_tiff_has_no_layout(tmp_path, data):
    (tmp_path / "odd.tif").write_bytes(data)
    assert read_layout(tmp_path / "odd.tif") is None
    assert read_layout(tmp_path) is None


@pytest.mark.parametrize(("table", "value"), [("offsets_PRC", 2**62), ("sizes_PRC", 2**62), ("sizes_PRC", -8)])
def test_blocks_that_cannot_lie_in_the_file_take_no_memory(make_raster, table, value):
    path = make_raster(noise(1, "uint16"), compress="deflate", predictor=2, **TILES)
    blocks = TiffBlocks.find(str(path))
    getattr(blocks.layout, table)[...] = value
    assert not blocks.read(WHOLE, [1], [np.empty((HEIGHT, WIDTH), np.uint16)])


def vrt(tmp_path, band: str, dtype: str = "UInt16", width: int = 2 * WIDTH, bands: int = 1):
    inner = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{number + 1}">{band}</VRTRasterBand>' for number in range(bands)
    )
    (tmp_path / "mosaic.vrt").write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{HEIGHT}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 5100000, 0, -10</GeoTransform>{inner}</VRTDataset>"
    )
    return tmp_path / "mosaic.vrt"


def source(name: str, at: int, kind: str = "SimpleSource", band: str = "2", more: str = "", width: int = WIDTH) -> str:
    return (
        f'<{kind}><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band}</SourceBand>{more}'
        f'<SrcRect xOff="0" yOff="0" xSize="{WIDTH}" ySize="{HEIGHT}"/>'
        f'<DstRect xOff="{at}" yOff="0" xSize="{width}" ySize="{HEIGHT}"/></{kind}>'
    )


def test_a_mosaic_is_decoded_where_one_file_covers_the_window(make_raster, tmp_path):
    for seed in (0, 1):
        make_raster(noise(3, "uint16", seed), f"{seed}.tif", compress="deflate", predictor=2, **TILES)
    path = vrt(tmp_path, source("0.tif", 0) + source("1.tif", WIDTH))
    right = Window(0, WIDTH, HEIGHT, WIDTH)
    for window in (WHOLE, right):
        done, found_CHW = decode(path, window, [1])
        assert done
        np.testing.assert_array_equal(found_CHW, gdal(path, window))
    np.testing.assert_array_equal(found_CHW[0], noise(3, "uint16", 1)[1])
    assert not decode(path, Window(0, 0, HEIGHT, 2 * WIDTH), [1])[0]


@pytest.mark.parametrize(
    ("band", "dtype"),
    [
        (source("0.tif", 0, width=2 * WIDTH), "UInt16"),
        (source("0.tif", 0) + source("0.tif", 8), "UInt16"),
        (source("0.tif", 0, "ComplexSource", more="<ScaleRatio>2</ScaleRatio>"), "UInt16"),
        (source("0.tif", 0, band="mask,1"), "UInt16"),
        (source("0.tif", 0), "Byte"),
        (source("0.tif", 0, more='<OpenOptions><OOI key="OVERVIEW_LEVEL">0</OOI></OpenOptions>'), "UInt16"),
    ],
    ids=["resized", "overlapping", "scaled", "mask", "another type", "opened otherwise"],
)
def test_an_unusual_mosaic_is_left_to_gdal(make_raster, tmp_path, band, dtype):
    make_raster(noise(3, "uint16"), "0.tif", compress="deflate", predictor=2, **TILES)
    assert not decode(vrt(tmp_path, band, dtype), WHOLE, [1])[0]
