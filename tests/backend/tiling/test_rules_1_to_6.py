"""Rules 1 to 6 of tiled inference: what a map's pixels must not depend on."""

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rsfm.model_file import build_encoder
from rsfm.raster.grid import Window
from rsfm.raster.tiling import any_in_cells, axis_weights, plan_tiles, tile_starts

from ..raster.test_tiling import margins, multiples, sizes, strides, tilings
from .networks import SLOW, Constant, Identity, Toy, noise, result, whole, write


@pytest.mark.parametrize("tile", [64, 128, 256])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (63, 64), (64, 64), (65, 64), (3 * 64 + 17, 90)])
def test_8_4_1_halo_equals_whole_image(tmp_path, shape, tile):
    pixels = noise(2, *shape)
    network = Toy(2)
    found, valid = result(network, write(tmp_path / "a.tif", pixels), tile=tile)
    assert valid.all()
    np.testing.assert_allclose(found, whole(network, pixels, 3), atol=1e-6)


@SLOW
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    tile=st.sampled_from([32, 64, 96, 160]),
    batch=st.integers(1, 5),
    bands=st.integers(1, 4),
    dtype=st.sampled_from(["uint8", "int16", "float32", "float64"]),
)
def test_8_4_1_halo_equals_whole_image_at_any_size_and_type(tmp_path, height, width, tile, batch, bands, dtype):
    pixels = (noise(bands, height, width).clip(-2, 2) + 3).astype(dtype)
    found, valid = result(Toy(bands), write(tmp_path / "a.tif", pixels), tile=tile, batch=batch)
    assert valid.all()
    np.testing.assert_allclose(found, whole(Toy(bands), pixels.astype(np.float32), 3), atol=2e-6)


def test_8_4_1_a_halo_that_is_too_small_is_found_by_this_comparison(tmp_path):
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
def test_8_4_2_a_constant_stays_constant_and_coordinates_stay_in_place(
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


@given(tilings, sizes, multiples, strides, margins)
def test_8_4_3_weights_are_positive_and_sum_to_one_everywhere(tiling, size, multiple, stride, margin):
    plan = plan_tiles(tiling, multiple, stride, margin)
    starts = tile_starts(size, plan)
    weights_TN = axis_weights(starts, plan)
    sums = np.zeros((starts[-1] + plan.core) // stride)
    for start, weights_N in zip(starts, weights_TN, strict=True):
        assert weights_N.min() > 0
        sums[start // stride : start // stride + len(weights_N)] += weights_N
    assert np.abs(sums - 1).max() <= 1e-6


@given(tilings, sizes, sizes, multiples)
@settings(max_examples=20, deadline=None)
def test_8_4_3_weights_of_both_axes_sum_to_one_at_every_pixel(tiling, height, width, multiple):
    plan = plan_tiles(tiling, multiple, 1, None)
    rows, columns = tile_starts(min(height, 400), plan), tile_starts(min(width, 400), plan)
    sums_HW = np.zeros((rows[-1] + plan.core, columns[-1] + plan.core), np.float32)
    shares = np.zeros(sums_HW.shape, int)
    for row, row_N in zip(rows, axis_weights(rows, plan), strict=True):
        for column, column_N in zip(columns, axis_weights(columns, plan), strict=True):
            sums_HW[row : row + plan.core, column : column + plan.core] += row_N[:, None] * column_N
            shares[row : row + plan.core, column : column + plan.core] += 1
            alone_N = np.concatenate([[band.alone] * (band.end - band.first) for band in plan.bands])
            assert len(alone_N) == plan.core
            assert ((row_N[:, None] * column_N)[np.outer(alone_N, alone_N)] == 1).all()
    assert np.abs(sums_HW - 1).max() <= 1e-6
    assert shares.min() >= 1


@pytest.mark.parametrize("tile", [64, 96, 160])
def test_8_4_4_tile_size_and_batch_size_do_not_change_a_finite_network(tmp_path, tile):
    path = write(tmp_path / "a.tif", noise(2, 210, 150))
    first, _ = result(Toy(2), path, tile=64, batch=1)
    for batch in (1, 3, 8):
        found, _ = result(Toy(2), path, tile=tile, batch=batch)
        np.testing.assert_allclose(found, first, atol=1e-6)


def test_8_4_4_batch_size_does_not_change_a_vision_transformer(tmp_path):
    class Features(Identity):
        """A ViT of random weights, whose every patch sees the whole tile."""

        def __init__(self):
            super().__init__(24, stride=16, multiple=16)
            torch.manual_seed(0)
            self.encoder = build_encoder({"name": "vit", "size": "tiny", "patch_size": 16}, 2)

        def forward(self, pixels_BCSS, valid_BSS):
            return self.encoder.feature_maps(pixels_BCSS)[-1].features_BDhw[:, :24]

    path = write(tmp_path / "a.tif", noise(2, 150, 130))
    first, _ = result(Features(), path, batch=1)
    for batch in (3, 8):
        np.testing.assert_allclose(result(Features(), path, batch=batch)[0], first, atol=1e-5)


def test_8_4_4_batch_size_does_not_change_a_network_that_sees_the_whole_tile(tmp_path):
    class Global(Toy):
        def forward(self, pixels_BCSS, valid_BSS):
            return super().forward(pixels_BCSS, valid_BSS) + pixels_BCSS.mean(dim=(1, 2, 3), keepdim=True)

    path = write(tmp_path / "a.tif", noise(2, 210, 150))
    first, _ = result(Global(2, margin=None), path, batch=1)
    for batch in (3, 8):
        np.testing.assert_allclose(result(Global(2, margin=None), path, batch=batch)[0], first, atol=1e-6)


@SLOW
@given(
    data=st.data(),
    margin=st.sampled_from([None, 3]),
    tile=st.sampled_from([32, 64]),
    overlap=st.sampled_from([0, 8, 16]),
)
def test_8_4_5_the_result_of_an_area_is_the_crop_of_the_full_one(tmp_path, data, margin, tile, overlap):
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
def test_8_4_5_polygons_are_the_crop_of_the_full_result_and_tiles_outside_are_not_run(tmp_path, margin, stride):
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
def test_8_4_5_cells_of_an_area_are_those_of_the_full_result(tmp_path, window, margin):
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


def test_8_4_5_moving_a_raster_on_the_map_does_not_change_its_pixels(tmp_path):
    pixels = noise(2, 100, 90)
    here, _ = result(Toy(2), write(tmp_path / "a.tif", pixels))
    there, _ = result(Toy(2), write(tmp_path / "b.tif", pixels, transform=Affine(10, 0, 500003.7, 0, -10, 4000001.3)))
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("margin", [None, 3])
def test_8_4_6_nodata_stays_nodata_and_its_neighbours_stay_finite(tmp_path, margin):
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


def test_8_4_6_not_a_number_is_invalid_without_a_nodata_value(tmp_path):
    pixels = noise(2, 90, 80)
    pixels[0, 10:20, 10:20] = np.nan
    pixels[1, 50, 50] = np.inf
    found, valid = result(Toy(2), write(tmp_path / "a.tif", pixels))
    np.testing.assert_array_equal(valid, np.isfinite(pixels).all(axis=0))
    assert np.isfinite(found).all()


def test_8_4_6_tiles_without_a_valid_pixel_are_not_run(tmp_path):
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
