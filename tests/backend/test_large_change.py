"""Two dates far larger than memory are compared in little of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

SIDE, BLOCK = 20_000, 512
RUN = """
import sys
from rsfm import cli
code = cli.main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
sys.exit(code)
"""


def write_dates(folder: Path) -> list[Path]:
    """Write two dates; two blocks in three are nodata, and a field of each other differs."""
    random = np.random.default_rng(0)
    fields_CHW = ndimage.gaussian_filter(random.normal(size=(4, BLOCK, BLOCK)), (0, 6, 6))
    before_CHW = np.clip(fields_CHW / fields_CHW.std() * 35 + 120 + random.normal(size=fields_CHW.shape), 1, 255)
    after_CHW = np.clip(before_CHW * 0.9 + 8 + random.normal(size=fields_CHW.shape), 1, 255)
    after_CHW[:, 100:200, 100:300] = 240 - after_CHW[:, 100:200, 100:300]
    profile = {
        "driver": "GTiff", "height": SIDE, "width": SIDE, "count": 4, "dtype": "uint8", "nodata": 0,
        "crs": "EPSG:32633", "transform": Affine(1, 0, 500000, 0, -1, 5100000), "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "deflate", "sparse_ok": True, "photometric": "minisblack",
    }  # fmt: skip
    paths = [folder / "before.tif", folder / "after.tif"]
    for path, pixels_CHW in zip(paths, (before_CHW, after_CHW), strict=True):
        with rasterio.open(path, "w", **profile) as file:
            for row in range(0, SIDE - BLOCK, BLOCK):
                for column in range(row % (3 * BLOCK), SIDE - BLOCK, 3 * BLOCK):
                    window = rasterio.windows.Window(column, row, BLOCK, BLOCK)
                    file.write(pixels_CHW.astype(np.uint8), window=window)
    return paths


@pytest.mark.slow
def test_20000_by_20000_pixels_are_compared_in_2_gb(tmp_path: Path) -> None:
    before, after = write_dates(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"before": str(before), "after": str(after)}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN, "run", "detect_change", str(config), "--run", str(tmp_path / "run")],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 2e9
    with rasterio.open(tmp_path / "run" / "outputs" / "change.tif") as file:
        assert file.shape == (SIDE, SIDE)
        assert (file.read(1, window=((0, BLOCK), (BLOCK, 3 * BLOCK))) == 255).all()
