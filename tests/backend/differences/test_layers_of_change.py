"""The layers that detecting change makes by each method, from start to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pydantic import ValidationError
from rsfm import runs
from rsfm.change import detect_change
from rsfm.differences.shares import ALL_PERCENTS
from rsfm.jobs.detect_change import DetectChangeConfig

from tests.backend.magnitudes.test_magnitudes import FIELD, changed, scene_pixels, write_model

Run = tuple[dict[str, Any], list[dict[str, Any]], Path]


@pytest.fixture
def detect(make_raster: Callable[..., Path], tmp_path: Path) -> Callable[..., Run]:
    before_CHW = scene_pixels()
    before, after = make_raster(before_CHW, "before.tif"), make_raster(changed(before_CHW), "after.tif")

    def run_it(**values: Any) -> Run:
        folder = runs.create(tmp_path / "runs", "detect_change", "test", {})
        result = detect_change(DetectChangeConfig(before=str(before), after=str(after), **values), runs.Run(folder))
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        return result, [event for event in events if event["type"] == "output"], folder / "outputs"

    return run_it


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def _next_step(values_N: np.ndarray, cut: float) -> float:
    """Return what is less by a thousandth than the largest value that a cut leaves out."""
    below_N = values_N[values_N <= cut]
    return float(below_N.max()) * 0.999 if below_N.size else -1.0


@pytest.mark.parametrize("method", ["deep", "dcva"])
def test_what_an_encoder_sees_is_outlined_on_its_own_grid(
    method: str, detect: Callable[..., Run], tmp_path: Path
) -> None:
    result, outputs, folder = detect(method=method, model=write_model(tmp_path / "m.safetensors"), device="cpu")
    change_HW = read(folder / "change.tif")
    step = round(200 / len(change_HW))
    assert step == {"deep": 2, "dcva": 1}[method]
    field = tuple(slice(part.start // step + 3, part.stop // step - 3) for part in FIELD)
    assert change_HW[field].mean() > 0.8
    assert result["polygons"] >= 1
    assert result["method"] == method
    assert [output["kind"] for output in outputs] == ["magnitude", "change", "change_polygons"]
    assert 400_000 > result["area_changed_m2"] > 150_000


def test_the_other_methods_become_layers_when_asked_and_none_is_called_a_probability(
    detect: Callable[..., Run], tmp_path: Path
) -> None:
    _, outputs, folder = detect(all_methods=True, model=write_model(tmp_path / "m.safetensors"), device="cpu")
    names = [Path(output["path"]).name for output in outputs]
    assert names == [
        "magnitude.tif", "change.tif", "change.gpkg", "magnitude_difference.tif", "magnitude_rank_average.tif",
        "embedding_difference.tif",
    ]  # fmt: skip
    assert not any("robab" in output["title"] for output in outputs)
    ranks_HW = read(folder / "magnitude_rank_average.tif")
    assert ranks_HW.min() >= 0
    assert ranks_HW.max() <= 1
    for output in outputs:
        if output["kind"] == "magnitude":
            values_N = read(Path(output["path"])).ravel()
            values_N = values_N[np.isfinite(values_N)]
            for percent, cut in list(zip(ALL_PERCENTS, output["style"]["cuts"], strict=True))[::33]:
                assert (values_N > cut).mean() <= percent / 100 + 1e-9
                assert (values_N > _next_step(values_N, cut)).mean() >= percent / 100 - 1e-9


def test_ranks_have_no_histogram_to_cut_so_that_the_share_asked_for_is_outlined(detect: Callable[..., Run]) -> None:
    result, _, _ = detect(method="rank_average", show=4, minimum_area=100)
    assert result["share_changed"] == pytest.approx(0.04, abs=0.01)
    assert "The 4 % that differ most are outlined" in result["sentence"]


def test_a_method_that_reads_an_encoder_asks_for_a_model() -> None:
    with pytest.raises(ValidationError, match="Choose one under 'Model'"):
        DetectChangeConfig(before="a.tif", after="b.tif", method="deep")
