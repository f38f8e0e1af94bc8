"""Several rasters in one run: each as if alone, a failure costs nothing, and dates are found."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rsfm import cli, runs
from rsfm.raster.collection import Collection, load, save
from rsfm.raster.describing import describe_raster
from rsfm.raster.several import find_sources, is_several

from .toy_model import make_model, pixels, run_job, same, write_config

TILING = {"tile_size": 64, "tile_overlap": 16}
DATES = ("2015-07-11", "2015-08-30", "2016-04-02")


def write_raster(path: Path, seed: int, size: int = 120, crs: str = "EPSG:32633") -> Path:
    random = np.random.default_rng(seed)
    pixels_CHW = np.kron(random.normal(1500, 500, (3, size // 10, size // 10)), np.ones((10, 10)))
    pixels_CHW = (pixels_CHW + random.normal(0, 60, (3, size, size))).clip(1, 60000).astype("uint16")
    shape = {"count": 3, "height": size, "width": size, "dtype": "uint16", "nodata": 0}
    with rasterio.open(
        path, "w", driver="GTiff", crs=crs, transform=Affine(10, 0, 5e5, 0, -10, 5.1e6), **shape
    ) as file:
        file.write(pixels_CHW)
    return path


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Three dates as a collection, the first with half of it under clouds, and a model."""
    folder = tmp_path_factory.mktemp("several")
    rasters = [write_raster(folder / f"S2_{date.replace('-', '')}.tif", seed) for seed, date in enumerate(DATES)]
    mask = folder / "clouds.tif"
    cloudy_HW = np.zeros((1, 120, 120), "uint8")
    cloudy_HW[:, :60] = 3
    with (
        rasterio.open(rasters[0]) as file,
        rasterio.open(
            mask,
            "w",
            driver="GTiff",
            crs=file.crs,
            transform=file.transform,
            count=1,
            height=120,
            width=120,
            dtype="uint8",
        ) as target,
    ):
        target.write(cloudy_HW)
    entries = [describe_raster(str(path)) for path in reversed(rasters)]
    entries[-1] = entries[-1].model_copy(update={"mask": str(mask), "masked": (3,)})
    path = folder / "fields.collection.json"
    save(path, Collection(name="fields", entries=tuple(entries)))
    model = make_model(folder / "model.safetensors", rasters[0])
    config = {"raster": str(path), "model": str(model), "tiling": TILING, "device": "cpu"}
    return {"folder": folder, "rasters": rasters, "config": config}


def events(outputs: Path, kind: str) -> list[dict]:
    lines = (outputs.parent / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


def test_each_raster_is_mapped_as_alone_and_clouds_stay_nodata(work, tmp_path):
    outputs = run_job(tmp_path, "segment", "all", **work["config"])
    assert sorted(path.name for path in outputs.iterdir()) == [path.stem for path in work["rasters"]]
    for raster in work["rasters"][1:]:
        alone = run_job(tmp_path, "segment", raster.stem, **{**work["config"], "raster": str(raster)})
        assert same(outputs / raster.stem, alone)
    classes_HW = pixels(outputs / work["rasters"][0].stem / "segmentation.tif")[0]
    assert (classes_HW[:60] == 255).all()
    assert (classes_HW[60:] != 255).all()
    result = runs.read(outputs.parent)["result"]
    assert result["sentence"] == "3 of 3 rasters are mapped."
    assert set(result["rasters"]) == {path.stem for path in work["rasters"]}


def test_dates_are_in_the_events_in_their_order_and_in_the_files(work, tmp_path):
    outputs = run_job(tmp_path, "segment", "all", **work["config"])
    found = events(outputs, "output")
    assert [event["date"] for event in found if event["kind"] == "classes"] == list(DATES)
    assert all(Path(event["path"]).parent.name in event["title"] for event in found)
    for event in found:
        assert (describe_raster(event["path"]).date or "")[:10] == event["date"]
        with rasterio.open(event["path"]) as file:
            assert file.tags()["TIFFTAG_DATETIME"][:10] == event["date"].replace("-", ":")
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_one_raster_alone_has_its_date_too(work, tmp_path):
    outputs = run_job(tmp_path, "segment", "one", **{**work["config"], "raster": str(work["rasters"][1])})
    assert {event["date"] for event in events(outputs, "output")} == {DATES[1]}


def test_progress_goes_over_all_rasters_and_never_back(work, tmp_path):
    outputs = run_job(tmp_path, "segment", "all", **work["config"])
    fractions = [event["fraction"] for event in events(outputs, "progress")]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_a_raster_that_fails_is_told_and_the_others_are_mapped(work, tmp_path):
    collection = load(work["config"]["raster"])
    broken = tmp_path / "broken.tif"
    broken.write_bytes(work["rasters"][1].read_bytes()[:3000])
    entries = (*collection.entries, describe_raster(str(work["rasters"][1])).model_copy(update={"path": str(broken)}))
    path = tmp_path / "more.collection.json"
    save(path, Collection(name="more", entries=entries))
    outputs = run_job(tmp_path, "segment", "all", **{**work["config"], "raster": str(path)})
    run = runs.read(outputs.parent)
    assert run["state"] == "done"
    assert run["result"]["sentence"] == "3 of 4 rasters are mapped; left out: broken."
    (warning,) = [event["text"] for event in events(outputs, "warning")]
    assert warning.startswith("broken: left out. 'broken.tif' is damaged")
    assert not (outputs / "broken").exists()


def test_where_none_can_be_mapped_the_first_reason_is_the_error(work, tmp_path, capsys):
    other = write_raster(tmp_path / "other.tif", 0)
    with rasterio.open(other) as file, rasterio.open(tmp_path / "one.tif", "w", **{**file.profile, "count": 1}) as one:
        one.write(file.read(1), 1)
    entries = (describe_raster(str(tmp_path / "one.tif")),)
    path = tmp_path / "ones.collection.json"
    save(path, Collection(name="ones", entries=entries))
    config = write_config(tmp_path, "config", **{**work["config"], "raster": str(path)})
    assert cli.main(["run", "segment", str(config), "--run", str(tmp_path / "run")]) == 2
    assert "has 1 bands but the model was trained on 3" in capsys.readouterr().err


def test_embeddings_of_several_dates_have_the_same_components_and_colours(work, tmp_path):
    outputs = run_job(tmp_path, "embed", "all", **work["config"], components=4)
    styles = [event["style"] for event in events(outputs, "output") if event["kind"] == "embedding"]
    assert len(styles) == 3
    assert styles[0] == styles[1] == styles[2]
    twice = Path(work["config"]["raster"]).with_name("twice.collection.json")
    copy = tmp_path / "copy.tif"
    copy.write_bytes(work["rasters"][1].read_bytes())
    save(twice, Collection(name="twice", entries=tuple(describe_raster(str(p)) for p in (work["rasters"][1], copy))))
    outputs = run_job(tmp_path, "embed", "twice", **{**work["config"], "raster": str(twice)}, components=4)
    first_KHW, second_KHW = (pixels(path) for path in sorted(outputs.glob("*/embedding.tif")))
    assert np.array_equal(first_KHW, second_KHW)


@pytest.mark.parametrize("job", ["segment", "embed"])
def test_killed_and_resumed_gives_the_same_pixels_and_does_nothing_twice(work, tmp_path, job):
    whole = run_job(tmp_path, job, "whole", **work["config"])
    config, folder = write_config(tmp_path, "config", **work["config"]), tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-m", "rsfm", "run", job, str(config), "--run", str(folder)])
    finished = folder / "checkpoints" / work["rasters"][0].stem / "finished.json"
    while process.poll() is None and not finished.exists():
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in (folder / "outputs" / finished.parent.name).iterdir()}
    assert cli.main(["resume", str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for raster in work["rasters"]:
        assert same(folder / "outputs" / raster.stem, whole / raster.stem)
    assert runs.read(folder)["result"] == runs.read(whole.parent)["result"]


def test_a_raster_that_changed_since_is_mapped_again(work, tmp_path):
    raster = tmp_path / "changing_20200101.tif"
    write_raster(raster, 7)
    outputs = run_job(tmp_path, "segment", "all", **{**work["config"], "raster": f"{tmp_path}/changing*.tif"})
    before = pixels(outputs / raster.stem / "segmentation.tif")
    write_raster(raster, 8)
    assert cli.main(["resume", str(outputs.parent)]) == 0
    assert not np.array_equal(pixels(outputs / raster.stem / "segmentation.tif"), before)


def test_folders_patterns_and_collections_stand_for_several_and_names_are_unique(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_raster(tmp_path / folder / "all.tif", 0)
    assert is_several(str(tmp_path))
    assert is_several(f"{tmp_path}/*/*.tif")
    assert not is_several(str(tmp_path / "a" / "all.tif"))
    (tmp_path / "work").mkdir()
    assert [source.name for source in find_sources(f"{tmp_path}/*/all.tif", tmp_path / "work")] == ["a_all", "b_all"]


def test_an_area_is_the_same_ground_in_every_crs(work, tmp_path):
    with rasterio.open(work["rasters"][1]) as file:
        from rasterio.warp import transform_bounds

        west, south, east, north = transform_bounds(file.crs, "EPSG:32632", *file.bounds)
    folder = tmp_path / "rasters"
    folder.mkdir()
    (folder / "a.tif").write_bytes(work["rasters"][1].read_bytes())
    other = write_raster(folder / "b.tif", 3, crs="EPSG:32632")
    with rasterio.open(other, "r+") as file:
        file.transform = Affine((east - west) / 120, 0, west, 0, -(north - south) / 120, north)
    area = "500300,5099500,500600,5099700"
    outputs = run_job(tmp_path, "segment", "all", **{**work["config"], "raster": str(folder), "area": area})
    with rasterio.open(outputs / "a" / "segmentation.tif") as a, rasterio.open(outputs / "b" / "segmentation.tif") as b:
        assert a.bounds == (500300, 5099500, 500600, 5099700)
        assert np.allclose(transform_bounds(b.crs, a.crs, *b.bounds), a.bounds, atol=60)
