"""Pairs of dates with two kinds of change, and marks on them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rsfm import runs
from rsfm.differences.pair_config import AlignedPairConfig
from rsfm.differences.refining import refine_change
from rsfm.jobs.refine_change import RefineChangeConfig
from scipy import ndimage

MINE, HARVEST = (slice(40, 64), slice(70, 100)), (slice(60, 110), slice(5, 40))
THIS = ((45, 75), (50, 85), (60, 95), (55, 72))
NOT_THIS = ((10, 10), (20, 120), (100, 130), (70, 60), (80, 20), (100, 10))
"""Rows and columns; the last two are harvest."""
ORIGIN, PIXEL = (500000, 5100000), 10
Places = Sequence[tuple[int, int]]


class Made(NamedTuple):
    result: dict[str, Any]
    events: list[dict[str, Any]]
    outputs: Path

    def read(self, name: str) -> np.ndarray:
        with rasterio.open(self.outputs / name) as dataset:
            return np.asarray(dataset.read(1))

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type]


def landscape(seed: int = 0, height: int = 120, width: int = 150) -> np.ndarray:
    """Draw 3 bands of patches and texture, 40 to 200 grey levels."""
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(3, height, width)), (0, 4, 4))
    fields = fields / fields.std() * 30 + 110 + random.normal(size=fields.shape) * 2
    return np.clip(fields, 1, 255).astype(np.float32)


def changed(before_CHW: np.ndarray) -> np.ndarray:
    """Add noise everywhere, a bright mine, and a harvest that is larger and stronger in one band."""
    random = np.random.default_rng(9)
    after_CHW = before_CHW + random.normal(size=before_CHW.shape) * 2
    after_CHW[(slice(None), *MINE)] = 190 + random.normal(size=(3, 24, 30)) * 6
    after_CHW[(0, *HARVEST)] += 100
    return np.clip(after_CHW, 1, 255).astype(np.float32)


@pytest.fixture
def pair(make_raster: Callable[..., Path]) -> tuple[Path, Path]:
    before_CHW = landscape()
    return make_raster(before_CHW, "before.tif"), make_raster(changed(before_CHW), "after.tif")


def as_they_are(before: Path, after: Path) -> AlignedPairConfig:
    return AlignedPairConfig(before=str(before), after=str(after))


def point(row: float, column: float) -> shapely.Point:
    return shapely.Point(ORIGIN[0] + (column + 0.5) * PIXEL, ORIGIN[1] - (row + 0.5) * PIXEL)


@pytest.fixture
def mark(tmp_path: Path) -> Callable[..., str]:
    """Write shapes with their kind as a GeoPackage and return its path."""

    def write(
        shapes: dict[str, Sequence[Any]], name: str = "clicks.gpkg", colours: dict[str, str] | None = None
    ) -> str:
        found = [(shape, kind) for kind, each in shapes.items() for shape in each]
        geometry = shapely.to_wkb([shape for shape, _ in found])
        columns = [np.array([kind for _, kind in found], object)]
        fields = ["kind"]
        if colours:
            columns.append(np.array([colours.get(kind, "") for _, kind in found], object))
            fields.append("color")
        path = tmp_path / name
        path.unlink(missing_ok=True)
        kind = found[0][0].geom_type
        pyogrio.raw.write(path, geometry, columns, fields, layer=path.stem, geometry_type=kind, crs="EPSG:32633")
        return str(path)

    return write


@pytest.fixture
def click(mark: Callable[..., str]) -> Callable[..., str]:
    """Write clicks, given as rows and columns of each kind."""
    return lambda places, **named: mark({kind: [point(*each) for each in at] for kind, at in places.items()}, **named)


@pytest.fixture
def refine(tmp_path: Path) -> Callable[..., Made]:
    def run_it(before: Path, after: Path, **values: Any) -> Made:
        folder = runs.create(tmp_path / "runs", "refine_change", "test", {})
        config = RefineChangeConfig(before=str(before), after=str(after), **values)
        result = refine_change(config, runs.Run(folder))
        json.dumps(result, allow_nan=False)
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return Made(result, [json.loads(line) for line in lines], folder / "outputs")

    return run_it
