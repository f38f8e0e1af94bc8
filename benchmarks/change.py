"""What comparing two large rasters costs: seconds a megapixel and memory, beside reading both of them once.

    python benchmarks/change.py [--quick] [--side 20000] [--dtype uint16]

The pair is sparse: texture in blocks, one nodata block in four, 4 bands, tiled and deflated. Times are of the
processor, so other work on the machine hardly disturbs them, and of a megapixel of the raster. There are three kinds
of passes: the first one reads all and keeps a sample, for the gate too; those of IR-MAD go over the sample in memory,
and count as many megapixels as it stands for one to one; the last one reads all again, smooths and projects. Each line
that starts with CLAIM gives a name, the value, the bound and whether it holds.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rsfm import runs
from rsfm.change import detect_change
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.raster import pair as pair_module
from rsfm.raster.grid import Window
from rsfm.raster.ir_mad import PASSES, IrMad, fit_ir_mad
from rsfm.raster.pair import open_pair
from rsfm.raster.pair_pixels import each_strip
from rsfm.raster.pair_sample import take_sample
from scipy import ndimage

BLOCK, BANDS = 512, 4
MEMORY_BOUND_GB = 2.0
TOTAL_BOUND = 2.0
"""Seconds a megapixel for the whole job, on one core."""
FIRST_PASS_BOUND = 30
PASS_BOUND = 2.5
"""Times the seconds that decoding both dates takes."""
TOPS = {"uint8": 255, "uint16": 5100}


def texture(seed: int, dtype: str) -> np.ndarray:
    """Draw one block of 4 bands, without 0, which is nodata."""
    random, top = np.random.default_rng(seed), TOPS[dtype]
    fields = ndimage.gaussian_filter(random.normal(size=(BANDS, BLOCK, BLOCK)), (0, 6, 6))
    fields = fields / fields.std() * 35 + 120 + random.normal(size=fields.shape) * 3
    return np.asarray(np.clip(fields * (top / 255), 1, top).astype(dtype))


def write_pair(folder: Path, side: int, dtype: str) -> list[Path]:
    """Write both dates; one block in four is nodata, and one in four differs between them."""
    blocks = [texture(seed, dtype) for seed in range(6)]
    paths = [folder / "before.tif", folder / "after.tif"]
    profile = {
        "driver": "GTiff", "height": side, "width": side, "count": BANDS, "dtype": dtype, "nodata": 0,
        "crs": "EPSG:32633", "transform": from_origin(500000, 5100000, 1, 1), "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "deflate", "zlevel": 1, "sparse_ok": True, "photometric": "minisblack",
    }  # fmt: skip
    for date, path in enumerate(paths):
        with rasterio.open(path, "w", **profile) as dataset:
            for row in range(0, side, BLOCK):
                for column in range(0, side, BLOCK):
                    number = row // BLOCK * 7 + column // BLOCK * 3
                    height, width = min(BLOCK, side - row), min(BLOCK, side - column)
                    if number % 4 == 0:
                        continue
                    pixels = blocks[number % 5]
                    if date:
                        patch = pixels.copy()
                        patch[:, 40:480, 40:480] = blocks[5][:, 40:480, 40:480]
                        pixels = patch if number % 4 == 1 else pixels
                        pixels = np.clip(pixels * 0.9 + 8, 1, TOPS[dtype]).astype(dtype)
                    window = rasterio.windows.Window(column, row, width, height)
                    dataset.write(pixels[:, :height, :width], window=window)
    return paths


def time_decoding(paths: list[Path]) -> float:
    """Read both dates once, as they are."""
    start = time.process_time()
    for path in paths:
        with rasterio.open(path) as dataset:
            for row in range(0, dataset.height, BLOCK):
                height = min(BLOCK, dataset.height - row)
                dataset.read(window=rasterio.windows.Window(0, row, dataset.width, height))
    return time.process_time() - start


def time_reading(paths: list[Path]) -> float:
    """Read both dates once as the job does: in strips, as float, with what is valid."""
    start = time.process_time()
    with open_pair(*map(str, paths)) as pair:
        for strip in pair.strips(pair.window):
            pair.read(strip)
    return time.process_time() - start


def time_fitting(paths: list[Path], megapixels: float) -> tuple[float, float, IrMad]:
    """Return the seconds a megapixel of sampling and of one pass over the sample, and what the passes found."""
    with open_pair(*map(str, paths)) as pair:
        start = time.process_time()
        sample = take_sample(pair)
        sampled = time.process_time()
    fitted = fit_ir_mad(sample.smooth_before_CN, sample.smooth_after_CN)
    seconds = (time.process_time() - sampled) / PASSES
    share = sample.before_CN.shape[1] / sample.valid
    return (sampled - start) / megapixels, seconds / (share * megapixels), fitted


def time_mapping(paths: list[Path], fitted: IrMad) -> float:
    """Read both dates, smooth them and compute the magnitude of every pixel."""
    with open_pair(*map(str, paths)) as pair:
        start = time.process_time()
        each_strip(
            pair, pair.window, lambda pixels: fitted.magnitude_of_smooth(*pixels.around), lambda found, valid: None
        )
        return time.process_time() - start


def run_job(folder: Path, paths: list[Path]) -> dict[str, float]:
    """Run the whole job in a process of its own, and return its seconds, its peak of memory and its polygons."""
    command = [sys.executable, __file__, "--job", str(folder), *map(str, paths)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def job(folder: Path, before: str, after: str) -> None:
    start = time.process_time()
    run = runs.Run(runs.create(folder, "detect_change", "benchmark", {}))
    result = detect_change(DetectChangeConfig(before=before, after=after), run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"seconds": time.process_time() - start, "gigabytes": peak / 1e9, "polygons": result["polygons"]}
    print(json.dumps(found))


def strips_agree(paths: list[Path]) -> float:
    """Return the largest difference of the sample when strips have another height; it must be 0."""
    with open_pair(*map(str, paths)) as pair:
        corner = pair._replace(window=Window(0, 0, min(600, pair.window.height), pair.window.width))
        first = take_sample(corner)
        kept, pair_module.STRIP_BYTES = pair_module.STRIP_BYTES, pair_module.STRIP_BYTES // 3
        second = take_sample(corner)
        pair_module.STRIP_BYTES = kept
    return float(np.abs(first.smooth_after_CN - second.smooth_after_CN).max())


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.4g} {bound:g} {'ok' if value <= bound else 'short'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 pixels a side")
    parser.add_argument("--side", type=int, default=20_000, help="pixels a side")
    parser.add_argument("--dtype", choices=TOPS, default="uint8", help="of both dates")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        return job(Path(arguments.job[0]), *arguments.job[1:])
    side = 2000 if arguments.quick else arguments.side
    megapixels = side**2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        paths = write_pair(Path(name), side, arguments.dtype)
        floors = [time_decoding(paths)]
        found = run_job(Path(name), paths)
        print(f"{side} x {side} pixels, {BANDS} bands {arguments.dtype}, {found['polygons']:.0f} polygons")
        floors.append(time_decoding(paths))
        first, fitting, fitted = time_fitting(paths, megapixels)
        mapping = time_mapping(paths, fitted) / megapixels
        floor = min(*floors, time_decoding(paths)) / megapixels
        print(f"decoding both dates once, the floor: {floor:.4f} s/Mpx")
        print(f"reading both dates with validity: {time_reading(paths) / megapixels:.4f} s/Mpx")
        print(f"first pass (smooth, move, sample): {first:.4f} s/Mpx")
        print(f"a pass of IR-MAD over the sample: {fitting:.4f} s/Mpx")
        print(f"last pass (read, smooth, project): {mapping:.4f} s/Mpx")
        claim("change_seconds_per_megapixel", found["seconds"] / megapixels, TOTAL_BOUND)
        claim("change_first_pass_times_decoding", first / floor, FIRST_PASS_BOUND)
        claim("change_ir_mad_pass_times_decoding", fitting / floor, PASS_BOUND)
        claim("change_last_pass_times_decoding", mapping / floor, PASS_BOUND)
        claim("change_memory_gigabytes", found["gigabytes"], MEMORY_BOUND_GB)
        claim("change_strips_differ_by", strips_agree(paths), 0)
    return None


if __name__ == "__main__":
    main()
