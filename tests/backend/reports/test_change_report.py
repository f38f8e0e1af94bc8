"""The report of a comparison: the check of the pair, and the largest changes as they look on both dates."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyogrio
import pytest
import rasterio
from rsfm import cli
from rsfm.picture_file import limits, stretch
from rsfm.result_words import area
from scipy import ndimage

from tests.backend.reports.page import Page, check_whole, read_picture

PLACES = [(row, column) for row in range(20, 300, 50) for column in range(20, 260, 60)]


class Reported(NamedTuple):
    folder: Path
    page: Page

    def shown(self, name):
        return json.loads((self.folder / "shown" / f"{name}.json").read_text())

    @property
    def result(self):
        return json.loads((self.folder / "run.json").read_text())["result"]


@pytest.fixture
def report(tmp_path):
    """Run a job from the command line, and return its folder and report."""

    def run_it(job, before, after, name="run", **values):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"before": str(before), "after": str(after), **values}))
        assert cli.main(["run", job, str(file), "--run", str(tmp_path / name)]) == 0
        return Reported(tmp_path / name, Page(tmp_path / name / "report.html"))

    return run_it


def landscape(bands=3, height=320, width=280):
    random = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(random.normal(size=(bands, height, width)), (0, 4, 4))
    return np.clip(fields / fields.std() * 30 + 110 + random.normal(size=fields.shape) * 2, 1, 255).astype(np.float32)


def changed(before_CHW, places=PLACES):
    """Add noise everywhere, and another cover to squares that become larger from place to place."""
    after_CHW = before_CHW + np.random.default_rng(9).normal(size=before_CHW.shape) * 2
    for number, (row, column) in enumerate(places):
        here = (slice(None), slice(row, row + 8 + number), slice(column, column + 8 + number))
        after_CHW[here] = 250 - after_CHW[here]
    return np.clip(after_CHW, 1, 255).astype(np.float32)


@pytest.fixture
def pair(make_raster):
    before_CHW = landscape()
    names = ["red", "green", "blue"]
    return [
        described(make_raster(pixels_CHW, name), names)
        for pixels_CHW, name in ((before_CHW, "land_2019.tif"), (changed(before_CHW), "land_2021.tif"))
    ]


def described(path, names):
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    return path


def test_a_comparison_tells_every_finding_of_the_pair_once_and_shows_the_largest_changes(pair, report):
    made = report("detect_change", *pair)
    check_whole(made.page)
    told = made.page.sections["pair"]
    for topic, finding in made.result["findings"].items():
        assert topic in told
        assert finding["text"] in told
    for name, correlation in zip(("red", "green", "blue"), made.result["correlations"], strict=True):
        assert f"{name}{correlation:.2f}" in told
    assert "differ" in told.partition(".")[0]
    assert "Not known" in told  # clouds
    assert "Check of the pair" not in made.page.sections["result"]
    assert [alt for alt, _ in made.page.of("pair")] == [
        f"land_2019.tif in small with the shift of {len(made.shown('pair')['shift']['blocks'])} blocks",
        "land_2021.tif in small",
    ]
    assert len(made.page.of("changes")) == 40


def test_the_twenty_largest_come_first_with_the_areas_and_ranks_of_the_polygons(pair, report):
    made = report("detect_change", *pair)
    meta, _, _, fields = pyogrio.raw.read(made.folder / "outputs" / "change.gpkg")
    table = dict(zip(meta["fields"], fields, strict=True))
    order = np.argsort(-table["area_m2"], kind="stable")[:20]
    assert made.shown("changes")["all"] == len(table["rank"]) > 20
    places = [place["fields"] for place in made.shown("changes")["places"]]
    assert [place["area_m2"] for place in places] == table["area_m2"][order].tolist()
    assert {place["rank"] for place in places} <= set(table["rank"].tolist())
    told = made.page.sections["changes"]
    assert f"The 20 largest of {made.shown('changes')['all']} outlined places" in told
    for number, place in enumerate(places, 1):
        said = (
            f"{number}. {area(place['area_m2'])}, mean magnitude {place['mean_magnitude']:.3g}, rank {place['rank']}."
        )
        assert said in told


def test_both_pictures_show_the_pixels_of_the_place_stretched_alike_with_the_box_around_it(make_raster, report):
    place = 100, 140, 20
    before_CHW = landscape()
    after_CHW = before_CHW.copy()
    after_CHW[:, 100:120, 140:160] = 250 - after_CHW[:, 100:120, 140:160]
    made = report("detect_change", make_raster(before_CHW, "a.tif"), make_raster(after_CHW, "b.tif"))
    (shown,) = made.shown("changes")["places"]
    left, top, across, down = shown["box"]
    assert (shown["height"], shown["width"], across, down) == (48, 48, 20, 20)
    row, column = round(place[0] - top), round(place[1] - left)
    windows_2CHW = np.stack([pixels[:, row : row + 48, column : column + 48] for pixels in (before_CHW, after_CHW)])
    valid_2CHW = np.ones_like(windows_2CHW, bool)
    one = limits(windows_2CHW, valid_2CHW)
    for file, pixels_CHW, (_, picture) in zip(shown["files"], windows_2CHW, made.page.of("changes"), strict=True):
        expected = stretch(pixels_CHW, np.ones_like(pixels_CHW, bool), one)
        np.testing.assert_array_equal(read_picture(made.folder / "shown" / file), expected)
        np.testing.assert_array_equal(picture, expected)
    assert shown["centre"] == [500000 + 150 * 10, 5100000 - 110 * 10]
    assert "501500.0, 5098900.0 (EPSG:32633)" in made.page.sections["changes"]


def test_where_nothing_is_outlined_the_report_says_why(pair, report):
    before, after = pair
    same = report("detect_change", before, before, "same").page
    check_whole(same)
    assert "do not differ beyond one pixel of misalignment, so that no threshold was set" in same.sections["changes"]
    assert "Switch 'Automatic threshold' off" in same.sections["changes"]
    assert "do not differ beyond" in same.sections["pair"].partition(".")[0]
    assert not same.of("changes")
    large = report("detect_change", before, after, "large", minimum_area=1e6).page
    assert "no place above the threshold" in large.sections["changes"]
    assert "as large as 1 km²" in large.sections["changes"]


def test_arrows_point_where_the_later_date_lies_and_a_check_has_no_changes(make_raster, report):
    pixels_CHW = landscape(height=300, width=340)
    moved_CHW = ndimage.shift(pixels_CHW, (0, 1.5, -2.5), order=3, mode="nearest")
    made = report("check_pair", make_raster(pixels_CHW, "a.tif"), make_raster(moved_CHW, "b.tif"))
    check_whole(made.page)
    picture, shift = made.shown("pair")["picture"], made.shown("pair")["shift"]
    metres = 10 / picture["metres"]
    ways = np.array([block["way"] for block in shift["blocks"] if block["counts"]])
    np.testing.assert_allclose(np.median(ways, axis=0), [-2.5 * metres, 1.5 * metres], atol=0.1)
    at = np.array([block["at"] for block in shift["blocks"]])
    assert (at > 0).all()
    assert (at < [picture["width"], picture["height"]]).all()
    assert "times as long" in made.page.sections["pair"]
    assert "changes" not in made.page.sections
    for finding in made.shown("pair")["findings"]:  # what is fine stands in the table, not above it
        above = f"{finding['topic']}: {finding['text']}" in made.page.sections[""]
        assert above == (finding["state"] == "warning")


def test_unrelated_dates_have_rings_and_no_arrow(make_raster, report):
    other_CHW = np.roll(landscape(), (150, 120), (1, 2))[:, ::-1]
    made = report("check_pair", make_raster(landscape(), "a.tif"), make_raster(other_CHW, "b.tif"))
    told = made.page.sections["pair"]
    blocks = made.shown("pair")["shift"]["blocks"]
    silent = sum(not block["counts"] for block in blocks)
    assert silent > len(blocks) / 2
    assert f"White rings: the dates are too unlike to tell ({silent} of {len(blocks)} blocks)" in told
    assert made.page.text.count("<circle") >= 2 * silent


def test_dates_of_other_types_bands_and_crs_are_shown_and_said(make_raster, report):
    before_CHW = landscape(bands=1, height=120, width=150)
    after_CHW = changed(before_CHW, [(40, 70)])
    before = make_raster(before_CHW.astype(np.uint8), "a.tif")
    all_the_same = {"automatic": False, "show": 10}
    after = make_raster((after_CHW * 100).astype(np.uint16), "b.tif")
    made = report("detect_change", before, after, **all_the_same)
    check_whole(made.page)
    assert "each has a stretch of its own" in made.page.sections["changes"]
    assert all(picture.std() > 20 for _, picture in made.page.of("changes"))
    transform = rasterio.transform.from_origin(15.0, 46.0525, 1.3e-4, 9e-5)
    warped = make_raster(after_CHW, "c.tif", "EPSG:4326", transform=transform)
    other = report("detect_change", before, warped, "warped", **all_the_same)
    check_whole(other.page)
    assert other.page.of("changes")


@pytest.mark.parametrize("folder", ["alert_pair_guianas", "naip_dakota"])
def test_real_pairs_have_a_whole_report_in_seconds(folder, data, report):
    names = {
        "alert_pair_guianas": ("before.tif", "after.tif"),
        "naip_dakota": ("naip_west_20180716.tif", "naip_west_20200831.tif"),
    }
    made = report("detect_change", *(data / folder / name for name in names[folder]))
    check_whole(made.page)
    places = made.shown("changes")["places"]
    assert len(places) == min(20, made.result["polygons"]) > 5
    assert len(made.page.of("changes")) == 2 * len(places)
    assert all(place["complete"] for place in places)
    for place in places:
        left, top, across, down = place["box"]
        assert left >= -0.6
        assert top >= -0.6
        assert left + across <= place["width"] + 0.6
        assert top + down <= place["height"] + 0.6
    total = sum(place["fields"]["area_m2"] for place in places)
    assert 0 < total <= made.result["area_changed_m2"] * (1 + 1e-9)
