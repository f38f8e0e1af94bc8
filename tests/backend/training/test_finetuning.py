"""The choice among feature sources: what it says, whom it prefers, and when it cannot be made."""

import json

import numpy as np
import pyogrio.raw
import pytest
import shapely
import torch
from rsfm import cli, model_file
from rsfm.errors import UserError
from rsfm.training.finetuning import Result, choose
from rsfm.training.linear_fit import LinearFit, Validated

from tests.backend.toy_model import run_job, write_config

SIDE, SQUARE = 120, 10


def results(**scores):
    fitted = LinearFit(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    return {
        name: Result(None if score is None else Validated(0.1, score), None, fitted) for name, score in scores.items()
    }


def test_the_sentence_says_what_won_and_by_how_much():
    chosen, sentence = choose(results(pixels=0.66, texture=0.71, untrained=0.6, pretrained=0.784), "best")
    assert chosen == "pretrained"
    assert sentence == (
        "Used, because it did best: pretrained encoder, by 0.07 over pixels and texture. Mean IoU on held-out "
        "polygons: pretrained encoder 0.78, pixels and texture 0.71, pixels 0.66, untrained encoder 0.60."
    )


def test_a_lead_that_rounds_to_nothing_is_called_so():
    _, sentence = choose(results(pixels=0.7031, texture=0.7002), "best")
    assert "pixels, by less than 0.01 over pixels and texture." in sentence


def test_pretraining_that_does_not_win_is_not_used_and_called_unneeded():
    chosen, sentence = choose(results(pixels=0.9, texture=0.8, untrained=0.7, pretrained=0.85), "best")
    assert chosen == "pixels"
    assert sentence.endswith("Pretraining is not needed for these classes.")


def test_of_equals_the_simpler_is_used():
    assert choose(results(pixels=0.8, texture=0.8, untrained=0.8, pretrained=0.8), "best")[0] == "pixels"


def test_what_the_user_wants_is_used_or_refused():
    assert choose(results(pixels=0.8, texture=0.9), "pixels") == ("pixels", "Used, as you chose: pixels.")
    with pytest.raises(UserError, match="no pretrained encoder"):
        choose(results(pixels=0.8), "pretrained")


@pytest.mark.parametrize(("polygons", "judged"), [(2, False), (3, True)])
def test_with_fewer_than_three_polygons_a_class_the_job_says_that_it_cannot_be_judged(
    tmp_path, make_raster, polygons, judged
):
    random = np.random.default_rng(0)
    pixels_CHW = random.integers(900, 1100, (3, SIDE, SIDE))
    pixels_CHW[:, :, SIDE // 2 :] += 400
    raster = make_raster(pixels_CHW.astype("uint16"))
    places = [(15 + 35 * at, column) for at in range(polygons) for column in (20, 80)]
    squares = [shapely.box(column, row, column + SQUARE, row + SQUARE) for row, column in places]
    squares = shapely.transform(np.array(squares, object), lambda at: at * [10, -10] + [500000, 5100000])
    names = np.array(["dark" if column < SIDE // 2 else "bright" for _, column in places], object)
    labels = tmp_path / "labels.gpkg"
    pyogrio.raw.write(labels, shapely.to_wkb(squares), [names], ["class"], geometry_type="Polygon", crs="EPSG:32633")
    outputs = run_job(tmp_path, "finetune", "run", raster=str(raster), labels=str(labels), device="cpu")
    result = json.loads((outputs.parent / "run.json").read_text())["result"]
    told = "'bright' (2), 'dark' (2) have fewer than 3 polygons, so it cannot be judged by cross-validation"
    assert (told in result["sentence"]) != judged
    assert ("Used, because it did best" in result["sentence"]) == judged
    assert all((score is not None) == judged for score in result["mean_iou_polygons"].values())
    warnings = [
        event["text"]
        for event in map(json.loads, (outputs.parent / "events.jsonl").read_text().splitlines())
        if event["type"] == "warning"
    ]
    assert any(told in text for text in warnings) != judged
    assert (outputs / "model.safetensors").exists()


def halves(make_raster):
    random = np.random.default_rng(0)
    pixels_CHW = random.integers(900, 1100, (3, SIDE, SIDE))
    pixels_CHW[:, :, SIDE // 2 :] += 120
    return str(make_raster(pixels_CHW.astype("uint16")))


def write(path, places):
    """Write squares at (row, column), dark on the left of the raster and bright on the right."""
    squares = [shapely.box(column, row, column + SQUARE, row + SQUARE) for row, column in places]
    squares = shapely.transform(np.array(squares, object), lambda at: at * [10, -10] + [500000, 5100000])
    names = np.array(["dark" if column < SIDE // 2 else "bright" for _, column in places], object)
    pyogrio.raw.write(path, shapely.to_wkb(squares), [names], ["class"], geometry_type="Polygon", crs="EPSG:32633")
    return str(path)


def finetuned(tmp_path, name, **config):
    outputs = run_job(tmp_path, "finetune", name, device="cpu", **config)
    return outputs, json.loads((outputs.parent / "run.json").read_text())["result"]


LEARNED = [(row, column) for row in (5, 40, 75) for column in (10, 40, 70, 100)]


def test_own_polygons_judge_what_is_learned_from_all_others_and_change_no_weight(tmp_path, make_raster):
    common = {"raster": halves(make_raster), "labels": write(tmp_path / "labels.gpkg", LEARNED), "features": "pixels"}
    check = write(tmp_path / "check.gpkg", [(105, 5), (105, 25), (105, 75)])
    wrong = write(tmp_path / "wrong.gpkg", [(105, 75), (105, 95), (105, 5)])
    outputs, result = finetuned(tmp_path, "own", **common, validation=check)
    assert result["split"] == "The scores come from the 3 polygons of 'check.gpkg', your own."
    counts = {truth: sum(row.values()) for truth, row in result["confusion"].items()}
    assert counts == {"dark": 200, "bright": 100}
    parts = pyogrio.raw.read(outputs / "split.gpkg")[3][0]
    assert sorted(parts) == ["test"] * 3 + ["train"] * 12
    alone, _ = finetuned(tmp_path, "none", **common)
    others, _ = finetuned(tmp_path, "wrong", **common, validation=wrong)
    heads = [model_file.load(str(each / "model.safetensors")).tensors for each in (outputs, alone, others)]
    for head in heads[1:]:
        assert all(torch.equal(head[name], heads[0][name]) for name in head)


def test_in_turns_every_polygon_is_judged_once(tmp_path, make_raster):
    common = {"raster": halves(make_raster), "labels": write(tmp_path / "labels.gpkg", LEARNED)}
    outputs, result = finetuned(tmp_path, "turns", **common, folds=3)
    assert sum(sum(row.values()) for row in result["confusion"].values()) == len(LEARNED) * SQUARE**2
    assert "dealt into 3 parts, and each was held out once" in result["split"]
    assert set(pyogrio.raw.read(outputs / "split.gpkg")[3][0]) == {"turn 1", "turn 2", "turn 3"}
    _, once = finetuned(tmp_path, "once", **common)
    assert sum(sum(row.values()) for row in once["confusion"].values()) < len(LEARNED) * SQUARE**2


def test_a_decoder_is_not_taught_in_turns_and_says_what_to_do(tmp_path, make_raster, capsys):
    labels = write(tmp_path / "labels.gpkg", LEARNED)
    config = {"raster": halves(make_raster), "labels": labels, "head": {"name": "upernet"}, "folds": 4, "device": "cpu"}
    assert cli.main(["run", "finetune", str(write_config(tmp_path, "c", **config)), "--run", str(tmp_path / "r")]) != 0
    assert "4 folds would have this head learn as many times over. Set 'Folds' to 1" in capsys.readouterr().err
