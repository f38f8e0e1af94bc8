"""What is seen of a map before it is whole: the same pixels, valid at any moment, cheap, and gone at the end."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from rsfm import runs, worker
from rsfm.outputs.classes import Classes
from rsfm.preview import MOST_WORK, Show, small_preview, view_window
from rsfm.raster.grid import Grid, Window
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

from .toy_model import make_model, pixels, run_job, same

HEIGHT, WIDTH = 720, 640
WEST, NORTH = 500000, 5100000
SCREEN = {"crs": "EPSG:32633", "bounds": [WEST + 2000, NORTH - 4500, WEST + 4500, NORTH - 2000]}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Two dates of 640 x 720 pixels, a model, and the maps of runs that nobody looked at."""
    folder = tmp_path_factory.mktemp("preview")
    random = np.random.default_rng(0)
    coarse = np.kron(random.normal(1500, 600, (3, HEIGHT // 20, WIDTH // 20)), np.ones((20, 20)))
    for name in ("before", "after"):
        pixels_CHW = (coarse + random.normal(0, 60, coarse.shape)).clip(1, 60000).astype("uint16")
        pixels_CHW[:, 300:450, 50:200] = 0
        shape = {"count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint16", "nodata": 0}
        place = {"crs": "EPSG:32633", "transform": Affine(10, 0, WEST, 0, -10, NORTH)}
        with rasterio.open(folder / f"{name}.tif", "w", driver="GTiff", **shape, **place) as target:
            target.write(pixels_CHW)
    raster = str(folder / "before.tif")
    model = str(make_model(folder / "model.safetensors", raster))
    tiling = {"tile_size": 64, "tile_overlap": 16}
    map_config = {"raster": raster, "model": model, "tiling": tiling, "device": "cpu"}
    configs = {
        "segment": map_config,
        "embed": {**map_config, "components": 4},
        "detect_change": {"before": raster, "after": str(folder / "after.tif")},
    }
    wholes = {job: run_job(folder, job, job, **config) for job, config in configs.items()}
    return {"folder": folder, "configs": configs, "wholes": wholes}


def look_at(work, tmp_path, job, look):
    """Do a run that somebody looks at, and return its folder and what each preview held when it was told of."""
    folder = runs.create(tmp_path, job, job, work["configs"][job], look)
    told = []

    def listen(event):
        if event["type"] == "preview":
            with rasterio.open(event["path"]) as file:
                told.append((event, file.read(), file.transform, file.crs))

    assert worker.do(folder, listen) == 0
    return folder, told


MAPS = {"segment": "segmentation.tif", "embed": "embedding.tif", "detect_change": "magnitude.tif"}


@pytest.mark.parametrize("job", MAPS)
def test_what_is_on_the_screen_comes_first_and_is_the_map_of_the_whole(work, tmp_path, job, monkeypatch):
    monkeypatch.setattr("rsfm.preview.MOST_WORK", 0.2)
    folder, told = look_at(work, tmp_path, job, SCREEN)
    whole = work["wholes"][job]
    assert same(folder / "outputs", whole)
    names = [event["key"].rpartition("-")[2] for event, *_ in told]
    assert names == sorted(names, reverse=True)  # "view" before "small"
    event, pixels_CHW, transform, _ = [each for each in told if each[0]["key"].endswith("-view")][-1]
    with rasterio.open(whole / MAPS[job]) as file:
        column, row = (round(value) for value in ~file.transform @ (transform.c, transform.f))
        bands, height, width = pixels_CHW.shape
        expected_CHW = file.read(list(range(1, bands + 1)))[:, row : row + height, column : column + width]
        assert transform.a == file.transform.a
    assert min(height, width) > 20
    np.testing.assert_array_equal(pixels_CHW, expected_CHW)
    outputs = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    kinds = {each["kind"]: each["style"] for each in outputs if each["type"] == "output"}
    finished, seen = kinds[event["kind"]], json.loads(json.dumps(event["style"]))
    assert seen.pop("cuts", []) == pytest.approx(finished.pop("cuts", []), rel=0.01)  # of a sample, then of all pixels
    assert seen == finished


@pytest.mark.parametrize("job", MAPS)
def test_the_small_map_grows_downwards_and_shows_the_pixels_of_the_map(work, tmp_path, job, monkeypatch):
    monkeypatch.setattr("rsfm.preview.EVERY_SECONDS", 0.0)
    monkeypatch.setattr("rsfm.preview.MOST_TIME", 1000)
    monkeypatch.setattr("rsfm.preview.LARGEST_SMALL", 150)
    monkeypatch.setattr("rsfm.raster.pair.STRIP_BYTES", 2**19)
    _, told = look_at(work, tmp_path, job, {"bounds": None})
    small = [each for each in told if each[0]["key"].endswith("-small")]
    assert len(small) > 3
    paths = [event["path"] for event, *_ in small]
    assert len(set(paths)) == 2
    assert all(one != other for one, other in zip(paths, paths[1:], strict=False))  # the one that is shown stays
    with rasterio.open(work["wholes"][job] / MAPS[job]) as file:
        whole_CHW, transform, nodata = file.read(), file.transform, file.nodata
    _, last_CHW, small_transform, _ = small[-1]
    step = round(small_transform.a / transform.a)
    bands = last_CHW.shape[0]
    expected_CHW = whole_CHW[:bands, step // 2 :: step, step // 2 :: step]
    found_CHW = last_CHW[:, : expected_CHW.shape[1], : expected_CHW.shape[2]]
    done = np.flatnonzero(~_is(found_CHW[0], nodata).all(axis=1))
    assert done.max() > 0.8 * len(expected_CHW[0])
    np.testing.assert_array_equal(found_CHW[:, : done.max()], expected_CHW[:, : done.max()])
    heights = [np.flatnonzero(~_is(pixels_CHW[0], nodata).all(axis=1)).max(initial=0) for _, pixels_CHW, *_ in small]
    assert heights == sorted(heights)


def _is(pixels_HW, nodata):
    return np.isnan(pixels_HW) if np.isnan(nodata) else pixels_HW == nodata


def test_nobody_looks_nothing_is_made(work):
    for outputs in work["wholes"].values():
        assert not (outputs.parent / "previews").exists()


def test_after_the_end_previews_are_single_empty_pixels_that_still_open(work, tmp_path):
    folder, _ = look_at(work, tmp_path, "segment", SCREEN)
    left = list((folder / "previews").iterdir())
    assert left
    for path in left:
        with rasterio.open(path) as file:
            assert file.shape == (1, 1)
            assert (file.read() == 255).all()
            assert file.crs == "EPSG:32633"


def test_cancel_leaves_no_preview(work, tmp_path):
    folder = runs.create(tmp_path, "segment", "segment", work["configs"]["segment"], SCREEN)

    def listen(event):
        if event["type"] == "preview":
            runs.request_end(folder, "cancel")

    assert worker.do(folder, listen) == 130
    assert not (folder / "previews").exists()


def test_a_resumed_run_shows_the_rows_that_were_done(work, tmp_path):
    grid = Grid(None, Affine(1, 0, 0, 0, -1, 0), 2000, 40)
    folder = runs.create(tmp_path, "segment", "segment", {}, {"bounds": None})
    run = Run(folder)
    rows_CHW = np.random.default_rng(0).integers(1, 4, (1, 2000, 40)).astype("uint8")
    lost = RasterWriter(run.outputs / "a.tif", Classes, grid, unfinished=run.checkpoints)
    lost.write(rows_CHW[:, :1024])
    lost._sync()
    with RasterWriter(run.outputs / "a.tif", Classes, grid, unfinished=run.checkpoints) as writer:
        assert writer.row == 1024
        preview = small_preview(run, Show(writer, "classes", "A", {}, lambda values, _: values), writer.row)
        preview.write()
        (path,) = run.previews.iterdir()
        np.testing.assert_array_equal(pixels(path)[:, :512, :20], rows_CHW[:, 1:1024:2, 1::2])
        writer.write(rows_CHW[:, 1024:])


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
def test_the_first_window_is_the_middle_of_the_screen_and_costs_little(tmp_path, crs):
    from rasterio.warp import transform_bounds

    grid = Grid(rasterio.CRS.from_epsg(32633), Affine(10, 0, WEST, 0, -10, NORTH), 20000, 20000)
    bounds = transform_bounds("EPSG:32633", crs, WEST + 50000, NORTH - 90000, WEST + 80000, NORTH - 60000)
    run = Run(runs.create(tmp_path, "segment", "", {}, {"crs": crs, "bounds": bounds}))
    window = view_window(run, grid, grid.window, lambda part: part.height * part.width)
    assert window.height * window.width <= MOST_WORK * 20000**2
    assert max(window.height, window.width) <= 2000
    assert min(window.height, window.width) > 1500
    assert abs(window.row + window.height / 2 - 7500) < 60
    assert abs(window.column + window.width / 2 - 6500) < 60
    assert view_window(run, grid, Window(0, 0, 100, 100), lambda part: part.height * part.width) is None


@pytest.mark.parametrize("look", [{"bounds": [1, 2, 3, float("inf")]}, {"crs": "nonsense", "bounds": [0, 0, 1, 1]}, {}])
def test_a_screen_that_cannot_be_understood_is_left_out(work, tmp_path, look):
    folder, told = look_at(work, tmp_path, "segment", look)
    assert {event["key"].rpartition("-")[2] for event, *_ in told} == {"small"}
    assert same(folder / "outputs", work["wholes"]["segment"])
