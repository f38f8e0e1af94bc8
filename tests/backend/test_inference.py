import numpy as np
import pytest
import torch
from rsfm import canvas, inference
from rsfm.errors import Stopped, UserError
from rsfm.inference import run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.raster import strips
from rsfm.raster.reader import open_raster

from .tiling.networks import Identity, Toy, noise, result, write


def test_batches_have_one_shape_even_the_last(tmp_path):
    network = Identity(1)
    result(network, write(tmp_path / "a.tif", noise(1, 210, 150)), batch=4)
    assert network.shapes == {(4, 1, 64, 64)}


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
