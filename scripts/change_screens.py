"""Detects and refines change in a real QGIS window: times, latencies of ten clicks, pictures.

    python scripts/change_screens.py --out build/change [--quick]

The pairs are an alert in Guiana, NAIP imagery of 2009 and 2020, and made ones of 1,000 and 4,000 pixels a side;
RSFM_TEST_DATA names the folder of the data.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("RSFM_TEST_DATA", ROOT.parent / "shared" / "data"))
NAIP = "naip_dakota/naip_west_{}.tif", "naip_dakota/change_water_west_20090818_20200831.tif"
REAL = {
    "guianas": ("alert_pair_guianas/before.tif", "alert_pair_guianas/after.tif", "alert_pair_guianas/mask.tif"),
    "naip": (NAIP[0].format(20090818), NAIP[0].format(20200831), NAIP[1]),
}
CLICKS, SECONDS = 10, 540


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "change")
    parser.add_argument("--quick", action="store_true", help="without the pair of 4,000 pixels")
    options = parser.parse_args()
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    plugins = out / "profiles" / "profiles" / "change" / "python" / "plugins"
    plugins.mkdir(parents=True)
    subprocess.run([sys.executable, "-B", ROOT / "scripts" / "package.py"], check=True)
    with zipfile.ZipFile(ROOT / "dist" / "rsfm_qgis.zip") as archive:
        archive.extractall(plugins)
    pairs = [make_pair(out, side) for side in ((1000,) if options.quick else (1000, 4000))]
    pairs += [copy_pair(out, name) for name in REAL if (DATA / REAL[name][0]).is_file()]
    (out / "config.json").write_text(json.dumps(pairs))
    run_qgis(out)
    said = json.loads((out / "result.json").read_text())
    print(json.dumps(said, indent=1))
    if "failed" in said:
        raise SystemExit(said["failed"])


def make_pair(out: Path, side: int) -> dict[str, object]:
    """Write two dates of 4 bands with patches that differ in them."""
    random = np.random.default_rng(side)
    places, paths = {"crs": "EPSG:32633", "transform": from_origin(500000, 5100000, 1, 1)}, []
    before = ndimage.gaussian_filter(random.normal(size=(4, side, side)).astype(np.float32), (0, 6, 6))
    before = before / before.std() * 30 + 120
    patches = ndimage.gaussian_filter(random.normal(size=(side, side)).astype(np.float32), side / 40)
    after = np.where(patches > np.quantile(patches, 0.97), 250 - before, before)
    shape = {"count": 4, "height": side, "width": side, "dtype": "uint8", "tiled": True, "compress": "deflate"}
    for year, pixels in ((2010, before), (2020, after)):
        noisy = np.clip(pixels + random.normal(size=pixels.shape) * 3, 1, 255).astype("uint8")
        paths.append(out / f"made_{side}_{year}.tif")
        with rasterio.open(paths[-1], "w", driver="GTiff", photometric="minisblack", **shape, **places) as file:
            file.write(noisy)
    return {"name": f"made_{side}", "before": str(paths[0]), "after": str(paths[1]), "clicks": []}


def copy_pair(out: Path, name: str) -> dict[str, object]:
    """Copy a real pair, and choose ten places inside true objects and elsewhere, in turn."""
    before, after, mask = (DATA / path for path in REAL[name])
    copies = [out / f"{name}_before_{before.name}", out / f"{name}_after_{after.name}"]
    for source, copy in zip((before, after), copies, strict=True):
        shutil.copyfile(source, copy)
    random = np.random.default_rng(4)
    with rasterio.open(mask) as file:
        truth_HW, transform = file.read(1) == 1, file.transform
    chosen = []
    for kind, here_HW in (("this", truth_HW), ("not this", ~truth_HW)):
        inside = np.argwhere(ndimage.binary_erosion(here_HW, np.ones((3, 3))))
        places = inside[random.choice(len(inside), CLICKS // 2, replace=False)]
        chosen.append([(kind, *(transform @ (column + 0.5, row + 0.5))) for row, column in places.tolist()])
    clicks = [each for pair in zip(*chosen, strict=True) for each in pair]
    return {"name": name, "before": str(copies[0]), "after": str(copies[1]), "clicks": clicks}


def run_qgis(out: Path) -> None:
    environment = {
        **os.environ,
        "RSFM_PYTHON": sys.executable,
        "RSFM_CHANGE": str(out),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    environment.pop("QT_QPA_PLATFORM", None)
    options = ["--nologo", "--noversioncheck", "--profiles-path", str(out / "profiles"), "--profile", "change"]
    command = ["xvfb-run", "-a", "-s", "-screen 0 1366x900x24", "qgis.bin", *options]
    with open(out / "qgis.log", "w") as log:
        subprocess.run(
            [*command, "--code", str(ROOT / "scripts" / "change_screens_qgis.py")],
            env=environment, stdout=log, stderr=log, timeout=SECONDS, check=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
