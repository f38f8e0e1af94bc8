"""A collection's file in the plugin: dates as they are typed, what is kept of what the user said, paths."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rsfm_qgis.collection import NEW, UNSEEN, Collection, CollectionError
from rsfm_qgis.dates import middle, read_moment

BANDS = [{"number": 1, "name": "B2", "wavelength_nm": None}]


def entry(path, **said):
    return {**NEW, "path": path, "bands": BANDS, **said}


def finish(steps):
    """Do a work to its end and count its steps."""
    return sum(1 for _ in steps)


@pytest.mark.parametrize(
    ("text", "date", "hour_known"),
    [
        ("2015-07-11", "2015-07-11T10:00:00+00:00", False),
        (" 20150711 ", "2015-07-11T10:00:00+00:00", False),
        ("2015/7/1", "2015-07-01T10:00:00+00:00", False),
        ("2015-07-11 10:23", "2015-07-11T10:23:00+00:00", True),
        ("2015-07-11T00:00:05Z", "2015-07-11T00:00:05+00:00", True),
        ("2016-02-29", "2016-02-29T10:00:00+00:00", False),
    ],
)
def test_date_is_read_as_it_is_written(text, date, hour_known):
    assert read_moment(text) == (date, hour_known)


@pytest.mark.parametrize(
    "text", ["", "2015", "2015-13-01", "2015-02-29", "2015-07-11 25:00", "201571", "11.7.2015", "x"]
)
def test_what_is_no_date_is_none(text):
    assert read_moment(text) is None


def test_range_of_a_layer_is_its_moment_its_day_or_its_middle_and_none_beyond_a_month():
    begin = datetime(2015, 7, 1)
    noon = datetime(2015, 7, 1, 12, 30)
    assert middle(noon, noon) == ("2015-07-01T12:30:00+00:00", True)
    assert middle(begin, begin + timedelta(hours=24)).date[:10] == "2015-07-01"
    assert middle(begin, datetime(2015, 7, 31)).date[:10] == "2015-07-16"
    assert middle(begin, datetime(2016, 7, 1)) is None
    assert middle(noon, begin) is None


@pytest.mark.parametrize(
    ("known", "found", "kept"),
    [("table", "metadata", True), ("layer", "name", True), ("layer", "none", True), ("layer", "metadata", False),
     ("name", "metadata", False), ("none", "name", False)],
)  # fmt: skip
def test_date_of_the_user_stays_and_others_give_way_to_better_ones(tmp_path, known, found, kept):
    collection = Collection(tmp_path / "a.collection.json")
    collection.add([entry("/a.tif", date="2001-01-01T10:00:00+00:00", date_source=known)])
    finish(collection.merge([entry("/a.tif", date="2002-02-02T10:00:00+00:00", date_source=found)]))
    assert (collection.entries[0]["date"][:4], collection.entries[0]["date_source"]) == (
        ("2001", known) if kept else ("2002", found)
    )


def test_rasters_below_the_collection_are_named_from_there(tmp_path):
    path = tmp_path / "a.collection.json"
    inside, outside = str(tmp_path / "scenes" / "a.tif"), "/elsewhere/b.tif"
    collection = Collection(path)
    collection.add([entry(inside, mask=str(tmp_path / "m.tif")), entry(outside), entry('NETCDF:"/a.nc":b')])
    finish(collection.write())
    written = json.loads(path.read_text())["entries"]
    assert [each["path"] for each in written] == ["scenes/a.tif", outside, 'NETCDF:"/a.nc":b']
    moved = tmp_path / "moved" / path.name
    moved.parent.mkdir()
    path.rename(moved)
    again = Collection(moved)
    finish(again.read())
    assert again.entries[0]["path"] == str(moved.parent / "scenes" / "a.tif")
    assert again.entries[0]["mask"] == str(moved.parent / "m.tif")


def test_what_is_not_known_here_is_written_as_it_was(tmp_path):
    path = tmp_path / "a.collection.json"
    head = {"format": "rsfm-collection-1", "name": 'with "entries": [ in it', "later": [1]}
    path.write_text(json.dumps({**head, "entries": [entry("/a.tif", later={"x": "}],"}), entry("/b.tif")]}))
    collection = Collection(path)
    finish(collection.read())
    collection.change(["/b.tif"], {"role": "mask"})
    finish(collection.write())
    written = json.loads(path.read_text())
    assert {name: written[name] for name in head} == head
    assert written["entries"][0]["later"] == {"x": "}],"}
    assert [each["role"] for each in written["entries"]] == ["imagery", "mask"]


def test_raster_added_is_unusable_until_somebody_looked_at_it(tmp_path):
    collection = Collection(tmp_path / "a.collection.json")
    assert collection.add([{"path": "/a.tif"}]) == ["/a.tif"]
    assert collection.add([{"path": "/a.tif"}, {"path": "/b.tif"}]) == ["/b.tif"]
    assert {each["problem"] for each in collection.entries} == {UNSEEN}


def test_long_work_is_cut_into_small_steps(tmp_path):
    path = tmp_path / "a.collection.json"
    collection = Collection(path)
    collection.add([entry(f"/{number}.tif") for number in range(1000)])
    assert finish(collection.write()) >= 1000
    assert finish(Collection(path).read()) == 1000
    assert finish(collection.merge([entry(f"/{number}.tif") for number in range(1000)])) == 1000


def test_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    collection = Collection(tmp_path / "file" / "a.collection.json")
    with pytest.raises(CollectionError, match="cannot be written"):
        finish(collection.write())


def test_no_half_written_file_is_left_when_another_program_was_faster(tmp_path):
    path = tmp_path / "a.collection.json"
    collection = Collection(path)
    finish(collection.write())
    path.write_text("changed")
    with pytest.raises(CollectionError, match="another program"):
        finish(collection.write())
    assert [each.name for each in Path(tmp_path).iterdir()] == [path.name]
    assert path.read_text() == "changed"
