"""Maps of whole rasters: what they hold, on which grid, and that a part is a part of the whole.

The models are made by the jobs themselves, on a small raster of two textures.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rsfm import cli
from rsfm.components import fit_components
from rsfm.raster.largest import find_largest
from rsfm.segmentation import probabilities, softmax_of_largest

from .test_bad_input import inside, write_labels


def stripes(size: int = 160) -> np.ndarray:
    """Left half in fine stripes, right half in coarse ones, of the same values; three bands."""
    columns = np.arange(size)
    left = np.where(columns % 2 == 0, 400, 1600)
    right = np.where(columns % 8 < 4, 400, 1600)
    row = np.where(columns < size // 2, left, right)
    noise = np.random.default_rng(0).normal(0, 30, (3, size, size))
    return np.clip(row + noise, 1, None).astype("uint16")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A raster, an encoder pretrained on it for two seconds, and a model fine-tuned from eight polygons."""
    from rasterio.transform import from_origin

    folder = tmp_path_factory.mktemp("mapping")
    raster = folder / "stripes.tif"
    pixels_CHW = stripes()
    pixels_CHW[:, :20, :30] = 0
    profile = {"driver": "GTiff", "height": 160, "width": 160, "count": 3, "dtype": "uint16", "nodata": 0}
    grid = {"crs": "EPSG:32633", "transform": from_origin(500000, 5100000, 10, 10)}
    with rasterio.open(raster, "w", **profile, **grid) as target:
        target.write(pixels_CHW)
    boxes = [inside("fine", row, 40) for row in (30, 60, 90, 120)] + [
        inside("coarse", row, 120) for row in (30, 60, 90, 120)
    ]
    labels = write_labels(folder / "labels.gpkg", boxes)
    run(folder, "pretrain", "encoder", rasters=[str(raster)], training={"minutes": 0.03, "batch_size": 16})
    encoder = folder / "encoder" / "outputs" / "encoder.safetensors"
    run(folder, "finetune", "tuned", raster=str(raster), labels=str(labels), model=str(encoder))
    return {"folder": folder, "raster": raster, "encoder": encoder, "labels": labels}


def run(folder: Path, job: str, name: str, **config: Any) -> dict[str, Any]:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    assert cli.main(["run", job, str(file), "--run", str(folder / name)]) == 0
    result: dict[str, Any] = json.loads((folder / name / "run.json").read_text())["result"]
    return result


def model(work: dict[str, Path]) -> str:
    return str(work["folder"] / "tuned" / "outputs" / "model.safetensors")


def test_finetuning_chooses_texture_over_pixels_and_says_so(work):
    result = json.loads((work["folder"] / "tuned" / "run.json").read_text())["result"]
    scores = result["mean_iou_polygons"]
    assert set(scores) == {"pixels", "texture", "untrained", "pretrained"}
    assert result["chosen"] != "pixels"
    assert scores[result["chosen"]] > 0.9 > scores["pixels"]
    assert f"{scores['pixels']:.2f}" in result["sentence"]
    assert (work["folder"] / "tuned" / "outputs" / "split.gpkg").exists()
    report = (work["folder"] / "tuned" / "report.html").read_text()
    assert result["sentence"] in report.replace("&#x27;", "'")


def test_segmentation_is_right_on_the_same_grid_with_nodata_kept(work):
    result = run(work["folder"], "segment", "segmented", raster=str(work["raster"]), model=model(work), polygons=True)
    outputs = work["folder"] / "segmented" / "outputs"
    with rasterio.open(outputs / "segmentation.tif") as found, rasterio.open(work["raster"]) as raster:
        assert (found.transform, found.crs, found.shape) == (raster.transform, raster.crs, raster.shape)
        assert found.nodata == 255
        classes_HW = found.read(1)
        names = dict(part.split(" ", 1) for part in found.tags()["RSFM_CLASSES"].split("; "))
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.colormap(1)[1][:3] != found.colormap(1)[2][:3]
    assert (classes_HW[:20, :30] == 255).all()
    assert (classes_HW == 255).sum() == 600
    fine = int(next(value for value, name in names.items() if name == "fine"))
    assert (classes_HW[30:, 5:70] == fine).mean() > 0.95
    assert (classes_HW[:, 90:155] != fine).mean() > 0.95
    with rasterio.open(outputs / "confidence.tif") as found:
        share_HW = found.read(1)
    meta, _, geometry, fields = pyogrio.raw.read(outputs / "segmentation.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    assert "32633" in meta["crs"]
    assert (table["area_m2"] @ table["confidence"]) / table["area_m2"].sum() == pytest.approx(
        np.nanmean(share_HW), abs=1e-4
    )
    for name, area in result["area_m2"].items():
        assert table["area_m2"][table["name"] == name].sum() == pytest.approx(area, abs=0.2)
    assert shapely.coverage_is_valid(shapely.from_wkb(geometry))
    assert np.isnan(share_HW[:20, :30]).all()
    assert np.nanmin(share_HW) >= 0.5
    assert np.nanmax(share_HW) <= 1


def test_map_of_an_area_is_the_crop_of_the_map_of_the_whole(work):
    west, north = 500000, 5100000
    area = f"{west + 333},{north - 1271},{west + 1402},{north - 205}"
    run(work["folder"], "segment", "part", raster=str(work["raster"]), model=model(work), area=area)
    whole_run = work["folder"] / "whole"
    run(work["folder"], "segment", "whole", raster=str(work["raster"]), model=model(work))
    for name in ("segmentation.tif", "confidence.tif"):
        with rasterio.open(work["folder"] / "part" / "outputs" / name) as part:
            pixels_HW, bounds = part.read(1), part.bounds
        with rasterio.open(whole_run / "outputs" / name) as whole:
            window = whole.window(*bounds)
            expected_HW = whole.read(1, window=window)
        assert pixels_HW.shape == (108, 108)
        assert np.array_equal(pixels_HW, expected_HW, equal_nan=True)


def test_embedding_has_cells_of_the_encoders_stride_and_ordered_components(work):
    result = run(
        work["folder"], "embed", "embedded", raster=str(work["raster"]), model=str(work["encoder"]), components=5
    )
    with rasterio.open(work["folder"] / "embedded" / "outputs" / "embedding.tif") as found:
        assert (found.count, found.shape) == (5, (40, 40))
        assert found.transform.a == 40
        pixels_KHW = found.read()
        assert found.descriptions[0] == "PC1"
    assert np.isnan(pixels_KHW[:, :5, :7]).all()
    spread_K = np.nanstd(pixels_KHW, axis=(1, 2))
    assert (np.diff(spread_K) <= 1e-3).all()
    assert 0 < result["explained"] <= 1


def test_labels_and_confidence_equal_argmax_and_softmax():
    logits_KHW = np.random.default_rng(0).normal(0, 5, (6, 20, 30)).astype(np.float32)
    valid_HW = np.random.default_rng(1).random((20, 30)) > 0.2
    label_HW, largest_HW = find_largest(logits_KHW, valid_HW, 255)
    share_HW = softmax_of_largest(logits_KHW, largest_HW, valid_HW)
    assert np.array_equal(label_HW[valid_HW], logits_KHW.argmax(0)[valid_HW] + 1)
    assert (label_HW[~valid_HW] == 255).all()
    softmax_KHW = np.exp(logits_KHW) / np.exp(logits_KHW).sum(0)
    assert np.allclose(share_HW[valid_HW], softmax_KHW.max(0)[valid_HW], atol=1e-6)


def test_probabilities_are_the_softmax_in_steps_of_four_thousandths():
    logits_KHW = np.random.default_rng(0).normal(0, 5, (6, 20, 30)).astype(np.float32)
    logits_KHW[:, 0, 0] = 80, -200, 80, 0, 0, 0  # no overflow
    valid_HW = np.random.default_rng(1).random((20, 30)) > 0.2
    label_HW, largest_HW = find_largest(logits_KHW, valid_HW, 255)
    share_HW = softmax_of_largest(logits_KHW, largest_HW, valid_HW)
    stored_KHW = probabilities(logits_KHW, share_HW)
    softmax_KHW = np.exp(logits_KHW - logits_KHW.max(0)) / np.exp(logits_KHW - logits_KHW.max(0)).sum(0)
    assert np.abs(stored_KHW * 0.004 - softmax_KHW)[:, valid_HW].max() <= 0.002 + 1e-6
    assert (stored_KHW[:, ~valid_HW] == 255).all()
    best_HW = np.take_along_axis(stored_KHW, (label_HW[None] - 1) % 6, 0)[0]
    assert (best_HW == stored_KHW.max(0))[valid_HW].all()


def test_probabilities_are_a_band_each_from_0_to_1_and_their_largest_is_the_confidence(work):
    run(work["folder"], "segment", "likely", raster=str(work["raster"]), model=model(work), probabilities=True)
    outputs = work["folder"] / "likely" / "outputs"
    with rasterio.open(outputs / "segmentation.tif") as found:
        classes_HW, names = found.read(1), found.tags()["RSFM_CLASSES"]
    with rasterio.open(outputs / "probability.tif") as found:
        assert "; ".join(f"{number} {name}" for number, name in enumerate(found.descriptions, 1)) == names
        assert (found.scales, found.offsets, found.nodata) == ((0.004, 0.004), (0, 0), 255)
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        stored_KHW, valid_KHW = found.read(), found.read_masks() > 0
    assert (valid_KHW == (classes_HW != 255)).all()
    shares_KN = stored_KHW[:, classes_HW != 255] * 0.004
    np.testing.assert_allclose(shares_KN.sum(0), 1, atol=0.0041)
    with rasterio.open(outputs / "confidence.tif") as found:
        np.testing.assert_allclose(shares_KN.max(0), found.read(1)[classes_HW != 255], atol=0.0021)


def test_components_equal_the_librarys_up_to_the_fixed_sign():
    from sklearn.decomposition import PCA

    sample_ND = np.random.default_rng(0).normal(size=(500, 12)).astype(np.float32) @ np.diag(np.arange(1, 13.0))
    basis = fit_components(sample_ND.astype(np.float32), 4)
    library = PCA(4).fit(sample_ND)
    assert np.allclose(np.abs(basis.components_KD), np.abs(library.components_), atol=1e-4)
    assert basis.explained == pytest.approx(library.explained_variance_ratio_.sum(), abs=1e-4)
    largest = np.abs(basis.components_KD).argmax(axis=1)
    assert (basis.components_KD[np.arange(4), largest] > 0).all()
