"""What a run's folder says is read as it stands."""

import json

from rsfm_qgis.records import read_record


def test_an_output_that_is_told_twice_is_one_and_the_last_word_counts(tmp_path):
    said = [("a.tif", "first"), ("b.tif", "other"), ("a.tif", "whole")]
    events = [{"type": "output", "kind": "classes", "path": path, "title": title} for path, title in said]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert [(each.path, each.title) for each in read_record(tmp_path).outputs] == [
        ("a.tif", "whole"),
        ("b.tif", "other"),
    ]
