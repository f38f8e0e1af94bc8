"""What goes wrong in practice gives one sentence that says what to do, exit code 2, and leaves no file behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.transform import from_origin
from rsfm import cli


@pytest.fixture
def good(make_raster: Callable[..., Path]) -> Path:
    pixels_CHW = np.random.default_rng(0).integers(1, 3000, (4, 128, 128)).astype("uint16")
    return make_raster(pixels_CHW, "good.tif", nodata=0)


def write_labels(path: Path, boxes: list[tuple[float, float, float, float, str]], crs: str = "EPSG:32633") -> Path:
    geometry = shapely.to_wkb([shapely.box(*box[:4]) for box in boxes])
    names = np.array([box[4] for box in boxes], dtype=object)
    pyogrio.raw.write(path, geometry, [names], ["class"], geometry_type="Polygon", crs=crs)
    return path


def inside(name: str, row: int, column: int) -> tuple[float, float, float, float, str]:
    west, north = 500000 + column * 10, 5100000 - row * 10
    return west, north - 100, west + 100, north, name


def refused(tmp_path: Path, monkeypatch: Any, capsys: Any, job: str, **config: Any) -> str:
    """Run a job that must be refused and return the sentence."""
    before = set(tmp_path.rglob("*"))
    monkeypatch.setenv("RSFM_RUNS", str(tmp_path / "runs"))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert cli.main(["run", job, str(file)]) == 2
    left = set(tmp_path.rglob("*")) - before - {file, tmp_path / "runs"}
    assert not left
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("Error: ")


def pretrain_on(path: Path) -> dict[str, Any]:
    return {"job": "pretrain", "rasters": [str(path)], "training": {"minutes": 0.01, "batch_size": 4}}


def test_raster_without_crs(tmp_path, monkeypatch, capsys, make_raster):
    path = make_raster(np.ones((1, 64, 64), "uint8"), crs=None)
    sentence = refused(tmp_path, monkeypatch, capsys, **pretrain_on(path))
    assert "CRS" in sentence
    assert "Assign" in sentence


def test_raster_of_nodata_alone(tmp_path, monkeypatch, capsys, make_raster):
    path = make_raster(np.zeros((2, 64, 64), "uint16"), nodata=0)
    assert "nodata" in refused(tmp_path, monkeypatch, capsys, **pretrain_on(path))


def test_text_file_named_tif(tmp_path, monkeypatch, capsys):
    path = tmp_path / "text.tif"
    path.write_text("this is no raster")
    assert "text.tif" in refused(tmp_path, monkeypatch, capsys, **pretrain_on(path))


def test_truncated_file(tmp_path, monkeypatch, capsys, good):
    path = tmp_path / "truncated.tif"
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    assert "truncated.tif" in refused(tmp_path, monkeypatch, capsys, **pretrain_on(path))


def test_missing_file(tmp_path, monkeypatch, capsys):
    assert "none.tif" in refused(tmp_path, monkeypatch, capsys, **pretrain_on(tmp_path / "none.tif"))


@pytest.mark.parametrize(
    "name", ["all_nodata_uint16.tif", "corrupt_truncated_tiles.tif", "tiny_3x2_float32_nocrs.tif",
             "no_transform_gcps_only_uint16.tif", "rotated_sar_umbra_yasur_2000.tif"],
)  # fmt: skip
def test_odd_raster_is_refused_by_pretraining(tmp_path, monkeypatch, capsys, data, name):
    sentence = refused(tmp_path, monkeypatch, capsys, **pretrain_on(data / "oddities" / name))
    assert name in sentence
    assert sentence.count(".") >= 2  # what was found, and what to do


@pytest.mark.parametrize(
    ("boxes", "crs", "words"),
    [
        ([inside("a", 10, 10), inside("a", 40, 40)], "EPSG:32633", ["one class"]),
        ([inside("a", 5000, 10), inside("b", 5000, 40)], "EPSG:32633", ["outside"]),
        ([inside("a", 10, 10), inside("b", 40, 40)], "EPSG:32601", ["outside"]),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, monkeypatch, capsys, good, boxes, crs, words):
    labels = write_labels(tmp_path / "labels.gpkg", boxes, crs)
    sentence = refused(tmp_path, monkeypatch, capsys, "finetune", raster=str(good), labels=str(labels))
    assert all(word in sentence for word in words), sentence


def test_missing_class_field_names_the_fields_there_are(tmp_path, monkeypatch, capsys, good):
    labels = write_labels(tmp_path / "labels.gpkg", [inside("a", 10, 10), inside("b", 40, 40)])
    config = {"raster": str(good), "labels": str(labels), "class_field": "kind"}
    sentence = refused(tmp_path, monkeypatch, capsys, "finetune", **config)
    assert "kind" in sentence
    assert "class" in sentence


def test_pair_that_does_not_overlap(tmp_path, monkeypatch, capsys, good, make_raster):
    far = make_raster(np.ones((4, 64, 64), "uint16"), "far.tif", transform=from_origin(900000, 5100000, 10, 10))
    sentence = refused(tmp_path, monkeypatch, capsys, "detect_change", before=str(good), after=str(far))
    assert "overlap" in sentence


def test_raster_with_other_bands_than_the_model(tmp_path, monkeypatch, capsys, good, make_raster):
    from rsfm import model_file
    from rsfm.model_file import Card, build_encoder
    from rsfm.raster.reader import open_raster
    from rsfm.raster.statistics import band_statistics

    with open_raster(str(good)) as raster:
        statistics = band_statistics([raster], [raster.grid.window], 0)
    card = Card(bands=4, statistics=statistics, gsd=10, encoder={"name": "conv_small"})
    encoder = build_encoder({"name": "conv_small"}, 4)
    model_file.save(tmp_path / "model.safetensors", card, model_file.parts(encoder=encoder))
    other = make_raster(np.ones((3, 64, 64), "uint16"), "other.tif")
    config = {"raster": str(other), "model": str(tmp_path / "model.safetensors")}
    sentence = refused(tmp_path, monkeypatch, capsys, "embed", **config)
    assert "3 bands" in sentence
    assert "4" in sentence


def test_labels_in_another_crs_are_no_error(tmp_path, good, monkeypatch):
    from rasterio.warp import transform_geom

    boxes = [inside("a", 10, 10), inside("b", 40, 40), inside("a", 80, 80), inside("b", 100, 20)]
    labels = write_labels(tmp_path / "metres.gpkg", boxes)
    shapes = [shapely.geometry.mapping(shapely.box(*box[:4])) for box in boxes]
    degrees = [shapely.geometry.shape(g) for g in transform_geom("EPSG:32633", "EPSG:4326", shapes)]
    names = np.array([box[4] for box in boxes], dtype=object)
    other = tmp_path / "degrees.gpkg"
    wkb = shapely.to_wkb(degrees)
    pyogrio.raw.write(other, wkb, [names], ["class"], geometry_type="Polygon", crs="EPSG:4326")
    results = []
    for path in (labels, other):
        folder = tmp_path / f"run_{path.stem}"
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"raster": str(good), "labels": str(path)}))
        assert cli.main(["run", "finetune", str(file), "--run", str(folder)]) == 0
        results.append(json.loads((folder / "run.json").read_text())["result"])
    assert results[0]["mean_iou_blocks"] == pytest.approx(results[1]["mean_iou_blocks"], abs=0.1, nan_ok=True)
