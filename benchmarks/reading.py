"""Windows a second that reach the trainer, beside torchgeo, a plain loop and the floor, in the same run.

    make bench-reading                            (installs torchgeo in an environment of its own)
    python benchmarks/reading.py [--quick] [--times 5] [--side 4096] [--only tiled]

Random windows of 224 px, as many as cover a raster once, are read from a raster of 4096 x 4096 px (--quick: 2048) of
uint16, DEFLATE with predictor 2, laid out in five ways. Every loop starts in a fresh process whose GDAL has read
nothing; the files are in the operating system's cache. Batches hold 32 windows. The best of several rounds counts.

- RSFM: `WindowReader`, pixels in the raster's own type and what is valid, 16 batches ahead;
- torchgeo: `RasterDataset` with `RandomGeoSampler` and a `DataLoader` of 0 or 2 workers, whichever is faster;
- plain loop: rasterio reads one window after the other from one open file;
- floor: every block is decoded once and thrown away, by GDAL's own threads or by two threads with a handle each,
  whichever is faster.

Shape letters: B batch, C bands, H rows, W columns.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window as FileWindow
from rsfm.raster.grid import Window
from rsfm.raster.reader import open_raster
from rsfm.raster.window_reader import Patch, Request, WindowReader
from scipy import ndimage

SIZE, BATCH, AHEAD, THREADS, BLOCK = 224, 32, 16, 2, 512
TILES = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band"}
LAYOUTS: dict[str, dict[str, object]] = {
    "tiled": TILES,
    "striped": {"interleave": "band"},
    "pixel-interleaved": {**TILES, "interleave": "pixel"},
    "VRT of nine": TILES,
    "13 bands": TILES,
}
TIMES_TORCHGEO, OF_THE_FLOOR = 5.0, 0.7


class Speed(NamedTuple):
    """Windows a second by the clock, and by the processor's time of all processes."""

    windows: float
    windows_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a raster of a quarter the size, two rounds")
    parser.add_argument("--times", type=int, default=5, help="rounds, of which the best counts")
    parser.add_argument("--side", type=int, default=4096, help="pixels a side of the rasters")
    parser.add_argument("--only", choices=LAYOUTS, help="one layout")
    arguments = parser.parse_args()
    side, times = (2048, 2) if arguments.quick else (arguments.side, arguments.times)
    loops = {name: loop for name, loop in LOOPS.items() if find_spec("torchgeo") or "torchgeo" not in name}
    if find_spec("torchgeo"):
        import_module("torchgeo.datasets")  # here, so that no loop pays for it
    with tempfile.TemporaryDirectory() as name:
        best: dict[str, dict[str, Speed]] = {}
        for layout in [arguments.only] if arguments.only else LAYOUTS:
            path = apart(make_raster, Path(name), side, layout)
            runs = [(loop, apart(measure, loops[loop], path)) for _ in range(times) for loop in loops]
            print(f"{layout}: done", file=sys.stderr, flush=True)
            best[layout] = {
                group: Speed(*map(max, zip(*(speed for loop, speed in runs if loop.startswith(group)), strict=True)))
                for group in ("rsfm", "torchgeo", "plain", "floor")
                if any(loop.startswith(group) for loop in loops)
            }
    report(best, side)


def report(best: dict[str, dict[str, Speed]], side: int) -> None:
    print(
        f"{side} x {side} uint16, DEFLATE, random windows of {SIZE} px, windows a second ({THREADS} threads or workers)"
    )
    print("| input | RSFM | torchgeo | plain loop | floor | times torchgeo | of the floor | times, CPU | floor, CPU |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for layout, speeds in best.items():
        ours, floor, plain, peer = speeds["rsfm"], speeds["floor"], speeds["plain"], speeds.get("torchgeo")
        cells = [f"{speed.windows:.0f}" if speed else "-" for speed in (ours, peer, plain, floor)]
        for index in (0, 1):
            cells.append(f"{ours[index] / peer[index]:.1f}" if peer else "-")
            cells.append(f"{ours[index] / floor[index]:.2f}")
        print(f"| {layout} | {' | '.join(cells)} |")
    if not find_spec("torchgeo"):
        print("torchgeo is not installed here: run `make bench-reading` to compare with it")
    for layout, speeds in best.items():
        name = layout.replace(" ", "_").replace("-", "_")
        claim(f"reading_{name}_of_the_floor", speeds["rsfm"].windows / speeds["floor"].windows, OF_THE_FLOOR)
        if "torchgeo" in speeds:
            claim(f"reading_{name}_times_torchgeo", speeds["rsfm"].windows / speeds["torchgeo"].windows, TIMES_TORCHGEO)


def make_raster(folder: Path, side: int, layout: str) -> Path:
    """Write the scene in a layout, and return where."""
    scene_CHW = draw_scene(13 if layout == "13 bands" else 4, min(side, 4096))
    repeats = -(-side // scene_CHW.shape[1])
    scene_CHW = np.tile(scene_CHW, (1, repeats, repeats))[:, :side, :side]
    if layout == "VRT of nine":
        return write_mosaic(folder, scene_CHW, LAYOUTS[layout])
    path = folder / f"{layout.replace(' ', '_')}.tif"
    write(path, scene_CHW, **LAYOUTS[layout])
    return path


def draw_scene(bands: int, side: int) -> np.ndarray:
    """Draw fields of several sizes with a sensor's noise; DEFLATE saves about 40 %, as with real 16-bit imagery."""
    random = np.random.default_rng(0)

    def field(step: int) -> np.ndarray:
        coarse_HW = random.normal(size=(side // step + 2, side // step + 2)).astype(np.float32)
        return ndimage.zoom(coarse_HW, step, order=1)[:side, :side]

    shared_HW = 600 * field(256) + 300 * field(64) + 150 * field(16) + 60 * field(4)
    scene_CHW = np.empty((bands, side, side), np.uint16)
    for number in range(bands):
        noise_HW = random.normal(0, 25, (side, side)).astype(np.float32)
        band_HW = 1800 + 100 * number + shared_HW * (0.5 + 0.05 * number) + 120 * field(32) + noise_HW
        scene_CHW[number] = band_HW.clip(1, 65535)
    return scene_CHW


def write(path: Path, pixels_CHW: np.ndarray, row: int = 0, column: int = 0, **profile: object) -> None:
    count, height, width = pixels_CHW.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(500000 + 10 * column, 5100000 - 10 * row, 10, 10)}
    shape = {"count": count, "height": height, "width": width, "dtype": "uint16"}
    packed = {"compress": "deflate", "predictor": 2, "num_threads": THREADS}
    with rasterio.open(path, "w", driver="GTiff", **packed, **shape, **place, **profile) as file:
        file.write(pixels_CHW)


def write_mosaic(folder: Path, pixels_CHW: np.ndarray, tiles: dict[str, object]) -> Path:
    """Write nine files and the VRT that puts them together."""
    bands, side, _ = pixels_CHW.shape
    step = -(-side // 3)
    sources = []
    for row in range(0, side, step):
        for column in range(0, side, step):
            part_CHW = pixels_CHW[:, row : row + step, column : column + step]
            write(folder / f"part_{row}_{column}.tif", part_CHW, row, column, **tiles)
            size = f'xSize="{part_CHW.shape[2]}" ySize="{part_CHW.shape[1]}"'
            sources.append(
                f'<SimpleSource><SourceFilename relativeToVRT="1">part_{row}_{column}.tif</SourceFilename>'
                f'<SourceBand>BAND</SourceBand><SrcRect xOff="0" yOff="0" {size}/>'
                f'<DstRect xOff="{column}" yOff="{row}" {size}/></SimpleSource>'
            )
    inner = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}">{"".join(sources).replace("BAND", str(band))}</VRTRasterBand>'
        for band in range(1, bands + 1)
    )
    path = folder / "mosaic.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 5100000, 0, -10</GeoTransform>{inner}</VRTDataset>"
    )
    return path


def apart(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own, in which GDAL has read nothing."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function(*arguments)))
    process.start()
    sender.close()
    result = receiver.recv()
    process.join()
    return result


def measure(loop: Callable[[Path], int], path: Path) -> Speed:
    warnings.filterwarnings("ignore")
    if loop is not run_ours:
        os.environ.pop("GDAL_CACHEMAX", None)  # which rsfm sets: the others shall have GDAL's own
    started, cpu = time.perf_counter(), cpu_seconds()
    windows = loop(path)
    return Speed(windows / (time.perf_counter() - started), windows / (cpu_seconds() - cpu))


def cpu_seconds() -> float:
    """Return the processor's time of this process and of those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def corners(side: int) -> np.ndarray:
    """Draw the first row and column of as many windows as cover a raster of side x side px once."""
    return np.random.default_rng(1).integers(0, side - SIZE + 1, (round(side**2 / SIZE**2), 2))


def run_ours(path: Path) -> int:
    """Read as training does: batches of some way ahead together, each into an array of its own."""
    done = 0
    with open_raster(str(path)) as raster, WindowReader(threads=THREADS) as reader:
        places = [(raster, Window(*place, SIZE, SIZE)) for place in corners(raster.grid.height).tolist()]
        for first in range(0, len(places), BATCH * AHEAD):
            ahead = [Request(*place) for place in places[first : first + BATCH * AHEAD]]
            pixels_BCHW = np.empty((len(ahead), raster.bands, SIZE, SIZE), raster.dtype)
            valid_BHW = np.empty((len(ahead), SIZE, SIZE), bool)
            out = [Patch(*both) for both in zip(pixels_BCHW, valid_BHW, strict=True)]
            reader.read(ahead, out)
            assert valid_BHW.all()
            done += len(out)
    return done


def run_plain(path: Path) -> int:
    with rasterio.open(path) as file:
        places = corners(file.height).tolist()
        for first in range(0, len(places), BATCH):
            batch = places[first : first + BATCH]
            np.stack([file.read(window=FileWindow(column, row, SIZE, SIZE)) for row, column in batch])
    return len(places)


def run_floor_gdal(path: Path) -> int:
    """Decode with the threads GDAL has for one file."""
    with rasterio.open(path, num_threads=THREADS) as file:
        for row in range(0, file.height, BLOCK):
            file.read(window=FileWindow(0, row, file.width, min(BLOCK, file.height - row)))
        return len(corners(file.height))


def run_floor_handles(path: Path) -> int:
    """Decode with a file handle in each thread."""
    with rasterio.open(path) as file:
        side = file.height

    def decode(part: int) -> None:
        with rasterio.open(path) as file:
            for row in range(part * BLOCK, side, THREADS * BLOCK):
                file.read(window=FileWindow(0, row, side, min(BLOCK, side - row)))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(decode, range(THREADS)))
    return len(corners(side))


def run_torchgeo(path: Path, workers: int) -> int:
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler

    dataset = RasterDataset([str(path)])
    with rasterio.open(path) as file:
        length = len(corners(file.height))
    sampler = RandomGeoSampler(dataset, size=SIZE, length=length)
    loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=stack_samples)
    return sum(len(batch["image"]) for batch in loader)


def run_torchgeo_alone(path: Path) -> int:
    return run_torchgeo(path, workers=0)


def run_torchgeo_workers(path: Path) -> int:
    return run_torchgeo(path, workers=THREADS)


LOOPS: dict[str, Callable[[Path], int]] = {
    "rsfm": run_ours,
    "floor by GDAL": run_floor_gdal,
    "floor by handles": run_floor_handles,
    "plain": run_plain,
    "torchgeo alone": run_torchgeo_alone,
    "torchgeo with workers": run_torchgeo_workers,
}


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.2f} {bound} {'ok' if value >= bound else 'short'}")


if __name__ == "__main__":
    main()
