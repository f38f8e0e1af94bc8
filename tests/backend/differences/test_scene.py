"""BIT on the made landscape: what was built, among fields that were cropped and woods that were cut."""

import json

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import shapes
from rsfm.sample import TRANSFORM, make_sample, scene_name
from rsfm.scene.classes import INDUSTRIAL, RESIDENTIAL
from rsfm.scene.render import AFTER, BEFORE
from sklearn.metrics import f1_score

from tests.backend.toy_model import pixels, run_job

SIZE = 1024
LEARN = {
    "training": {"minutes": 0, "epochs": 130, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.01},
    "encoder": {"name": "conv_small", "width": 96},
    "head": {"name": "bit"},
    "device": "cpu",
}


def make_scene(folder, seed):
    """Make a scene and draw what was built; returns both dates, the polygons and the truth."""
    make_sample(folder, SIZE, seed)
    before_HW, after_HW = (pixels(folder / f"truth_classes_{taken.date}.tif")[0] for taken in (BEFORE, AFTER))
    built_HW = (before_HW != after_HW) & np.isin(after_HW, (INDUSTRIAL, RESIDENTIAL))
    found = shapes(built_HW.astype("uint8"), mask=built_HW, transform=TRANSFORM)
    wkb = shapely.to_wkb([shapely.geometry.shape(outline) for outline, _ in found])
    with rasterio.open(folder / scene_name(BEFORE)) as opened:
        crs = opened.crs.to_wkt()
    pyogrio.raw.write(folder / "built.gpkg", wkb, [], [], geometry_type="Polygon", crs=crs)
    dates = {"before": str(folder / scene_name(BEFORE)), "after": str(folder / scene_name(AFTER))}
    return dates, str(folder / "built.gpkg"), built_HW


@pytest.mark.slow
def test_bit_finds_what_was_built_on_held_out_blocks_and_in_another_landscape(tmp_path):
    dates, changes, _ = make_scene(tmp_path / "learned", 0)
    (west, north), side = TRANSFORM * (0, 0), SIZE * TRANSFORM.a
    whole = f"{west},{north - side},{west + side},{north}"
    outputs = run_job(tmp_path, "finetune_change", "taught", **dates, changes=changes, complete=whole, **LEARN)
    result = json.loads((outputs.parent / "run.json").read_text())["result"]
    print(result["sentence"])
    assert result["f1"] >= 0.9
    assert result["f1_ir_mad"] < result["f1"] - 0.1
    others, _, built_HW = make_scene(tmp_path / "other", 1)
    found = run_job(
        tmp_path, "detect_change", "other_map", **others, model=str(outputs / "model.safetensors"), device="cpu"
    )
    f1 = f1_score(built_HW.ravel(), pixels(found / "change.tif")[0].ravel() == 1)
    print(f"F1 in another landscape: {f1:.3f}")
    assert f1 >= 0.8
