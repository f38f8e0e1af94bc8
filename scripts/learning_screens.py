"""Pretrains in a real QGIS window and takes pictures of the live chart and of successive learning maps.

    python scripts/learning_screens.py --out build/learning [--minutes 4]

The raster is NAIP imagery with polygons of water, green and bare ground; RSFM_TEST_DATA names the folder of the data.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("RSFM_TEST_DATA", ROOT.parent / "shared" / "data"))
RASTER, LABELS = DATA / "naip_dakota" / "naip_west_20160816.tif", DATA / "demo_bundle" / "labels.gpkg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "learning")
    parser.add_argument("--minutes", type=float, default=4)
    options = parser.parse_args()
    if not RASTER.is_file():
        raise SystemExit(f"There is no raster '{RASTER}'. Set RSFM_TEST_DATA to the folder of the test rasters.")
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    plugins = out / "profiles" / "profiles" / "learning" / "python" / "plugins"
    plugins.mkdir(parents=True)
    subprocess.run([sys.executable, "-B", ROOT / "scripts" / "package.py"], check=True)
    with zipfile.ZipFile(ROOT / "dist" / "rsfm_qgis.zip") as archive:
        archive.extractall(plugins)
    for file in (RASTER, LABELS):
        shutil.copyfile(file, out / file.name)
    config = {
        "rasters": [str(out / RASTER.name)],
        "labels": str(out / LABELS.name),
        "class_field": "class_name",
        "training": {"minutes": options.minutes},
    }
    (out / "config.json").write_text(json.dumps(config))
    run_qgis(out, options.minutes * 60 + 180)
    said = json.loads((out / "result.json").read_text())
    print(json.dumps(said, indent=1))
    if "failed" in said:
        raise SystemExit(said["failed"])


def run_qgis(out: Path, seconds: float) -> None:
    environment = {
        **os.environ,
        "RSFM_PYTHON": sys.executable,
        "RSFM_LEARNING": str(out),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    environment.pop("QT_QPA_PLATFORM", None)
    options = ["--nologo", "--noversioncheck", "--profiles-path", str(out / "profiles"), "--profile", "learning"]
    command = ["xvfb-run", "-a", "-s", "-screen 0 1366x900x24", "qgis.bin", *options]
    with open(out / "qgis.log", "w") as log:
        subprocess.run(
            [*command, "--code", str(ROOT / "scripts" / "learning_screens_qgis.py")],
            env=environment, stdout=log, stderr=log, timeout=seconds, check=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
