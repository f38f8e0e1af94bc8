"""Tiles and polygons of a raster far larger than memory are classified in little of it, however tall it is."""

import os
import subprocess
import sys

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from rsfm import model_file
from rsfm.model_file import Card, Model, Objects
from rsfm.raster.statistics import Statistics

from .toy_model import CLASSES, write_config

RUN = """
import sys
from rsfm import cli
code = cli.main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
sys.exit(code)
"""
TRANSFORM = Affine(10, 0, 500000, 0, -10, 5000000)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A head of three classes that reads the mean and the spread of four bands."""
    fours = {name: (value,) * 4 for name, value in {"mean": 6.0, "std": 1.0, "low": 0.0, "high": 9.0}.items()}
    statistics = Statistics(count=(1,) * 4, **fours)
    card = Card(
        bands=4, statistics=statistics, gsd=10, source="pixels", head={"name": "linear"}, classes=CLASSES,
        objects=Objects(spread=True),
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    model_file.save(path, card, model_file.parts(head=Model(card, {}).new_head(8)))
    return path


def write_raster(folder, height, width):
    """Write a sparse raster of which a line in every 1024 rows is valid."""
    path = folder / "big.tif"
    profile = {"height": height, "width": width, "count": 4, "dtype": "uint16", "crs": "EPSG:32633", "nodata": 0}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "bigtiff": "yes"}
    with rasterio.open(path, "w", driver="GTiff", transform=TRANSFORM, compress="deflate", **profile, **layout) as file:
        for row in range(0, height, 1024):
            file.write(np.full((4, 1, width), 7, np.uint16), window=((row, row + 1), (0, width)))
    return path


def peak(folder, name, **config):
    """Classify and return the most memory that was used."""
    file = write_config(folder, name, device="cpu", **config)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "run", "classify", str(file), "--run", str(folder / name)],
        capture_output=True, text=True, env={**os.environ, "GDAL_CACHEMAX": "64", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def peaks(folder, model, heights, width):
    """Classify tiles and many small polygons besides one that holds all, of rasters of some heights."""
    found = {"tiles": [], "polygons": []}
    for height in heights:
        raster = write_raster(folder, height, width)
        config = {"raster": str(raster), "model": str(model)}
        found["tiles"].append(peak(folder, f"tiles{height}", tile=128, unit="pixels", **config))
        with rasterio.open(folder / f"tiles{height}" / "outputs" / "tiles.tif") as file:
            labels_RT = file.read(1)
        assert ((labels_RT != 255).any(axis=1) == (np.arange(len(labels_RT)) % 8 == 0)).all()
        rows, columns = np.mgrid[0 : height - 40 : 256, 0 : width - 40 : 64]
        shapes = [
            shapely.box(column, row, column + 40, row + 40) for row, column in zip(rows.flat, columns.flat, strict=True)
        ]
        shapes.append(shapely.box(0, 0, width, height))
        wkb = shapely.to_wkb(shapely.transform(np.array(shapes, object), lambda at: at * [10, -10] + [500000, 5000000]))
        layer = folder / "polygons.gpkg"
        layer.unlink(missing_ok=True)
        pyogrio.raw.write(layer, wkb, [], [], geometry_type="Polygon", crs="EPSG:32633")
        found["polygons"].append(peak(folder, f"polygons{height}", polygons=str(layer), **config))
        meta, _, _, data = pyogrio.raw.read(folder / f"polygons{height}" / "outputs" / "classified.gpkg")
        table = dict(zip(meta["fields"], data, strict=True))
        assert table["valid_share"][-1] == pytest.approx(1 / 1024, abs=1e-4)
        assert (table["reason"][:-1] == np.where(rows.ravel() % 1024 == 0, None, "nodata")).all()
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path, model):
    found = peaks(tmp_path, model, (2048, 8192), 6000)
    for low, high in found.values():
        assert high < 1.5e9
        assert high - low < 1e8  # the pixels of the additional rows are 3e8


@pytest.mark.slow
def test_60000_by_60000_pixels_are_classified_in_2_gb(tmp_path, model):
    for low, high in peaks(tmp_path, model, (30720, 60000), 60000).values():
        assert high < 2e9
        assert high - low < 3e8
