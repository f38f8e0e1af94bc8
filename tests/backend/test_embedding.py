"""Embeddings: the same as the slow obvious way, however they are cut, stored, stretched or ended before their time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rsfm import cli, model_file
from rsfm.blocks.normalisation import Normalisation
from rsfm.components import load_basis
from rsfm.embedding_layers import paint
from rsfm.raster.coding import HEADROOM

from .toy_model import make_model, pixels, run_job, same, write_config

HEIGHT, WIDTH, SIDE = 300, 200, 4
HALO = 64
TILING = {"tile_size": 128, "tile_overlap": 32}
HOLE = (slice(40, 96), slice(100, 162))


def write_scene(path: Path, seed: int, gain: float = 1.0) -> Path:
    """Write patches of random reflectance with noise, and a hole of nodata."""
    random = np.random.default_rng(seed)
    coarse = np.kron(random.normal(1500, 600, (3, HEIGHT // 20, WIDTH // 20)), np.ones((20, 20)))
    scene_CHW = (gain * (coarse + random.normal(0, 60, (3, HEIGHT, WIDTH)))).clip(1, 60000).astype("uint16")
    scene_CHW[(slice(None), *HOLE)] = 0
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5100000)}
    shape = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as target:
        target.write(scene_CHW)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two scenes, a model, and an embedding of the first with everything."""
    folder = tmp_path_factory.mktemp("embedding")
    first, second = write_scene(folder / "first.tif", 0), write_scene(folder / "second.tif", 1, 1.3)
    model = make_model(folder / "model.safetensors", first)
    config = {"raster": str(first), "model": str(model), "tiling": TILING, "device": "cpu", "components": 5}
    made = run_job(folder, "embed", "all", **config, picture=True, index=True)
    return {"folder": folder, "first": first, "second": second, "model": model, "config": config, "made": made}


def embed(work, name: str, **changes: Any) -> Path:
    return run_job(work["folder"], "embed", name, **{**work["config"], **changes})


def whole_features(work, raster: Path) -> np.ndarray:
    """Run the encoder once over a whole raster, reflected at its edges, and return features_Dhw."""
    model = model_file.load(str(work["model"]))
    scene_CHW = pixels(raster).astype(np.float32)
    valid_HW = (scene_CHW > 0).all(0)
    edges = ((HALO, HALO), (HALO, HALO))
    padded_CHW = np.pad(scene_CHW, ((0, 0), *edges), mode="reflect")
    normalisation = Normalisation.from_statistics(model.card.statistics)
    with torch.inference_mode():
        valid = torch.from_numpy(np.pad(valid_HW, edges, mode="reflect"))[None]
        maps = model.encoder().feature_maps(normalisation(torch.from_numpy(padded_CHW)[None], valid))
    return maps[-1].features_BDhw[0].numpy()


def cells(features_Dhw: np.ndarray) -> np.ndarray:
    """Cut off the cells beyond the raster."""
    return features_Dhw[:, HALO // SIDE : -HALO // SIDE, HALO // SIDE : -HALO // SIDE]


def project(features_DHW: np.ndarray, folder: Path) -> np.ndarray:
    basis = load_basis(folder / "embedding.components.npz")
    return np.moveaxis(basis.project(np.moveaxis(features_DHW, 0, -1)), -1, 0)


def assert_close(found_KHW: np.ndarray, expected_KHW: np.ndarray) -> None:
    """Compare where values are, to a hundred-thousandth of the spread."""
    valid_HW = np.isfinite(found_KHW).all(0)
    assert 0.9 < valid_HW.mean() < 1
    spread = expected_KHW[:, valid_HW].std()
    np.testing.assert_allclose(found_KHW[:, valid_HW], expected_KHW[:, valid_HW], rtol=0, atol=1e-5 * spread)


def test_patches_equal_components_of_the_features_of_the_whole_raster(work):
    assert_close(
        pixels(work["made"] / "embedding.tif"), project(cells(whole_features(work, work["first"])), work["made"])
    )


def test_pixels_equal_features_interpolated_over_the_whole_raster(work):
    made = embed(work, "pixel", grid="pixel")
    features = torch.from_numpy(whole_features(work, work["first"]))[None]
    fine = torch.nn.functional.interpolate(features, scale_factor=SIDE, mode="bilinear", align_corners=False)[0].numpy()
    found_KHW = pixels(made / "embedding.tif")
    assert_close(found_KHW, project(fine[:, HALO:-HALO, HALO:-HALO], made))
    assert np.array_equal(np.isnan(found_KHW).all(0), (pixels(work["first"]) == 0).any(0))
    with rasterio.open(made / "embedding.tif") as found, rasterio.open(work["first"]) as raster:
        assert (found.transform, found.crs, found.shape) == (raster.transform, raster.crs, raster.shape)


def test_components_equal_the_librarys_on_all_cells_of_a_small_raster(work):
    from sklearn.decomposition import PCA

    features_Dhw = cells(whole_features(work, work["first"]))
    valid_hw = np.isfinite(pixels(work["made"] / "embedding.tif")[0])
    library = PCA(5).fit(features_Dhw[:, valid_hw].T)
    basis = load_basis(work["made"] / "embedding.components.npz")
    assert np.abs((basis.components_KD * library.components_).sum(1)) == pytest.approx(np.ones(5), abs=1e-4)
    values_KN = pixels(work["made"] / "embedding.tif")[:, valid_hw]
    assert np.array(basis.ranges) == pytest.approx(np.percentile(values_KN, (2, 98), axis=1).T, rel=1e-3)


def test_index_holds_features_of_length_one_in_16_bits_and_picture_the_stretched_components(work):
    features_Dhw = cells(whole_features(work, work["first"]))
    unit_Dhw = features_Dhw / np.linalg.norm(features_Dhw, axis=0)
    with rasterio.open(work["made"] / "index.tif") as file:
        assert file.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16"
        assert "RSFM_INDEX" in file.tags()
        index_Dhw = file.read()
    valid_hw = np.isfinite(index_Dhw).all(0)
    np.testing.assert_allclose(index_Dhw[:, valid_hw], unit_Dhw[:, valid_hw], rtol=2**-10, atol=2**-14)
    values_Khw = pixels(work["made"] / "embedding.tif")
    basis = load_basis(work["made"] / "embedding.components.npz")
    picture = pixels(work["made"] / "embedding_rgb.tif")
    assert np.array_equal(picture, paint(np.nan_to_num(values_Khw), valid_hw, basis.ranges))
    assert (picture == 0).all(0).sum() == (~valid_hw).sum()


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_fewer_bits_round_each_value_by_at_most_half_a_step(work, storage):
    made = embed(work, storage, storage=storage)
    exact_KHW = pixels(work["made"] / "embedding.tif").astype(np.float64)
    with rasterio.open(made / "embedding.tif") as file:
        scales, offsets = (np.array(each)[:, None, None] for each in (file.scales, file.offsets))
        stored_KHW, nodata = file.read(), file.nodata
    invalid_KHW = np.isnan(stored_KHW) if storage == "float16" else stored_KHW == nodata
    assert np.array_equal(invalid_KHW, np.isnan(exact_KHW))
    error_KHW = np.abs(stored_KHW * scales + offsets - exact_KHW)[~invalid_KHW]
    largest_K = np.nanmax(np.abs(exact_KHW), axis=(1, 2), keepdims=True)
    steps_KHW = np.abs(exact_KHW) * 2**-10 + 2**-24 if storage == "float16" else scales + 0 * exact_KHW
    assert (error_KHW <= steps_KHW[~invalid_KHW] / 2 * 1.0001).all()
    assert error_KHW.max() > 0
    if storage == "int8":
        assert scales == pytest.approx(largest_K * HEADROOM / 127, rel=0.05)


def test_values_that_8_bits_cannot_hold_are_counted_and_told(work, tmp_path, capsys):
    bright = write_scene(tmp_path / "bright.tif", 3, 8.0)
    same_as = str(work["made"] / "embedding.tif")
    made = run_job(
        tmp_path, "embed", "cut", **{**work["config"], "raster": str(bright)}, same_as=same_as, storage="int8"
    )
    codes_KHW = pixels(made / "embedding.tif")
    cut = int(((codes_KHW == 0) | (codes_KHW == 254)).sum())
    assert cut > 0
    assert f"{cut:,} values lie beyond" in capsys.readouterr().err


def test_two_rasters_share_components_and_stretch_and_a_third_run_takes_them(work):
    both = embed(work, "both", second=str(work["second"]), picture=True)
    basis = load_basis(both / "embedding.components.npz")
    assert_close(pixels(both / "embedding_2.tif"), project(cells(whole_features(work, work["second"])), both))
    alone = embed(work, "alone", raster=str(work["second"]), same_as=str(both / "embedding.tif"), picture=True)
    assert np.array_equal(pixels(alone / "embedding.tif"), pixels(both / "embedding_2.tif"), equal_nan=True)
    assert np.array_equal(pixels(alone / "embedding_rgb.tif"), pixels(both / "embedding_rgb_2.tif"))
    taken = load_basis(alone / "embedding.components.npz")
    assert taken.ranges == basis.ranges
    assert np.array_equal(taken.components_KD, basis.components_KD)
    own = load_basis(work["made"] / "embedding.components.npz")
    assert not np.allclose(own.mean_D, basis.mean_D, rtol=1e-3)  # the second raster really had a say
    events = [json.loads(line) for line in (both.parent / "events.jsonl").read_text().splitlines()]
    maps = [event for event in events if event["type"] == "output" and event["kind"] == "embedding"]
    assert len(maps) == 2
    assert maps[0]["style"] == maps[1]["style"]


@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_an_area_is_the_crop_of_the_whole_in_every_layer(work, grid):
    options = {"grid": grid, "storage": "int8", "picture": True, "index": True}
    whole = embed(work, f"whole_{grid}", **options)
    west, north = 500000, 5100000
    part = embed(work, f"part_{grid}", **options, area=f"{west + 333},{north - 2571},{west + 1402},{north - 205}")
    for name in ("embedding.tif", "embedding_rgb.tif", "index.tif"):
        with rasterio.open(part / name) as found, rasterio.open(whole / name) as expected:
            expected_KHW = expected.read(window=expected.window(*found.bounds))
            assert found.shape[0] < expected.shape[0]
            assert np.array_equal(found.read(), expected_KHW, equal_nan=True)


def test_features_of_another_model_or_without_a_file_of_components_are_refused(work, tmp_path, capsys):
    other = make_model(tmp_path / "other.safetensors", work["second"])
    for same_as, model, sentence in (
        (work["made"] / "embedding.tif", other, "fitted to another model"),
        (work["first"], work["model"], "lies no file of components"),
    ):
        config = {**work["config"], "same_as": str(same_as), "model": str(model)}
        file = write_config(tmp_path, "config", **config)
        assert cli.main(["run", "embed", str(file), "--run", str(tmp_path / "refused")]) == 2
        assert sentence in capsys.readouterr().err


def test_a_killed_run_of_all_layers_goes_on_to_the_same_pixels(work, tmp_path):
    options = {"grid": "pixel", "storage": "int8", "picture": True, "index": True, "second": str(work["second"])}
    whole = embed(work, "unbroken", **options)
    file = write_config(tmp_path, "config", **work["config"], **options)
    folder = tmp_path / "run"
    command, environment = [sys.executable, "-m", "rsfm"], {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, "run", "embed", str(file), "--run", str(folder)], env=environment)
    while process.poll() is None and not (folder / "outputs" / "embedding.tif").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (folder / "outputs" / "index_2.tif").exists()
    assert cli.main(["resume", str(folder)]) == 0
    assert same(folder / "outputs", whole)
