"""A collection's file can be moved with its rasters, and says what is wrong with it."""

import json
import os
from pathlib import Path

import pytest
from rsfm.errors import UserError
from rsfm.raster.collection import Collection, Entry, is_collection, load, save


@pytest.mark.parametrize(
    "path", ['NETCDF:"/data/sea.nc":heat', "https://example.org/a.tif", "/vsizip//data/a.zip/b.tif"]
)
def test_a_name_that_is_no_file_stays_as_it_is(tmp_path: Path, path: str) -> None:
    file = tmp_path / "a.collection.json"
    save(file, Collection(name="a", entries=(Entry(path=path, mask=path),)))
    (entry,) = load(str(file)).entries
    assert (entry.path, entry.mask) == (path, path)


def test_rasters_below_the_collection_move_with_it_and_others_stay(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    inside, outside = before / "deep" / "a.tif", tmp_path / "b.tif"
    file = before / "a.collection.json"
    save(file, Collection(name="a", entries=(Entry(path=str(inside)), Entry(path=str(outside)))))
    os.rename(before, after)
    assert [entry.path for entry in load(str(after / file.name)).entries] == [
        str(after / "deep" / "a.tif"),
        str(outside),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no JSON", "not a collection of this version"),
        (json.dumps({"format": "rsfm-collection-9", "name": "a"}), "format"),
        (json.dumps({"name": "a", "entries": [{"path": "a.tif", "gsd": "wide"}]}), "entries.0.gsd"),
    ],
)
def test_what_is_no_collection_is_refused_with_a_sentence(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "a.collection.json"
    file.write_text(text)
    assert is_collection(str(file))
    with pytest.raises(UserError, match=expected) as caught:
        load(str(file))
    assert caught.value.field == "rasters"


def test_a_collection_that_is_gone_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(str(tmp_path / "gone.collection.json"))
