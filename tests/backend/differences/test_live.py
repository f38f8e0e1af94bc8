"""Clicks that are answered while they are made, by the process that stays."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from rsfm.differences import live
from rsfm.differences.live import Refits, find_view
from rsfm.differences.planes import open_scene
from rsfm.errors import UserError
from rsfm.jobs.refine_change import RefineChangeConfig
from rsfm.refit_process import RefitProcess

from tests.backend.conftest import ServerProcess
from tests.backend.differences.conftest import MINE, NOT_THIS, THIS, as_they_are, changed, landscape

PLACES = {"mine": THIS, "harvest": ((80, 20), (100, 10), (65, 35)), "not this": NOT_THIS[:4]}
SCREEN = {"bounds": [500300, 5099200, 500900, 5099700], "crs": "EPSG:32633"}


def read(path: str) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


@pytest.fixture
def refits() -> Iterator[Refits]:
    made = Refits()
    yield made
    made.close()


@pytest.fixture
def config(pair, click) -> Callable[..., RefineChangeConfig]:
    def make(places: dict[str, Any] = PLACES, **values: Any) -> RefineChangeConfig:
        return RefineChangeConfig(before=str(pair[0]), after=str(pair[1]), clicks=click(places), **values)

    return make


def test_what_is_on_the_screen_is_the_crop_of_the_whole(pair, click, config, refits, refine, tmp_path):
    made = refits.refit(config(), SCREEN, str(tmp_path / "view"))
    whole = refine(*pair, clicks=click(PLACES)).read("likeness.tif")
    np.testing.assert_array_equal(read(made["path"]), whole[30:80, 30:90])
    assert made["marks"] == [4, 4, 3]
    assert [each["name"] for each in made["kinds"]] == ["mine", "harvest"]
    assert made["whole"]
    with rasterio.open(made["path"]) as file:
        assert file.bounds == pytest.approx(SCREEN["bounds"])


def test_a_click_more_costs_no_new_look_at_the_screen(config, refits, tmp_path, monkeypatch):
    first = refits.refit(config(), SCREEN, str(tmp_path / "view"))
    planes = refits._planes
    second = refits.refit(config({**PLACES, "mine": (*THIS, (62, 80))}), SCREEN, str(tmp_path / "view"))
    assert refits._planes is planes
    assert first["path"] != second["path"]
    assert not np.array_equal(read(first["path"]), read(second["path"]))
    moved = {**SCREEN, "bounds": [500400, 5099200, 500900, 5099700]}
    refits.refit(config(), moved, str(tmp_path / "view"))
    assert refits._planes is not planes


def test_a_raster_that_was_written_again_is_read_again(pair, config, refits, make_raster, tmp_path):
    refits.refit(config(), SCREEN, str(tmp_path / "view"))
    scene = refits._scene
    time.sleep(0.02)
    make_raster(changed(landscape(seed=3)), "after.tif")
    refits.refit(config(), SCREEN, str(tmp_path / "view"))
    assert refits._scene is not scene


def test_a_larger_view_is_mapped_at_every_nth_pixel_and_the_middle_of_one_larger_still(
    pair, config, refits, refine, click, tmp_path, monkeypatch
):
    monkeypatch.setattr(live, "LARGEST", 50)
    made = refits.refit(config(), {"bounds": None}, str(tmp_path / "view"))
    whole = refine(*pair, clicks=click(PLACES)).read("likeness.tif")
    np.testing.assert_array_equal(read(made["path"]), whole[::3, ::3])
    assert made["whole"]
    monkeypatch.setattr(live, "LARGEST", 10)
    with open_scene(as_they_are(*pair)) as scene:
        view = find_view(scene, {})
    assert view == ((40, 55, 40, 40), 4, False)


def test_a_screen_elsewhere_is_refused_in_words(config, refits, tmp_path):
    with pytest.raises(UserError, match="shows none of the two rasters"):
        refits.refit(config(), {"bounds": [0, 0, 10, 10], "crs": "EPSG:32633"}, str(tmp_path / "view"))


@pytest.fixture
def process() -> Iterator[RefitProcess]:
    made = RefitProcess()
    yield made
    made.close()


def test_the_process_stays_says_what_is_wrong_and_is_replaced_when_it_dies(process, config, tmp_path):
    asked = config().model_dump(mode="json"), SCREEN, str(tmp_path / "view")
    first = process.refit(*asked)
    with pytest.raises(UserError, match="'mine' has 1") as caught:
        process.refit(config({**PLACES, "mine": THIS[:1]}).model_dump(mode="json"), *asked[1:])
    assert caught.value.field == "clicks"
    config()
    pid = process._process.pid
    assert read(process.refit(*asked)["path"])[MINE[0].start - 30, MINE[1].start - 30] > 0
    assert process._process.pid == pid
    assert not {"torch"} & loaded(pid)
    process._process.kill()
    process._process.wait()
    again = process.refit(*asked)
    assert process._process.pid != pid
    np.testing.assert_array_equal(read(again["path"]), read(first["path"]))
    assert first["seconds"].keys() == {"marks", "view", "learn", "map", "write"}


def loaded(pid: int) -> set[str]:
    """Name the large libraries that a process has mapped."""
    paths = {Path(each.path).name for each in psutil.Process(pid).memory_maps()}
    return {"torch"} if any("libtorch" in name for name in paths) else set()


def test_the_server_answers_clicks_and_ends_the_process_with_itself(config, tmp_path):
    server = ServerProcess()
    said = server.request("refit", config=config().model_dump(mode="json"), screen=SCREEN, stem=str(tmp_path / "view"))
    assert np.isfinite(read(said["result"]["path"])).all()
    wrong = server.request("refit", config={"before": "a.tif"}, screen=SCREEN, stem=str(tmp_path / "view"))
    assert wrong["error"]["data"]["field"] == "after"
    children = psutil.Process(server.process.pid).children()
    assert len(children) == 1
    assert not loaded(server.process.pid)
    server.stdin.close()
    server.process.wait(10)
    assert psutil.wait_procs(children, timeout=10)[1] == []
