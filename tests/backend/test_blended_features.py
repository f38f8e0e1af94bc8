"""A transformer sees its whole tile, so tiles are blended: maps are those of the blended features all the same."""

from typing import Any

import numpy as np
import pytest
import torch
from rsfm import batch_size, model_file
from rsfm.centres import load_centres
from rsfm.components import load_basis
from rsfm.inference import run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.model_file import Card, build_encoder
from rsfm.networks import EncoderNetwork
from rsfm.raster.reader import open_raster
from rsfm.raster.statistics import band_statistics

from .test_clustering import predict
from .test_embedding import TILING, write_scene
from .toy_model import pixels, run_job

VIT = {"name": "vit", "size": "free", "width": 48, "depth": 2, "heads": 3, "patch_size": 16, "window": 64}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A scene, a small transformer, and its blended features in memory, per patch and per pixel."""
    folder = tmp_path_factory.mktemp("blended")
    scene = write_scene(folder / "first.tif", 0)
    torch.manual_seed(0)
    with open_raster(str(scene)) as raster:
        statistics = band_statistics([raster], [raster.grid.window], 0)
        encoder = build_encoder(VIT, raster.bands).eval()
        card = Card(bands=raster.bands, statistics=statistics, gsd=10, encoder=VIT)
        model_file.save(folder / "vit.safetensors", card, model_file.parts(encoder=encoder))
        features = {
            grid: whole(EncoderNetwork(encoder, statistics, dense=grid == "pixel"), raster)
            for grid in ("patch", "pixel")
        }
    config = {"raster": str(scene), "model": str(folder / "vit.safetensors"), "tiling": TILING, "device": "cpu"}
    return {"folder": folder, "features": features, "config": config}


def whole(network: EncoderNetwork, raster: Any) -> np.ndarray:
    """Collect the blended features of a whole raster, NaN where invalid."""
    found: list[np.ndarray] = []

    def keep(features_DHW: np.ndarray, valid_HW: np.ndarray) -> None:
        found.append(np.where(valid_HW, features_DHW, np.nan))

    ignore = lambda _=None: None  # noqa: E731
    run_tiles(network, raster, raster.grid.window, TilingConfig(**TILING), "cpu", 1, keep, ignore, ignore)
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_components_and_groups_are_those_of_the_blended_features(work, grid):
    features_DHW = work["features"][grid]
    embedded = run_job(work["folder"], "embed", f"embed_{grid}", **work["config"], components=4, grid=grid)
    basis = load_basis(embedded / "embedding.components.npz")
    expected_KHW = np.moveaxis(basis.project(np.moveaxis(features_DHW, 0, -1)), -1, 0)
    np.testing.assert_allclose(pixels(embedded / "embedding.tif"), expected_KHW, atol=2e-5 * np.nanstd(expected_KHW))
    made = run_job(work["folder"], "cluster", f"cluster_{grid}", **work["config"], clusters=6, grid=grid)
    groups_HW, clear_HW = predict(np.nan_to_num(features_DHW), load_centres(made / "clusters.centres.npz"))
    found_HW = pixels(made / "clusters.tif")[0]
    looked_HW = clear_HW & (found_HW != 255)
    assert np.array_equal(found_HW == 255, np.isnan(features_DHW[0]))
    assert looked_HW.mean() > 0.9
    assert np.array_equal(found_HW[looked_HW], groups_HW[looked_HW])


def test_the_number_of_tiles_in_a_batch_changes_last_digits_at_most(work, monkeypatch):
    made = {}
    for batch in (1, 3):
        monkeypatch.setattr(batch_size, "CPU_BATCH", batch)
        embedded = run_job(work["folder"], "embed", f"batch_{batch}", **work["config"], components=4, index=True)
        groups = run_job(work["folder"], "cluster", f"groups_{batch}", **work["config"], clusters=6)
        made[batch] = [
            pixels(file) for file in (embedded / "embedding.tif", embedded / "index.tif", groups / "clusters.tif")
        ]
    first, third = made[1], made[3]
    np.testing.assert_allclose(first[0], third[0], atol=1e-5 * np.nanstd(first[0]))
    np.testing.assert_allclose(first[1], third[1], atol=2**-11)
    assert (first[2] == third[2]).mean() > 0.9999
