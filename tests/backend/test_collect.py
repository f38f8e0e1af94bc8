"""The job: rasters in, a collection and its trouble out."""

import json
from pathlib import Path

import numpy as np
from rsfm import cli
from rsfm.raster.collection import load


def run(tmp_path: Path, *arguments: str) -> tuple[int, Path]:
    folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
    return cli.main(["collect", *arguments, "--run", str(folder)]), folder


def test_the_command_makes_a_collection_and_says_what_is_in_it(tmp_path, make_raster, capsys):
    path = make_raster(np.random.default_rng(0).integers(1, 3000, (4, 40, 40)).astype("uint16"), "S2_20200101.tif")
    make_raster(np.ones((4, 40, 40), "uint16"), "nowhere.tif", crs=None)
    code, folder = run(tmp_path, "--rasters", f"{tmp_path}/*.tif", "--name", "my fields")
    assert code == 0
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    (output,) = [event for event in events if event["type"] == "output"]
    assert (output["kind"], output["title"]) == ("collection", "my fields")
    assert [entry.path for entry in load(output["path"]).imagery] == [str(path)]
    assert any("nowhere.tif" in event["text"] for event in events if event["type"] == "note")
    assert any("1 of 2 rasters cannot be used" in event["text"] for event in events if event["type"] == "warning")
    result = json.loads((folder / "run.json").read_text())["result"]
    assert (result["rasters"], result["imagery"], result["first"]) == (2, 1, "2020-01-01")
    assert cli.main(["inspect", output["path"]]) == 0
    assert "my fields" in capsys.readouterr().out


def test_the_collection_goes_where_it_is_wanted_and_is_extended(tmp_path, make_raster):
    pixels = np.random.default_rng(0).integers(1, 3000, (2, 40, 40)).astype("uint16")
    target = tmp_path / "fields.collection.json"
    first, second = make_raster(pixels, "a.tif"), make_raster(pixels, "b.tif")
    assert run(tmp_path, "--rasters", str(first), "--output", str(tmp_path / "fields"))[0] == 0
    assert run(tmp_path, "--rasters", str(second), "--output", str(target))[0] == 0
    assert [entry.path for entry in load(str(target)).entries] == [str(first), str(second)]


def test_nothing_to_learn_from_is_refused_and_leaves_nothing(tmp_path, make_raster, capsys):
    make_raster(np.ones((1, 40, 40), "uint16"), "a.tif", crs=None)
    code, folder = run(tmp_path, "--rasters", str(tmp_path / "a.tif"))
    assert code == 2
    assert not folder.exists()
    assert "None of the 1 rasters can be learned from. 'a.tif' has no CRS" in capsys.readouterr().err
    code, folder = run(tmp_path, "--rasters", str(tmp_path / "a.tif"), "--output", str(tmp_path / "none" / "x"))
    assert code == 2
    assert "does not exist" in capsys.readouterr().err


def test_rasters_that_cannot_be_used_are_written_with_the_reason_when_asked(tmp_path, make_raster):
    make_raster(np.ones((1, 40, 40), "uint16"), "a.tif", crs=None)
    target = tmp_path / "x.collection.json"
    code, _ = run(tmp_path, "--rasters", str(tmp_path / "a.tif"), "--output", str(target), "--refuse-useless", "false")
    assert code == 0
    assert "has no CRS" in load(str(target)).entries[0].problem


def test_collecting_needs_no_torch(tmp_path, make_raster):
    import subprocess
    import sys

    path = make_raster(np.ones((2, 40, 40), "uint16"))
    code = (
        "import sys; from rsfm.raster.gather import gather; from pathlib import Path; import rsfm.collecting;"
        f"gather([{str(path)!r}], 'x', Path('x.collection.json')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
