"""Runs of pretraining to report on."""

import json

import numpy as np
import pytest
from rasterio.transform import from_origin
from rsfm import cli
from scipy.ndimage import gaussian_filter

from tests.backend.reports.page import Page

FEW_STEPS = {"minutes": 0, "epochs": 2, "batch_size": 16}
VIT = {"size": "free", "width": 24, "depth": 2, "heads": 3, "patch_size": 8, "window": 32}


@pytest.fixture
def fields(make_raster):
    """Write smooth shapes of 4 bands, 160 x 200 pixels of 10 m, the last 20 columns nodata."""

    def make(name="fields.tif", seed=0, **profile):
        noise = np.random.default_rng(seed).random((4, 160, 200))
        pixels_CHW = (gaussian_filter(noise, (0, 4, 4)) * 20000).astype("uint16")
        pixels_CHW[:, :, 180:] = 0
        profile = {"nodata": 0, "transform": from_origin(500000, 5100000, 10, 10), **profile}
        return str(make_raster(pixels_CHW, name, **profile))

    return make


@pytest.fixture
def pretrain(tmp_path):
    """Pretrain from the command line, and return the run's folder and its report."""

    def run(rasters, method, encoder, name="run", **more):
        values = {"rasters": rasters, "method": method, "encoder": encoder, "training": FEW_STEPS, "window": 32, **more}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"device": "cpu", **values}))
        assert cli.main(["run", "pretrain", str(file), "--run", str(tmp_path / name)]) == 0
        return tmp_path / name, Page(tmp_path / name / "report.html")

    return run
