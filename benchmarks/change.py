"""What comparing large rasters costs: seconds a megapixel and memory, beside decoding all of them once.

    python benchmarks/change.py [--quick] [--side 20000] [--dtype uint16] [--dates 6]

The dates are sparse: texture in blocks, one nodata block in four, 4 bands, tiled and deflated. Seconds are of the
processor and by the clock, which other work on the machine disturbs, and of a megapixel of the raster. There are three
kinds of passes: the first one reads all and keeps a sample, for the gate too; those of IR-MAD go over the sample in
memory, and count as many megapixels as it stands for one to one; the last one reads all again, smooths and projects,
and writes the map. Three dates or more are those of the job change_over_time. Each line that starts with CLAIM gives a
name, the value, the bound and whether it holds.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rsfm import runs
from rsfm.change import detect_change
from rsfm.change_over_time import change_over_time
from rsfm.jobs.change_over_time import ChangeOverTimeConfig
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.outputs.magnitude import Magnitude
from rsfm.raster import pair as pair_module
from rsfm.raster.background import Background
from rsfm.raster.grid import Window
from rsfm.raster.ir_mad import PASSES, IrMad, fit_ir_mad
from rsfm.raster.pair import Pair, open_pair
from rsfm.raster.pair_pixels import Finish, as_stored, each_strip
from rsfm.raster.pair_sample import take_sample
from rsfm.raster.writer import RasterWriter
from scipy import ndimage

BLOCK, BANDS = 512, 4
MEMORY_BOUND_GB = 2.0
TOTAL_BOUND = 2.0
"""Seconds a megapixel for the whole job, on one core."""
FIRST_PASS_BOUND = 30
PASS_BOUND = 2.5
"""Times the seconds that decoding both dates takes."""
TOPS = {"uint8": 255, "uint16": 5100}
Result = TypeVar("Result")


class Cost(NamedTuple):
    """Seconds of the processor, of all threads together, and by the clock."""

    cpu: float
    clock: float

    def by(self, parts: float) -> "Cost":
        return Cost(self.cpu / parts, self.clock / parts)


def texture(seed: int, dtype: str) -> np.ndarray:
    """Draw one block of 4 bands, without 0, which is nodata."""
    random, top = np.random.default_rng(seed), TOPS[dtype]
    fields = ndimage.gaussian_filter(random.normal(size=(BANDS, BLOCK, BLOCK)), (0, 6, 6))
    fields = fields / fields.std() * 35 + 120 + random.normal(size=fields.shape) * 3
    return np.asarray(np.clip(fields * (top / 255), 1, top).astype(dtype))


def write_dates(folder: Path, side: int, dtype: str, count: int = 2) -> list[Path]:
    """Write dates; one block in four is nodata, and one in four changes at one of the later ones."""
    blocks = [texture(seed, dtype) for seed in range(6)]
    paths = [folder / f"scene_{2015 + date}-07-01.tif" for date in range(count)]
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
                    if number % 4 == 1 and date > number // 4 % (count - 1):
                        pixels = pixels.copy()
                        pixels[:, 40:480, 40:480] = blocks[5][:, 40:480, 40:480]
                    if date % 2:
                        pixels = np.clip(pixels * 0.9 + 8, 1, TOPS[dtype]).astype(dtype)
                    window = rasterio.windows.Window(column, row, width, height)
                    dataset.write(pixels[:, :height, :width], window=window)
    return paths


def measured(work: Callable[[], Result]) -> tuple[Result, Cost]:
    """Do work, and tell what it cost."""
    cpu, clock = time.process_time(), time.perf_counter()
    found = work()
    return found, Cost(time.process_time() - cpu, time.perf_counter() - clock)


def decode(paths: list[Path]) -> None:
    """Read all dates once, as they are."""
    for path in paths:
        with rasterio.open(path) as dataset:
            for row in range(0, dataset.height, BLOCK):
                height = min(BLOCK, dataset.height - row)
                dataset.read(window=rasterio.windows.Window(0, row, dataset.width, height))


def read(paths: list[Path]) -> None:
    """Read both dates once as the job does: in strips, with what is valid."""
    with open_pair(*map(str, paths)) as pair:
        for strip in pair.strips(pair.window):
            pair.read_stored(strip)


def time_fitting(paths: list[Path]) -> tuple[Cost, Cost, IrMad]:
    """Return the costs of sampling and of one pass over all pixels in memory, and what the passes found."""
    with open_pair(*map(str, paths)) as pair:
        sample, sampling = measured(lambda: take_sample(pair))
    fitted, fitting = measured(lambda: fit_ir_mad(sample.smooth_before_CN, sample.smooth_after_CN))
    share = sample.before_CN.shape[1] / sample.valid
    return sampling, fitting.by(PASSES * share), fitted


def compute(paths: list[Path], fitted: IrMad) -> None:
    """Read both dates, smooth them and compute the magnitude of every pixel."""
    with open_pair(*map(str, paths)) as pair:
        pass_over(pair, fitted, lambda found, valid: None)


def write(paths: list[Path], fitted: IrMad, path: Path) -> None:
    """Do the same, and write the map with its pyramid."""
    with (
        open_pair(*map(str, paths)) as pair,
        RasterWriter(path, Magnitude, pair.before.grid) as writer,
        Background() as background,
    ):

        def finish(found: np.ndarray, valid: np.ndarray) -> None:
            background.do(lambda: writer.write(as_stored(found, valid)[None]), found.nbytes)

        pass_over(pair, fitted, finish)


def pass_over(pair: Pair, fitted: IrMad, finish: Finish) -> None:
    each_strip(pair, pair.window, lambda pixels: fitted.magnitude_of_smooth(*pixels.around), finish)


def run_job(folder: Path, paths: list[Path]) -> dict[str, float]:
    """Run the whole job in a process of its own, and return its cost and its peak of memory."""
    command = [sys.executable, __file__, "--job", str(folder), *map(str, paths)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def job(folder: Path, paths: list[str]) -> None:
    name = "detect_change" if len(paths) == 2 else "change_over_time"
    run = runs.Run(runs.create(folder, name, "benchmark", {}))
    if len(paths) == 2:
        pair_config = DetectChangeConfig(before=paths[0], after=paths[1])
        _, cost = measured(lambda: detect_change(pair_config, run))
    else:
        series_config = ChangeOverTimeConfig(rasters=paths)
        _, cost = measured(lambda: change_over_time(series_config, run))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({**cost._asdict(), "gigabytes": peak / 1e9}))


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


def tell(what: str, cost: Cost, floor: Cost) -> None:
    times = f"{cost.cpu / floor.cpu:.2f} and {cost.clock / floor.clock:.2f} times decoding"
    print(f"{what}: {cost.cpu:.4f} CPU s/Mpx, {cost.clock:.4f} s/Mpx by the clock; {times}")


def compare_two(folder: Path, paths: list[Path], megapixels: float) -> None:
    """Measure each kind of pass over two dates, and the job."""
    floors = [measured(lambda: decode(paths))[1]]
    found = run_job(folder, paths)
    floors.append(measured(lambda: decode(paths))[1])
    sampling, fitting, fitted = time_fitting(paths)
    reading = measured(lambda: read(paths))[1]
    computing = measured(lambda: compute(paths, fitted))[1]
    writing = measured(lambda: write(paths, fitted, folder / "magnitude.tif"))[1]
    floors.append(measured(lambda: decode(paths))[1])
    floor = Cost(*(min(costs) for costs in zip(*floors, strict=True)))
    for what, cost in (
        ("decoding both dates once, the floor", floor),
        ("reading both dates with validity", reading),
        ("first pass (smooth, move, sample)", sampling),
        ("a pass of IR-MAD in memory", fitting),
        ("last pass (read, smooth, project)", computing),
        ("last pass, and the map is written", writing),
    ):
        tell(what, cost.by(megapixels), floor.by(megapixels))
    claim("change_seconds_per_megapixel", found["cpu"] / megapixels, TOTAL_BOUND)
    claim("change_first_pass_times_decoding", sampling.cpu / floor.cpu, FIRST_PASS_BOUND)
    claim("change_ir_mad_pass_times_decoding", fitting.cpu / floor.cpu, PASS_BOUND)
    claim("change_last_pass_times_decoding", computing.cpu / floor.cpu, PASS_BOUND)
    claim("change_last_pass_by_the_clock_times_decoding", computing.clock / floor.clock, PASS_BOUND)
    claim("change_map_written_times_decoding", writing.cpu / floor.cpu, PASS_BOUND)
    claim("change_map_written_by_the_clock_times_decoding", writing.clock / floor.clock, PASS_BOUND)
    claim("change_memory_gigabytes", found["gigabytes"], MEMORY_BOUND_GB)
    claim("change_strips_differ_by", strips_agree(paths), 0)


def compare_series(folder: Path, paths: list[Path], megapixels: float) -> None:
    """Measure the job of three dates or more."""
    floor = measured(lambda: decode(paths))[1]
    found = run_job(folder, paths)
    tell("decoding all dates once, the floor", floor.by(megapixels), floor.by(megapixels))
    tell("change over time", Cost(found["cpu"], found["clock"]).by(megapixels), floor.by(megapixels))
    print(f"a megapixel of one date: {found['cpu'] / (megapixels * len(paths)):.4f} CPU s")
    claim("change_over_time_memory_gigabytes", found["gigabytes"], MEMORY_BOUND_GB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 pixels a side")
    parser.add_argument("--side", type=int, default=20_000, help="pixels a side")
    parser.add_argument("--dtype", choices=TOPS, default="uint8", help="of all dates")
    parser.add_argument("--dates", type=int, default=2, help="3 or more: of the job change_over_time")
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        return job(Path(arguments.job[0]), arguments.job[1:])
    side = 2000 if arguments.quick else arguments.side
    with tempfile.TemporaryDirectory() as name:
        paths = write_dates(Path(name), side, arguments.dtype, arguments.dates)
        print(f"{len(paths)} dates of {side} x {side} pixels, {BANDS} bands {arguments.dtype}")
        (compare_two if len(paths) == 2 else compare_series)(Path(name), paths, side**2 / 1e6)
    return None


if __name__ == "__main__":
    main()
