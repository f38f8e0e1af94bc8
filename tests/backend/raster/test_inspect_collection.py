"""The page of a collection says what is usable, what is wrong and what to do, without opening a raster."""

from pathlib import Path
from typing import Any

import pytest
from rsfm.raster.collection import Band, Collection, Entry, save
from rsfm.raster.collection_findings import find_trouble
from rsfm.raster.inspect_collection import inspect_collection


def entry(name: str, bands: tuple[str, ...] = ("red", "nir"), **values: Any) -> Entry:
    named = tuple(Band(number=number, name=band) for number, band in enumerate(bands, 1))
    known: dict[str, Any] = {
        "bands": named, "date": "2020-06-15T10:00:00+00:00", "date_source": "name", "crs": "EPSG:32633", "gsd": 10.0,
        "height": 100, "width": 100, "footprint": (15.0, 46.0, 15.1, 46.1), "valid": 1.0,
    }  # fmt: skip
    return Entry(path=name, **{**known, **values})


def trouble(*entries: Entry) -> str:
    return "\n".join(find_trouble(Collection(name="x", entries=entries)))


def page(tmp_path: Path, *entries: Entry) -> str:
    for each in entries:
        (tmp_path / each.path).touch()
    path = tmp_path / "x.collection.json"
    save(path, Collection(name="fields", entries=entries))
    return inspect_collection(str(path))


def test_a_collection_in_order_has_no_trouble():
    assert trouble(entry("a.tif"), entry("b.tif", date="2020-07-15T10:00:00+00:00")) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"bands": ("VV", "VH")}, "share no band"),
        ({"bands": ("red", "green")}, "Only red are in all rasters and will be used; left out are nir, green"),
        ({"gsd": 21.0}, "Pixels are from 10 m ('a.tif') to 21 m ('b.tif')"),
        ({"crs": "EPSG:32634"}, "1 raster has another CRS than most"),
        ({"dtype": "float32"}, "different types (float32, uint8)"),
        ({"date": None, "date_source": "none"}, "1 raster has no date, such as 'b.tif'"),
        ({"month_known": False}, "Of 1 raster only the year is known"),
        ({"valid": 0.05}, "1 raster is more than nine tenths nodata, such as 'b.tif'"),
        ({}, "1 raster has the place, date, size and bands of another"),
        ({"problem": "'b.tif' is rotated."}, "1 of 2 rasters cannot be used"),
    ],
)
def test_trouble_is_named(other, words):
    assert words in trouble(entry("a.tif"), entry("b.tif", **other))


def test_pixels_up_to_twice_the_size_are_no_trouble():
    assert "Pixels" not in trouble(entry("a.tif"), entry("b.tif", gsd=20.0))


def test_linear_radar_among_decibels_is_trouble_and_optical_rasters_are_not():
    radar = entry("a.tif", bands=("VV",), decibel=True)
    assert "decibels" in trouble(radar, entry("b.tif", bands=("VV",)))
    assert "decibels" not in trouble(radar, entry("b.tif"))


def test_the_page_counts_bands_dates_and_groups(tmp_path):
    far = (20.0, 46.0, 20.1, 46.1)
    text = page(
        tmp_path,
        entry("a.tif"),
        entry("b.tif", date="2021-06-15T10:00:00+00:00", hour_known=True, date_source="metadata", mask="m.tif"),
        entry("c.tif", footprint=far, valid=0.5),
        entry("d.tif", used=False),
        entry("m.tif", ("cloud",), role="mask"),
    )
    assert "fields (x.collection.json)" in text
    assert "5: 4 imagery, 1 mask, 1 left out" in text
    assert "Bands        red, nir" in text
    assert "2 places, 1 with two dates or more (up to 2)" in text
    assert "2020-06-15 to 2021-06-15: 2 from names, 1 from metadata; the hour is known of 1" in text
    assert "83.3% of the pixels on average, 50.0% at the least" in text
    assert "1 of 3 have a mask of clouds" in text
    assert "can be learned from" in text


def test_the_page_says_why_each_raster_is_refused_and_what_files_are_gone(tmp_path):
    text = page(tmp_path, entry("a.tif"), entry("b.tif", problem="'b.tif' is rotated. Warp it."))
    assert "'b.tif' is rotated. Warp it." in text
    assert "Verdict      can be learned from" in text
    (tmp_path / "a.tif").unlink()
    text = inspect_collection(str(tmp_path / "x.collection.json"))
    assert "1 file is gone" in text
    assert "cannot be learned from as it is" in text


def test_bands_that_do_not_meet_cannot_be_learned_from(tmp_path):
    assert "cannot be learned" in page(tmp_path, entry("a.tif"), entry("b.tif", bands=("VV",)))
