"""What became what: counted from three rasters, and what is said where they contradict each other."""

import json

import numpy as np
import pytest
from rsfm.differences.from_to import Counts, consistency, sentence
from rsfm.model_file import ClassName

from tests.backend.toy_model import CLASSES, make_model, pixels, run_job

from .pair_case import GSD, make_places


def test_the_matrix_is_what_counting_pixels_gives_and_adds_up_to_what_changed(tmp_path):
    places = make_places(tmp_path)
    model = make_model(tmp_path / "classes.safetensors", places.before)
    bounds = "500000,5099700,500340,5100000"
    given = {"before": str(places.before), "after": str(places.after), "area": bounds, "classes": str(model)}
    outputs = run_job(tmp_path, "detect_change", "map", **given, device="cpu", automatic=False, show=20, minimum_area=1)
    result = json.loads((outputs.parent / "run.json").read_text())["result"]
    change_HW, before_HW, after_HW = (
        pixels(outputs / f"{name}.tif")[0] for name in ("change", "classes_before", "classes_after")
    )
    assert change_HW.shape == before_HW.shape == after_HW.shape == (150, 170)
    for one in CLASSES:
        for other in CLASSES:
            found = ((change_HW == 1) & (before_HW == one.value) & (after_HW == other.value)).sum() * GSD**2
            assert result["from_to_m2"][one.name][other.name] == pytest.approx(found, rel=2e-3, abs=0.1)
    changed, same = change_HW == 1, before_HW == after_HW
    assert result["same_class_share"] == pytest.approx((changed & same).sum() / changed.sum(), abs=1e-3)
    assert result["other_class_share"] == pytest.approx(
        ((change_HW == 0) & ~same).sum() / (change_HW == 0).sum(), abs=1e-3
    )
    assert result["polygons"] > 0


def test_maps_that_contradict_each_other_are_said_to():
    names = [ClassName(value=value, name=name, colour="#000000") for value, name in ((1, "wood"), (4, "field"))]
    changed, unchanged = np.zeros((2, 256, 256))
    changed[1, 4], changed[4, 4], unchanged[1, 1], unchanged[4, 1] = 30, 10, 95, 5
    found = consistency(Counts(changed, unchanged), [1, 4])
    assert found == (0.25, pytest.approx(0.05))
    text = sentence(Counts(changed, unchanged), names, found)
    assert text.startswith("75 % of what changed went from wood to field.")
    assert "25 % of what changed has the same class" in text
    assert "Do not trust" not in text
    changed[4, 4] = 70
    worse = Counts(changed, unchanged)
    assert "Do not trust" in sentence(worse, names, consistency(worse, [1, 4]))
    nothing = Counts(np.zeros((256, 256)), np.zeros((256, 256)))
    assert consistency(nothing, [1, 4]) == (0, 0)
    assert sentence(nothing, names, consistency(nothing, [1, 4])).startswith("0 % of what changed has")
