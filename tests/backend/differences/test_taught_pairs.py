"""Teaching takes the pair as the comparison does, and a map made later says where its pair differs from that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rsfm import model_file
from rsfm.differences.change_labels import read_change_labels
from rsfm.differences.change_network import beside
from rsfm.differences.change_split import split_changes
from rsfm.differences.change_windows import ChangeSample, ChangeWindows
from rsfm.differences.learned_pair import LearnedPair, learned_pair
from rsfm.differences.two_dates import open_dates
from rsfm.jobs.finetune_change import FinetuneChangeConfig
from sklearn.metrics import f1_score

from tests.backend.test_bad_input import refused
from tests.backend.toy_model import pixels, run_job

from .pair_case import GSD, NORTH, QUICK, SIDE, WEST, Places, make_places, truth

DOWN, RIGHT = 4, -3
"""Pixels by which the later date lies off."""
EDGE = 8
"""Pixels of nodata around it."""
CLOUDY = slice(100, 140), slice(20, 90)
NAMES = "green", "red", "nir"
BRIEF = {**QUICK["training"], "epochs": 1}
INSIDE = slice(16, -16), slice(16, 160)


class Work:
    """Two dates, the later one also off by whole pixels, in another order of bands, and cloudy; models of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.places = folder, make_places(folder)
        for path in (self.places.before, self.places.after):
            with rasterio.open(path, "r+") as opened:
                opened.descriptions = NAMES
        after_CHW = pixels(self.places.after)
        around_CHW = np.pad(after_CHW, ((0, 0), (EDGE, EDGE), (EDGE, EDGE)))
        self.moved = self.write("moved", around_CHW, NAMES, DOWN - EDGE, RIGHT - EDGE)
        swapped_CHW = np.stack([after_CHW[2], after_CHW[0][::-1], after_CHW[0], after_CHW[1]])
        self.swapped = self.write("swapped", swapped_CHW, ("nir", "swir1", "green", "red"))
        random = np.random.default_rng(1)
        after_CHW[(slice(None), *CLOUDY)] = random.integers(1, 5000, (3, 40, 70))
        self.cloudy = self.write("cloudy", after_CHW, NAMES)
        mask_HW = np.zeros((SIDE, SIDE), "uint16")
        mask_HW[CLOUDY] = 1
        self.mask = self.write("mask", mask_HW[None], ("clouds",))

    def write(self, name: str, pixels_CHW: np.ndarray, names: Any, down: int = 0, right: int = 0) -> str:
        path = self.folder / f"{name}.tif"
        count, height, width = pixels_CHW.shape
        nodata = {} if name == "mask" else {"nodata": 0}
        shape = {"count": count, "height": height, "width": width, "dtype": "uint16", **nodata}
        place = Affine(GSD, 0, WEST + right * GSD, 0, -GSD, NORTH - down * GSD)
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=place, **shape) as target:
            target.write(pixels_CHW)
            target.descriptions = names
        return str(path)

    def teach(self, name: str, **values: Any) -> Path:
        return run_job(self.folder, "finetune_change", name, **teaching(self.places, **values))

    def map(self, name: str, model: Path, **values: Any) -> Path:
        given = {"before": str(self.places.before), "after": str(self.places.after), "device": "cpu"}
        given["model"] = str(model / "model.safetensors")
        return run_job(self.folder, "detect_change", name, **{**given, **values})


def teaching(places: Places, **values: Any) -> dict[str, Any]:
    given = {"before": str(places.before), "after": str(places.after), "changes": str(places.changes)}
    return {**given, "complete": places.whole, **QUICK, **values}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def corrected(work: Work) -> Path:
    """A model that learned from the pair that lies off, corrected."""
    return work.teach("corrected", after=work.moved, correct_shift=True)


def told(outputs: Path, type: str) -> list[str]:
    lines = (outputs.parent / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["text"] for event in map(json.loads, lines) if event["type"] == type]


def result_of(outputs: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((outputs.parent / "run.json").read_text())["result"]
    return found


def memory(outputs: Path) -> LearnedPair:
    found = learned_pair(model_file.read_card(str(outputs / "model.safetensors")))
    assert found
    return found


def windows_of(work: Work, **values: Any) -> ChangeSample:
    """Return the first windows that a network would learn from, in deviations of each date."""
    config = FinetuneChangeConfig(**teaching(work.places, **values))
    with open_dates(config, None) as dates:
        labels = read_change_labels(config, dates.grid, dates.pair.window)
        labelled = split_changes(labels, dates.grid, dates.pair.window, 0, 0)
        return ChangeWindows(dates, beside(*dates.statistics(None)), labelled, 64, 4, 1.0, 0).batch(0)


def test_what_is_learned_from_a_pair_that_lies_off_are_the_pixels_of_the_pair_once_it_is_corrected(work: Work) -> None:
    still, found = windows_of(work), windows_of(work, after=work.moved, correct_shift=True)
    uncorrected = windows_of(work, after=work.moved)
    assert torch.equal(found.target_BHW, still.target_BHW)
    off = (found.pixels_BCHW - still.pixels_BCHW).abs()
    assert off.max() < 0.15  # the shift is measured within a twentieth of a pixel, and the squares have sharp edges
    assert off.mean() < 0.01
    assert (uncorrected.pixels_BCHW - still.pixels_BCHW).abs().max() > 2


def test_a_pair_that_lies_off_teaches_and_maps_what_the_pair_does_once_it_is_corrected(
    work: Work, corrected: Path
) -> None:
    still = work.teach("still")
    shift = result_of(corrected)["shift"]
    assert (shift["down_px"], shift["right_px"]) == pytest.approx((DOWN, RIGHT), abs=0.05)
    assert (memory(corrected).down, memory(corrected).right) == (0, 0)
    assert result_of(corrected)["f1"] == pytest.approx(result_of(still)["f1"], abs=0.05)
    found, expected = work.map("map_moved", corrected, after=work.moved, correct_shift=True), work.map("map", still)
    assert (pixels(found / "change.tif")[0] != pixels(expected / "change.tif")[0])[INSIDE].mean() < 0.05
    assert f1_score(truth()[INSIDE].ravel(), pixels(found / "change.tif")[0][INSIDE].ravel() == 1) > 0.8


def test_the_same_map_is_made_of_the_pair_and_of_the_one_that_lies_off(work: Work, corrected: Path) -> None:
    straight = work.map("straight", corrected)
    moved = work.map("moved_back", corrected, after=work.moved, correct_shift=True)
    np.testing.assert_allclose(
        pixels(moved / "confidence.tif")[0][INSIDE], pixels(straight / "confidence.tif")[0][INSIDE], atol=0.02
    )
    assert not told(straight, "warning")
    assert not told(moved, "warning")
    off = work.map("left_off", corrected, after=work.moved)
    (sentence,) = told(off, "warning")
    assert "3.98 px down, 3.00 px left" in sentence
    assert "learned from dates that lie on top of each other" in sentence
    assert sentence.endswith("Choose 'Correct the shift'.")
    wrong = (pixels(off / "change.tif")[0] != pixels(straight / "change.tif")[0])[INSIDE].mean()
    assert wrong > 0.03, "what the warning is for"


def test_a_model_taught_with_a_shift_says_so_where_there_is_none(work: Work) -> None:
    off = work.teach("off", after=work.moved, training=BRIEF)
    assert any("Choose 'Correct the shift'" in text for text in told(off, "warning"))
    assert (memory(off).down, memory(off).right) == pytest.approx((DOWN, RIGHT), abs=0.05)
    (sentence,) = told(work.map("none", off), "warning")
    assert "lay off by 3.98 px down, 3.00 px left, and here they lie on top of each other" in sentence
    assert "Teach it again with 'Correct the shift'" in sentence
    likewise = work.map("likewise", off, after=work.moved)
    assert not told(likewise, "warning")
    assert any("as it did where the model learned" in text for text in told(likewise, "note"))


def test_what_a_mask_leaves_out_is_neither_learnt_from_nor_mapped(work: Work) -> None:
    values = {"after_mask": work.mask, "training": BRIEF}
    clear, cloudy = work.teach("clear", **values), work.teach("cloudy", after=work.cloudy, **values)
    weights = [model_file.load(str(outputs / "model.safetensors")).tensors for outputs in (clear, cloudy)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    assert result_of(clear)["confusion"] == result_of(cloudy)["confusion"]
    seen = model_file.load(str(work.teach("seen", after=work.cloudy, training=BRIEF) / "model.safetensors")).tensors
    assert not all(torch.equal(value, seen[name]) for name, value in weights[0].items())
    mapped = work.map("without_clouds", clear, after=work.cloudy, after_mask=work.mask)
    assert (pixels(mapped / "change.tif")[0][CLOUDY] == 255).all()
    assert np.isnan(pixels(mapped / "confidence.tif")[0][CLOUDY]).all()
    around = work.map("around_clouds", clear, after_mask=work.mask)
    np.testing.assert_array_equal(pixels(mapped / "change.tif"), pixels(around / "change.tif"))


def test_a_model_taught_by_the_names_of_bands_finds_them_in_any_raster(
    work: Work, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    by_name = work.teach("by_name", after=work.swapped, bands="name", training=BRIEF)
    straight = work.teach("by_order", training=BRIEF)
    weights = [model_file.load(str(outputs / "model.safetensors")) for outputs in (by_name, straight)]
    for name, value in weights[1].tensors.items():
        assert torch.equal(value, weights[0].tensors[name]), name
    assert weights[0].card.band_names == NAMES
    assert (memory(by_name).bands, memory(straight).bands) == ("name", "order")
    expected = pixels(work.map("expected", straight) / "change.tif")
    for number, values in enumerate(({}, {"after": work.swapped}, {"before": work.swapped, "after": work.swapped})):
        found = work.map(f"named_{number}", by_name, **values)
        assert any("by their names: green, red, nir" in text for text in told(found, "note"))
        if number < 2:
            np.testing.assert_array_equal(pixels(found / "change.tif"), expected)
    given = {"before": str(work.places.before), "after": work.mask, "model": str(by_name / "model.safetensors")}
    sentence = refused(tmp_path, monkeypatch, capsys, "detect_change", **given)
    assert "'mask.tif' has no green and no red and no nir" in sentence
    assert "under 'After'" in sentence
