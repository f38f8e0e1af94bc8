"""Outputs of real jobs on real rasters, for tests of how they look: runs in the backend's Python, prints folders.

Arguments: a folder of rasters, a folder to work in. Dates of a Sentinel-2 tile are mirrored
up to size, with nodata in a corner.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rsfm import cli

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.backend.toy_detector import make_detector
from tests.backend.toy_model import make_model

DATES = ("20150711", "20150830", "20150909")
SIDE, SMALL = 640, 160


def copy(source, target, side):
    """Copy a raster, mirrored up to a size, and make a corner of it nodata."""
    with rasterio.open(source) as file:
        pixels_CHW = file.read([2, 3, 4, 8]).clip(1)
        _, height, width = pixels_CHW.shape
        beyond = ((0, 0), (0, max(side - height, 0)), (0, max(side - width, 0)))
        pixels_CHW = np.pad(pixels_CHW, beyond, "symmetric")[:, :side, :side]
        pixels_CHW[:, : side // 8, : side // 4] = 0
        shape = {"count": 4, "height": side, "width": side, "dtype": file.dtypes[0], "nodata": 0}
        with rasterio.open(target, "w", driver="GTiff", crs=file.crs, transform=file.transform, **shape) as made:
            made.write(pixels_CHW)


def run(work, name, job, **config):
    """Do a job in the run folder of this name."""
    path = work / f"{name}.json"
    path.write_text(json.dumps(config))
    if cli.main(["run", job, str(path), "--run", str(work / name)]) != 0:
        sys.exit(f"{name} failed")


def click(path, raster):
    """Mark places of two kinds of change and of none."""
    with rasterio.open(raster) as file:
        places = [file.xy(SIDE // 3 + 40 * (number % 4), SIDE // 3 + 30 * number) for number in range(12)]
        points = shapely.to_wkb([shapely.Point(place) for place in places])
        kinds = np.array(["cut", "sown", "not this", "not this"] * 3, object)
        named = {"layer": "clicks", "geometry_type": "Point", "crs": file.crs.to_wkt()}
        pyogrio.raw.write(path, points, [kinds], ["kind"], **named)
    return str(path)


def main(data, work):
    os.chdir(work)
    large = [work / f"S2_{date}.tif" for date in DATES[:2]]
    for date, target in zip(DATES, large):
        copy(data / "s2_slovenia" / f"S2_L1C_{date}.tif", target, SIDE)
    (work / "dates").mkdir()
    for date in DATES:
        copy(data / "s2_slovenia" / f"S2_L1C_{date}.tif", work / "dates" / f"S2_{date}.tif", SMALL)
    model = str(make_model(work / "model.safetensors", large[0]))
    mapping = {"raster": str(large[0]), "model": model, "device": "cpu"}
    run(work, "segment", "segment", **mapping, polygons=True, minimum_area=40000, probabilities=True)
    run(work, "embed", "embed", **mapping, picture=True, index=True)
    with rasterio.open(large[0]) as file:
        x, y = file.xy(SIDE // 2, SIDE // 2)
    index = next((work / "embed" / "outputs").glob("*index*.tif"))
    run(work, "find_similar", "find_similar", index=str(index), like=f"{x},{y}")
    run(work, "detect_change", "detect_change", before=str(large[0]), after=str(large[1]), model=model)
    dates = {"before": str(large[0]), "after": str(large[1])}
    run(work, "refine_change", "refine_change", **dates, clicks=click(work / "clicks.gpkg", large[0]), show=20)
    run(work, "classify", "classify", **mapping, tile=800, tile_polygons=True)
    boxes = str(make_detector(work / "boxes.safetensors", large[0], largest_m=400))
    run(work, "detect_objects", "detect_objects", **{**mapping, "model": boxes}, least_score=0.0)
    learn = {"labels": str(data / "s2_slovenia" / "lulc_polygons.gpkg"), "class_field": "LULC_NAME"}
    run(work, "finetune", "finetune", raster=str(work / "dates" / f"S2_{DATES[1]}.tif"), device="cpu", **learn)
    run(work, "change_over_time", "change_over_time", rasters=[str(work / "dates")])
    run(work, "several", "segment", **{**mapping, "raster": str(work / "dates")})
    run(work, "several_embedded", "embed", **{**mapping, "raster": str(work / "dates")})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
