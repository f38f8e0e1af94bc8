"""What measuring the bands of a raster costs: beside a plain pass of numpy over its blocks, and what a sample misses.

    python benchmarks/band_statistics.py [--quick] [--side 4096]

The rasters hold texture and a nodata collar in 4 bands of uint16, tiled and deflated. The plain pass finds mean and
deviation, no percentiles. Times are of the processor, so other work on the machine hardly disturbs them. Each line that
starts with CLAIM gives a name, the value, the bound and whether it holds.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rsfm.raster.collection import Entry
from rsfm.raster.collection_statistics import Budget, collection_statistics
from rsfm.raster.grid import Window
from rsfm.raster.statistics import Statistics
from scipy import ndimage

BLOCK, BANDS = 256, 4
SEEDS = 20
PIXELS = 2**26
"""Of all rasters together."""
PLAIN_BOUND = 1.0
"""Times the seconds of the plain pass that the exact measurement may take, percentiles included."""
SAMPLE_BOUND = 0.5
"""Times the seconds of the exact measurement of all rasters that a sample may take, however many they are."""
MEMORY_BOUND_GB = 0.25


def write_raster(path: Path, side: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    coarse = ndimage.gaussian_filter(random.normal(size=(BANDS, side // 8, side // 8)), (0, 12, 12))
    coarse /= coarse.std(axis=(1, 2), keepdims=True)
    profile = {
        "driver": "GTiff", "height": side, "width": side, "count": BANDS, "dtype": "uint16", "nodata": 0,
        "crs": "EPSG:32633", "transform": from_origin(500000, 5100000, 10, 10), "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "deflate", "photometric": "minisblack",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, side, BLOCK):
            strip = coarse[:, row // 8 : (row + BLOCK) // 8].repeat(8, 1).repeat(8, 2)
            strip = 1500 * np.exp(0.4 * strip) + random.normal(0, 40, strip.shape)
            strip = strip.clip(1, 65535).astype(np.uint16)
            strip[..., : side // 10] = 0
            dataset.write(strip, window=rasterio.windows.Window(0, row, side, BLOCK))
    return path


def plain_pass(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each band, as one would write it with rasterio and numpy."""
    count, sums, squares = 0, np.zeros(BANDS), np.zeros(BANDS)
    with rasterio.open(path) as dataset:
        for _, window in dataset.block_windows(1):
            pixels = dataset.read(window=window)
            pixels = pixels[:, (pixels != dataset.nodata).all(axis=0)].astype(np.float64)
            count += pixels.shape[1]
            sums += pixels.sum(axis=1)
            squares += np.square(pixels).sum(axis=1)
    mean = sums / count
    return mean, np.sqrt(squares / count - mean**2)


def measure(paths: list[Path], side: int, seed: int = 0, sample: bool = False) -> Statistics:
    entries = [Entry(path=str(path), height=side, width=side) for path in paths]
    budget = Budget(counted=0) if sample else None
    return collection_statistics(entries, [Window(0, 0, side, side)] * len(paths), seed, budget=budget)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def peak_of(paths: list[Path], side: int, mode: str) -> float:
    """Return the gigabytes that a process of its own takes above what its imports take."""
    command = [sys.executable, __file__, "--peak", mode, str(side), *map(str, paths)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(mode: str, side: str, *paths: str) -> None:
    before = most_memory()
    measure([Path(path) for path in paths], int(side), sample=mode == "sample")
    print(most_memory() - before)


def most_memory() -> float:
    """Return the peak of this process so far, in gigabytes; Linux lets getrusage inherit that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def off(found: Statistics, exact: Statistics) -> dict[str, float]:
    """Return by how many standard errors each number of a sample is off, at most over the bands."""
    worst = {}
    for name in ("mean", "std", "low", "high"):
        error = np.array(getattr(found, f"{name}_error"))
        worst[name] = float(np.max(np.abs(np.array(getattr(found, name)) - np.array(getattr(exact, name))) / error))
    return worst


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.4g} {bound:g} {'ok' if value <= bound else 'short'}")


def report(paths: list[Path], side: int) -> None:
    plain, (mean, _) = timed(lambda: plain_pass(paths[0]))
    seconds, exact = timed(lambda: measure(paths[:1], side))
    print(f"one raster of {side} x {side} pixels, {BANDS} bands; mean {mean[0]:.6g}, clipped {exact.mean[0]:.6g}")
    print(f"plain pass, mean and deviation: {plain:.2f} s; exact with percentiles: {seconds:.2f} s")
    claim("statistics_exact_times_plain_pass", seconds / plain, PLAIN_BOUND)
    whole, exact = timed(lambda: measure(paths, side))
    draws = [timed(lambda seed=seed: measure(paths, side, seed, sample=True)) for seed in range(SEEDS)]
    sampling = float(np.median([spent for spent, _ in draws]))
    stated = float(np.median([max(np.array(found.mean_error) / found.std) for _, found in draws]))
    print(f"{len(paths)} such rasters: exact {whole:.2f} s, sample {sampling:.2f} s. {draws[0][1].how}")
    print(f"standard error of the mean: {stated:.4f} deviations (median of {SEEDS} seeds)")
    claim("statistics_sample_times_exact", sampling / whole, SAMPLE_BOUND)
    errors = [off(found, exact) for _, found in draws]
    for name in ("mean", "std", "low", "high"):
        outside = float(np.mean([error[name] > 3 for error in errors]))
        claim(f"statistics_sample_{name}_outside_three_errors", outside, 0.05)
    claim("statistics_exact_gigabytes", peak_of(paths, side, "exact"), MEMORY_BOUND_GB)
    claim("statistics_sample_gigabytes", peak_of(paths, side, "sample"), MEMORY_BOUND_GB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="sixteen rasters of 2,048 pixels a side, not four of 4,096"
    )
    parser.add_argument("--side", type=int, default=4096, help="pixels a side, a multiple of 256")
    parser.add_argument("--peak", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        return peak(*arguments.peak)
    side = 2048 if arguments.quick else arguments.side
    with tempfile.TemporaryDirectory() as folder:
        rasters = PIXELS // side**2
        report([write_raster(Path(folder) / f"{seed}.tif", side, seed) for seed in range(rasters)], side)
    return None


if __name__ == "__main__":
    main()
