import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rsfm import canvas, inference
from rsfm.errors import Stopped, UserError
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.raster import strips
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.tiling import any_in_cells
from torch import nn

PROFILE = {"driver": "GTiff", "crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Toy(TileNetwork):
    """Three 3 x 3 convolutions with reflected edges: sees 3 pixels around each."""

    def __init__(self, bands, margin=3, multiple=1):
        super().__init__()
        torch.manual_seed(0)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
            for inputs, outputs in ((bands, 6), (6, 6), (6, 3))
        )
        self.outputs, self.stride, self.margin, self.multiple = 3, 1, margin, multiple

    def forward(self, pixels_BCSS, valid_BSS):
        features = pixels_BCSS
        for conv in self.convs:
            features = torch.tanh(conv(features))
        return features


class Identity(TileNetwork):
    def __init__(self, outputs, stride=1, margin=None, multiple=1):
        super().__init__()
        self.outputs, self.stride, self.margin, self.multiple = outputs, stride, margin, multiple
        self.calls, self.shapes, self.seen_devices = 0, set(), set()

    def forward(self, pixels_BCSS, valid_BSS):
        self.calls += 1
        self.shapes.add(tuple(pixels_BCSS.shape))
        return nn.functional.avg_pool2d(pixels_BCSS, self.stride) if self.stride > 1 else pixels_BCSS


class Constant(Identity):
    def forward(self, pixels_BCSS, valid_BSS):
        return super().forward(pixels_BCSS, valid_BSS) * 0 + 7.25


def write(path, pixels, **profile):
    bands, height, width = pixels.shape
    profile = {**PROFILE, "count": bands, "height": height, "width": width, "dtype": pixels.dtype, **profile}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return str(path)


def noise(bands, height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(bands, height, width)).astype(np.float32)


def result(network, path, window=None, tile=64, overlap=16, batch=3, check=lambda: None, inside=None):
    rows, valid, progress = [], [], []

    def finish(rows_Khw, valid_hw):
        rows.append(rows_Khw.copy())
        valid.append(valid_hw.copy())

    with open_raster(path) as raster:
        tiling = TilingConfig(tile_size=tile, tile_overlap=overlap)
        whole = window or raster.grid.window
        run_tiles(network, raster, whole, tiling, "cpu", batch, finish, check, progress.append, inside)
    assert progress == sorted(progress)
    assert progress[-1] == 1
    return np.concatenate(rows, axis=1), np.concatenate(valid)


def whole(network, pixels, margin):
    """Run a network over a whole raster, surrounded by its mirror image, as one tile."""
    padded = np.pad(pixels, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    tensor = torch.from_numpy(padded)[None]
    with torch.inference_mode():
        outputs = network(tensor, torch.ones_like(tensor[:, 0], dtype=torch.bool))[0].numpy()
    return outputs[:, margin : outputs.shape[1] - margin, margin : outputs.shape[2] - margin]


@pytest.mark.parametrize("tile", [64, 128, 256])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (63, 64), (64, 64), (65, 64), (3 * 64 + 17, 90)])
def test_a_finite_network_in_tiles_equals_the_whole_raster(tmp_path, shape, tile):
    pixels = noise(2, *shape)
    network = Toy(2)
    found, valid = result(network, write(tmp_path / "a.tif", pixels), tile=tile)
    assert valid.all()
    np.testing.assert_allclose(found, whole(network, pixels, 3), atol=1e-6)


def test_a_margin_that_is_too_small_is_found_by_this_comparison(tmp_path):
    pixels = noise(2, 200, 90)
    found, _ = result(Toy(2, margin=1), write(tmp_path / "a.tif", pixels))
    assert np.abs(found - whole(Toy(2), pixels, 3)).max() > 1e-3


@SLOW
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.sampled_from([32, 64, 96]),
    overlap=st.integers(0, 16),
    margin=st.sampled_from([None, 0, 5]),
    stride=st.sampled_from([1, 2, 4]),
    multiple=st.sampled_from([1, 4, 14]),
)
def test_a_constant_stays_constant_and_coordinates_stay_in_place(
    tmp_path, height, width, tile, overlap, margin, stride, multiple
):
    coordinates = np.stack(np.mgrid[:height, :width]).astype(np.float32)
    path = write(tmp_path / "a.tif", coordinates)
    found, valid = result(Constant(2, stride, margin, multiple), path, tile=tile, overlap=overlap)
    assert found.shape == (2, -(-height // stride), -(-width // stride))
    assert valid.all()
    np.testing.assert_allclose(found, 7.25, atol=1e-5)
    found, _ = result(Identity(2, stride, margin, multiple), path, tile=tile, overlap=overlap)
    inside_H, inside_W = height // stride, width // stride
    centre = (stride - 1) / 2
    expected = np.stack(np.mgrid[:inside_H, :inside_W]) * stride + centre
    np.testing.assert_allclose(found[:, :inside_H, :inside_W], expected, atol=1e-4)


@pytest.mark.parametrize("tile", [64, 96, 160])
def test_tile_size_and_batch_size_do_not_change_a_finite_network(tmp_path, tile):
    path = write(tmp_path / "a.tif", noise(2, 210, 150))
    first, _ = result(Toy(2), path, tile=64, batch=1)
    for batch in (1, 3, 8):
        found, _ = result(Toy(2), path, tile=tile, batch=batch)
        np.testing.assert_allclose(found, first, atol=1e-6)


def test_batch_size_does_not_change_a_network_that_sees_the_whole_tile(tmp_path):
    class Global(Toy):
        def forward(self, pixels_BCSS, valid_BSS):
            return super().forward(pixels_BCSS, valid_BSS) + pixels_BCSS.mean(dim=(1, 2, 3), keepdim=True)

    path = write(tmp_path / "a.tif", noise(2, 210, 150))
    first, _ = result(Global(2, margin=None), path, batch=1)
    for batch in (3, 8):
        np.testing.assert_allclose(result(Global(2, margin=None), path, batch=batch)[0], first, atol=1e-6)


def test_batches_have_one_shape_even_the_last(tmp_path):
    network = Identity(1)
    result(network, write(tmp_path / "a.tif", noise(1, 210, 150)), batch=4)
    assert network.shapes == {(4, 1, 64, 64)}


@SLOW
@given(
    data=st.data(),
    margin=st.sampled_from([None, 3]),
    tile=st.sampled_from([32, 64]),
    overlap=st.sampled_from([0, 8, 16]),
)
def test_the_result_of_an_area_is_the_crop_of_the_full_one(tmp_path, data, margin, tile, overlap):
    pixels = noise(2, 170, 140)
    pixels[:, 40:90, 30:80] = np.nan
    path = write(tmp_path / "a.tif", pixels, nodata=np.nan)
    row, column = data.draw(st.integers(0, 169)), data.draw(st.integers(0, 139))
    window = Window(row, column, data.draw(st.integers(1, 170 - row)), data.draw(st.integers(1, 140 - column)))
    full, full_valid = result(Toy(2, margin), path, tile=tile, overlap=overlap)
    part, part_valid = result(Toy(2, margin), path, window, tile=tile, overlap=overlap)
    rows, columns = slice(row, row + window.height), slice(column, column + window.width)
    np.testing.assert_array_equal(part_valid, full_valid[rows, columns])
    np.testing.assert_array_equal(part[:, part_valid], full[:, rows, columns][:, part_valid])


@pytest.mark.parametrize(("margin", "stride"), [(None, 1), (3, 1), (None, 4), (4, 4)])
def test_polygons_are_the_crop_of_the_full_result_and_tiles_outside_are_not_run(tmp_path, margin, stride):
    pixels = noise(2, 400, 300)
    pixels[:, 40:90, 30:80] = np.nan
    path = write(tmp_path / "a.tif", pixels, nodata=np.nan)
    wanted = np.zeros((400, 300), bool)
    wanted[20:70, 10:55] = wanted[333:340, 290:300] = True

    def inside(window):
        return wanted[window.row : window.row + window.height, window.column : window.column + window.width]

    full, full_valid = result(Identity(2, stride, margin), path)
    network = Identity(2, stride, margin)
    part, part_valid = result(network, path, batch=1, inside=inside)
    asked = any_in_cells(wanted, stride)
    np.testing.assert_array_equal(part_valid, full_valid & asked)
    np.testing.assert_array_equal(part[:, part_valid], full[:, part_valid])
    assert 0 < network.calls < 16


@pytest.mark.parametrize("window", [Window(5, 3, 50, 41), Window(4, 8, 1, 1), Window(90, 66, 13, 4)])
@pytest.mark.parametrize("margin", [None, 4])
def test_cells_of_an_area_are_those_of_the_full_result(tmp_path, window, margin):
    pixels = noise(1, 103, 70)
    pixels[:, 20:60, 9:33] = np.nan
    path = write(tmp_path / "a.tif", pixels, nodata=np.nan)
    full, full_valid = result(Identity(1, 4, margin), path, tile=32, overlap=8)
    part, part_valid = result(Identity(1, 4, margin), path, window, tile=32, overlap=8)
    cells = window.cells(4)
    rows, columns = slice(cells.row, cells.row + cells.height), slice(cells.column, cells.column + cells.width)
    np.testing.assert_array_equal(part_valid, full_valid[rows, columns])
    np.testing.assert_array_equal(part[:, part_valid], full[:, rows, columns][:, part_valid])
    any_valid = np.zeros(full_valid.shape, bool)
    for row, column in zip(*np.nonzero(np.isfinite(pixels[0])), strict=True):
        any_valid[row // 4, column // 4] = True
    np.testing.assert_array_equal(full_valid, any_valid)


def test_moving_a_raster_on_the_map_does_not_change_its_pixels(tmp_path):
    pixels = noise(2, 100, 90)
    here, _ = result(Toy(2), write(tmp_path / "a.tif", pixels))
    there, _ = result(Toy(2), write(tmp_path / "b.tif", pixels, transform=Affine(10, 0, 500003.7, 0, -10, 4000001.3)))
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("margin", [None, 3])
def test_nodata_stays_nodata_and_its_neighbours_stay_finite(tmp_path, margin):
    pixels = np.random.default_rng(0).integers(1, 4000, (5, 150, 130)).astype(np.uint16)
    pixels[2, 30:60, 20:100] = 0
    pixels[4] = 65535
    pixels[4, 100:120, :] = 0
    path = write(tmp_path / "a.tif", pixels, nodata=0, photometric="rgb", alpha="unspecified")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [*dataset.colorinterp[:4], rasterio.enums.ColorInterp.alpha]
    found, valid = result(Toy(4, margin), path)
    np.testing.assert_array_equal(valid, (pixels != 0).all(axis=0))
    assert np.isfinite(found).all()


def test_not_a_number_is_invalid_without_a_nodata_value(tmp_path):
    pixels = noise(2, 90, 80)
    pixels[0, 10:20, 10:20] = np.nan
    pixels[1, 50, 50] = np.inf
    found, valid = result(Toy(2), write(tmp_path / "a.tif", pixels))
    np.testing.assert_array_equal(valid, np.isfinite(pixels).all(axis=0))
    assert np.isfinite(found).all()


def test_tiles_without_a_valid_pixel_are_not_run(tmp_path):
    pixels = np.zeros((1, 64 * 4, 64 * 4), np.uint8)
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    network = Identity(1, margin=0)
    _, valid = result(network, path, batch=1)
    assert not valid.any()
    assert network.calls == 0
    pixels[0, 70, 200] = 1
    pixels[0, 255, 0] = 1
    path = write(tmp_path / "a.tif", pixels, nodata=0)
    found, valid = result(network, path, batch=1)
    assert network.calls == 2
    np.testing.assert_array_equal(valid, pixels[0] == 1)
    np.testing.assert_array_equal(found[0][valid], pixels[0][valid])


LAYOUTS = {
    "tiled by pixel": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"},
    "tiled by band": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band"},
    "striped": {"tiled": False, "compress": "deflate"},
    "south up": {"transform": Affine(10, 0, 500000, 0, 10, 5000000)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_the_file_does_not_change_the_result(tmp_path, layout):
    pixels = noise(2, 150, 130)
    found, _ = result(Toy(2), write(tmp_path / "a.tif", pixels, **LAYOUTS[layout]))
    np.testing.assert_allclose(found, whole(Toy(2), pixels, 3), atol=1e-6)


def test_a_virtual_mosaic_is_one_raster(tmp_path):
    pixels = noise(2, 150, 130)
    write(tmp_path / "left.tif", pixels[:, :, :70])
    write(tmp_path / "right.tif", pixels[:, :, 70:], transform=PROFILE["transform"] @ Affine.translation(70, 0))
    sources = "".join(
        f"""<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>{{band}}</SourceBand>
        <SrcRect xOff="0" yOff="0" xSize="{width}" ySize="150"/>
        <DstRect xOff="{start}" yOff="0" xSize="{width}" ySize="150"/></SimpleSource>"""
        for name, start, width in (("left", 0, 70), ("right", 70, 60))
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Float32" band="{band}">{sources.format(band=band)}</VRTRasterBand>'
        for band in (1, 2)
    )
    (tmp_path / "a.vrt").write_text(
        '<VRTDataset rasterXSize="130" rasterYSize="150"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>{bands}</VRTDataset>"
    )
    found, _ = result(Toy(2), str(tmp_path / "a.vrt"))
    np.testing.assert_allclose(found, whole(Toy(2), pixels, 3), atol=1e-6)


@pytest.mark.parametrize("margin", [None, 3])
def test_small_budgets_of_memory_do_not_change_the_result(tmp_path, monkeypatch, margin):
    pixels = noise(2, 170, 300)
    pixels[:, :, 100:180] = np.nan
    path = write(tmp_path / "a.tif", pixels)
    expected, expected_valid = result(Toy(2, margin), path)
    monkeypatch.setattr(strips, "STRIP_BYTES", 2 * 4 * 64 * 130)
    monkeypatch.setattr(canvas, "CANVAS_BYTES", 1)
    monkeypatch.setattr(canvas, "FINISH_BYTES", 300 * 3 * 4 * 5)
    monkeypatch.setattr(inference, "WAITING_BYTES", 1)
    found, valid = result(Toy(2, margin), path)
    np.testing.assert_array_equal(valid, expected_valid)
    np.testing.assert_array_equal(found[:, valid], expected[:, valid])


def test_rows_of_nodata_are_handed_over_as_they_come_and_not_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "WAITING_BYTES", 1)
    path = write(tmp_path / "a.tif", np.zeros((1, 64 * 8, 64), np.uint8), nodata=0)
    seen, finished = [], []
    with open_raster(path) as raster:
        run_tiles(
            Identity(1, margin=0),
            raster,
            raster.grid.window,
            TilingConfig(tile_size=64, tile_overlap=0),
            "cpu",
            4,
            lambda rows_Khw, valid_hw: finished.append(len(valid_hw)),
            lambda: seen.append(sum(finished)),
            lambda done: None,
        )
    assert seen == [64 * row for row in range(8)]
    assert sum(finished) == 64 * 8


def test_the_user_can_end_it_within_a_batch(tmp_path):
    network = Identity(1)
    path = write(tmp_path / "a.tif", noise(1, 400, 400))

    def check():
        if network.calls == 3:
            raise Stopped

    with pytest.raises(Stopped):
        result(network, path, batch=2, check=check)
    assert network.calls == 3


def test_a_batch_that_does_not_fit_is_run_in_halves_and_a_tile_that_does_not_is_said(tmp_path):
    class Hungry(Identity):
        limit = 1

        def forward(self, pixels_BCSS, valid_BSS):
            if len(pixels_BCSS) > self.limit:
                raise torch.OutOfMemoryError
            return super().forward(pixels_BCSS, valid_BSS)

    pixels = noise(1, 150, 130)
    path = write(tmp_path / "a.tif", pixels)
    found, _ = result(Hungry(1), path, batch=5)
    np.testing.assert_allclose(found, pixels, atol=1e-6)
    network = Hungry(1)
    network.limit = 0
    with pytest.raises(UserError, match="Choose a smaller 'Tile size'") as caught:
        result(network, path, batch=5)
    assert caught.value.field == "tiling.tile_size"
