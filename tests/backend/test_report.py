"""The report of a run: numbers with their names and units, and the names that the user gave as they are."""

import re

import pytest
from rsfm import result_words, runs
from rsfm.errors import Stopped
from rsfm.report import write_report
from rsfm.segmentation import sentence
from rsfm.shown import keep_part


def report(folder, result):
    run = runs.create(folder, "segment", "Segment a Raster", {})
    runs.update(run, state="done", ended=runs.now(), result=result)
    write_report(run, "Segment a Raster")
    return (run / "report.html").read_text(encoding="utf-8")


def rows(text):
    return re.findall(r"<tr><th>([^<]*)</th><td[^>]*>([^<]*)</td>", text)


def test_areas_have_their_unit_and_classes_the_names_that_the_user_gave(tmp_path):
    text = report(tmp_path, {"area_m2": {"water": 1234567.8, "share": 20.0, "steps <b>": 0.0}, "share_changed": 0.125})
    assert "Area of each class on the ground, m²" in text
    assert ("water", "1,234,568") in rows(text)
    assert ("share", "20.000") in rows(text)
    assert ("steps &lt;b&gt;", "0.000") in rows(text)
    assert ("Outlined pixels", "12.50 %") in rows(text)


@pytest.mark.parametrize(("device", "told"), [({"device": "cuda:0"}, ", device cuda:0, RSFM"), ({}, " UTC, RSFM")])
def test_the_head_names_the_device_where_a_network_ran_on_one(device, told, tmp_path):
    run = runs.create(tmp_path, "detect_change", "Detect Change", {})
    runs.update(run, state="done", ended=runs.now(), result={}, **device)
    write_report(run, "Detect Change")
    text = (run / "report.html").read_text(encoding="utf-8")
    assert told in text
    assert (", device" in text) == bool(device)


def test_columns_of_a_confusion_are_classes_and_those_of_scores_have_titles(tmp_path):
    counts = {"iou": {"iou": 5, "f1": 1}, "f1": {"iou": 0, "f1": 7}}
    text = report(tmp_path, {"confusion": counts, "classes": {"iou": {"f1": 0.5, "iou": 0.25}}})
    assert "<tr><th></th><th>iou</th><th>f1</th></tr>" in text
    assert "<tr><th></th><th>F1</th><th>IoU</th></tr><tr><th>iou</th>" in text


def test_a_part_that_fails_is_a_sentence_of_the_report_and_stopping_goes_through(tmp_path):
    run = runs.create(tmp_path, "detect_change", "Detect Change", {})
    keep_part(run / "shown", "changes", lambda: {"places": 1 / 0})
    runs.update(run, state="done", ended=runs.now(), result={})
    write_report(run, "Detect Change")
    assert "could not be made (ZeroDivisionError" in (run / "report.html").read_text(encoding="utf-8")

    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        keep_part(run / "shown", "pair", stop)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("seconds_left", "Seconds left"),
        ("cloud_seconds", "Cloud, s"),
        ("mean_height_m", "Mean height, m"),
        ("NDVI", "NDVI"),
    ],
)
def test_a_number_without_a_title_is_called_by_its_name_and_unit(name, title):
    assert result_words.title(name) == title


@pytest.mark.parametrize(
    ("area", "text"),
    [(0, "0 m²"), (950.4, "950 m²"), (12_345, "1.23 ha"), (8_280_000, "8.28 km²"), (123_456_789_012, "123,457 km²")],
)
def test_an_area_is_told_in_the_unit_that_suits_it(area, text):
    assert result_words.area(area) == text


def test_what_was_mapped_is_told_with_the_largest_classes_first():
    assert sentence({"water": 2e6, "land": 6e6}) == "Mapped 8 km²: land 75 %, water 25 %."
    assert sentence(dict.fromkeys("abcdef", 10000.0)).endswith("d 17 %, 2 others.")
    assert sentence({"water": 0.0}) == "No pixel of the area is valid."
