"""A shift that is corrected costs nothing: the ranking of true change is that of the pair that was not shifted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rsfm import runs
from rsfm.change import detect_change
from rsfm.jobs.detect_change import DetectChangeConfig
from sklearn.metrics import average_precision_score, roc_auc_score

from .test_shift import write_displaced

WATER = "naip_dakota/change_water_west_20180716_20200831.tif"


@pytest.fixture
def precision(data: Path, tmp_path: Path) -> Callable[..., float]:
    """Return the average precision of IR-MAD for water that changed, away from the edge."""
    before = data / "naip_dakota" / "naip_west_20180716.tif"
    with rasterio.open(data / WATER) as dataset, rasterio.open(before) as earlier:
        truth_HW, origin = dataset.read(1) == 1, earlier.transform

    def of(after: Path, **values: Any) -> float:
        folder = runs.create(tmp_path / "runs", "detect_change", "test", {})
        detect_change(DetectChangeConfig(before=str(before), after=str(after), **values), runs.Run(folder))
        with rasterio.open(folder / "outputs" / "magnitude.tif") as dataset:
            column, row = (round(value) for value in ~origin @ (dataset.transform.c, dataset.transform.f))
            found_HW = np.full(truth_HW.shape, np.nan)
            found_HW[row : row + dataset.height, column : column + dataset.width] = dataset.read(1)
        valid_HW = np.isfinite(found_HW)
        valid_HW[:8], valid_HW[-8:], valid_HW[:, :8], valid_HW[:, -8:] = False, False, False, False
        return float(average_precision_score(truth_HW[valid_HW], found_HW[valid_HW]))

    return of


def test_after_correction_precision_is_that_of_the_pair_that_was_not_shifted(
    precision: Callable[..., float], data: Path, tmp_path: Path
) -> None:
    after = data / "naip_dakota" / "naip_west_20200831.tif"
    still = precision(after)
    for shift in ((0.5, 0.5), (-1.2, 0.9), (2.1, 2.1)):
        moved = write_displaced(after, tmp_path / "after.tif", *shift)
        assert precision(moved, correct_shift=True) == pytest.approx(still, abs=0.02), shift
    assert precision(moved) < still - 0.05, "a shift of 3 px should have cost something"


PAIRS = [
    ("naip_dakota", "naip_west_20090818", "naip_west_20120731", "change_water_west_20090818_20120731", 0.93, 0.84),
    ("naip_dakota", "naip_west_20090818", "naip_west_20200831", "change_water_west_20090818_20200831", 0.91, 0.80),
    ("landsat_ucayali", "landsat_ucayali_west_1985", "landsat_ucayali_west_2020", "change_water_west_1985_2020", 0.96,
     0.95),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "before", "after", "mask", "ranks", "cva"), PAIRS)
def test_the_mean_rank_is_never_far_from_the_best(
    folder: str, before: str, after: str, mask: str, ranks: float, cva: float, data: Path, tmp_path: Path
) -> None:
    """Bounds are what was measured once, minus 0.03."""
    paths = data / folder / f"{before}.tif", data / folder / f"{after}.tif"
    with rasterio.open(data / folder / f"{mask}.tif") as dataset:
        truth_HW = dataset.read(1) == 1
    for method, bound in (("rank_average", ranks), ("robust_cva", cva)):
        run = runs.create(tmp_path / "runs", "detect_change", "test", {})
        config = DetectChangeConfig(before=str(paths[0]), after=str(paths[1]), method=method)
        result = detect_change(config, runs.Run(run))
        with rasterio.open(run / "outputs" / "magnitude.tif") as dataset:
            found_HW = dataset.read(1)
        valid_HW = np.isfinite(found_HW)
        auc = roc_auc_score(truth_HW[valid_HW], found_HW[valid_HW])
        assert auc >= bound, f"{method}: {auc:.3f}"
        assert result["method"] == method
