"""Windows a second that reach the trainer, beside torchgeo, a plain loop and the floor, in the same run.

    make bench-reading                            (installs torchgeo in an environment of its own)
    python benchmarks/reading.py [--quick] [--times 2] [--side 10980] [--only tiled]

Random windows of 224 px are read from a raster of uint16, DEFLATE with predictor 2, laid out in five ways; the last has
13 bands, the others 4. It is as large as a Sentinel-2 tile, 10980 x 10980 px, or larger where GDAL's block cache of 5 %
of the memory would hold it decoded, which no cache does with a folder of such tiles (--side 10980 shows what fits,
--quick a small one). Batches hold 32 windows. The files are written once into build/reading and reused. Every loop
starts in a fresh process whose GDAL has read nothing. GDAL's block cache has its default size everywhere but in RSFM,
which sets 512 MB and keeps all decoded blocks where a quarter of the free memory holds them, else 512 MB of them.
A virtual machine is slow to give a process memory that has lain idle; before each loop as much is touched and given
back, so that none pays for another's.
All read as many windows as cover the raster once, from a cold start; but where a raster does not fit GDAL's cache,
torchgeo and the plain loop would take minutes, and are timed on some windows once as many were read as fill that cache.
The best of several rounds counts.

- RSFM: `WindowReader`, pixels in the raster's own type and what is valid, 16 batches ahead;
- RSFM, collection: `CollectionSampler`, which draws windows too, refuses those that break a rule and brings pixels to
  units, batch after batch;
- torchgeo: `RasterDataset` with `RandomGeoSampler` and a `DataLoader` of 0 or 2 workers, whichever is faster;
- plain loop: rasterio reads one window after the other from one open file;
- floor: every block is decoded once and thrown away, by GDAL's own threads or by two threads with a handle each,
  whichever is faster.

Shape letters: B batch, C bands, H rows, W columns.
"""

import argparse
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window as FileWindow
from rsfm.allocator import keep_freed_memory
from rsfm.raster.collection_sampler import CollectionSampler
from rsfm.raster.grid import Window
from rsfm.raster.plain_entry import plain_entry
from rsfm.raster.reader import Raster, open_raster
from rsfm.raster.window_reader import FREE_SHARE, Patch, Request, WindowReader
from scipy import ndimage

SIZE, BATCH, AHEAD, THREADS, BLOCK = 224, 32, 16, 2, 512
DRAWN = 2048
"""Pixels a side of the scene, which repeats itself in larger rasters."""
TILE_SIDE, QUICK_SIDE = 10980, 2048
BEYOND = 1.6
"""A raster is this many times what GDAL's cache holds, or a tile where that is more."""
TILES = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band"}
LAYOUTS: dict[str, dict[str, object]] = {
    "tiled": TILES,
    "striped": {"interleave": "band"},
    "pixel-interleaved": {**TILES, "interleave": "pixel"},
    "VRT of nine": TILES,
    "13 bands": TILES,
}
TIMES_TORCHGEO, OF_THE_FLOOR = 5.0, 0.7
TIMED = 256
"""Windows on which torchgeo and the plain loop are timed."""
TOUCHED = 1.25
"""Times the bytes of a raster, memory that is made ready for a loop."""
FOLDER = Path(__file__).resolve().parents[1] / "build" / "reading"


class Speed(NamedTuple):
    """Windows a second by the clock, and by the processor's time of all processes."""

    windows: float
    windows_cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small rasters")
    parser.add_argument("--times", type=int, default=2, help="rounds, of which the best counts")
    parser.add_argument("--side", type=int, help="pixels a side of the rasters")
    parser.add_argument("--only", choices=LAYOUTS, help="one layout")
    arguments = parser.parse_args()
    fixed = QUICK_SIDE if arguments.quick else arguments.side
    loops = {name: loop for name, loop in LOOPS.items() if find_spec("torchgeo") or "torchgeo" not in name}
    if find_spec("torchgeo"):
        import_module("torchgeo.datasets")  # here, so that no loop pays for it
    best: dict[str, dict[str, Speed]] = {}
    print_head()
    for layout in [arguments.only] if arguments.only else LAYOUTS:
        side = fixed or side_of(layout)
        path = apart(make_raster, FOLDER / str(side), side, layout)
        runs = [(loop, run_apart(loops[loop], path)) for _ in range(arguments.times) for loop in loops]
        best[layout] = {
            group: Speed(*map(max, zip(*(speed for loop, speed in runs if loop.startswith(group)), strict=True)))
            for group in ("rsfm", "collection", "torchgeo", "plain", "floor")
            if any(loop.startswith(group) for loop in loops)
        }
        print_row(layout, side, best[layout])
    report(best)


def side_of(layout: str) -> int:
    """Return pixels a side, whole blocks, of a raster that GDAL's cache does not hold; a tile where that is more."""
    beyond = BLOCK * -(-int((BEYOND * own_cache() / (bands_of(layout) * 2)) ** 0.5) // BLOCK)
    return max(TILE_SIDE, beyond)


def bands_of(layout: str) -> int:
    return 13 if layout == "13 bands" else 4


def print_head() -> None:
    free = psutil.virtual_memory().available >> 20
    print(
        f"uint16, DEFLATE; random windows of {SIZE} px that cover a raster once, windows a second, {THREADS} threads "
        f"or workers. GDAL's own cache {own_cache() >> 20} MB; RSFM's {os.environ['GDAL_CACHEMAX']} MB, and its cells "
        f"{FREE_SHARE:.0%} of {free} MB at most. All from a cold start, but torchgeo and the plain loop on {TIMED} "
        f"windows once warm where a raster exceeds the cache."
    )
    print(
        "| input | side, px | decoded, MB | RSFM | collection | torchgeo | plain loop | floor | times torchgeo", end=" "
    )
    print("| of the floor | times, CPU | floor, CPU |")
    print("|---|" + "---:|" * 11, flush=True)


def print_row(layout: str, side: int, speeds: dict[str, Speed]) -> None:
    ours, floor, peer = speeds["rsfm"], speeds["floor"], speeds.get("torchgeo")
    order = (ours, speeds["collection"], peer, speeds["plain"], floor)
    size = side**2 * bands_of(layout) * 2 >> 20
    cells = [str(side), str(size), *(f"{speed.windows:.0f}" if speed else "-" for speed in order)]
    for index in (0, 1):
        cells.append(f"{ours[index] / peer[index]:.1f}" if peer else "-")
        cells.append(f"{ours[index] / floor[index]:.2f}")
    print(f"| {layout} | {' | '.join(cells)} |", flush=True)


def report(best: dict[str, dict[str, Speed]]) -> None:
    if not find_spec("torchgeo"):
        print("torchgeo is not installed here: run `make bench-reading` to compare with it")
    for layout, speeds in best.items():
        name = layout.replace(" ", "_").replace("-", "_")
        claim(f"reading_{name}_of_the_floor", speeds["rsfm"].windows / speeds["floor"].windows, OF_THE_FLOOR)
        if "torchgeo" in speeds:
            claim(f"reading_{name}_times_torchgeo", speeds["rsfm"].windows / speeds["torchgeo"].windows, TIMES_TORCHGEO)


def make_raster(folder: Path, side: int, layout: str) -> Path:
    """Write the scene in a layout, unless this was done before, and return where."""
    bands, mosaic = bands_of(layout), layout == "VRT of nine"
    path = folder / (f"{layout}.vrt" if mosaic else f"{layout}.tif").replace(" ", "_")
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    scene_CHW = draw_scene(bands, min(side, DRAWN))
    step = -(-side // 3) if mosaic else side
    parts = [(row, column) for row in range(0, side, step) for column in range(0, side, step)]
    for row, column in parts:
        part = folder / (f"part_{row}_{column}.tif" if mosaic else "unfinished.tif")
        write(part, scene_CHW, (row, column, min(step, side - row), min(step, side - column)), **LAYOUTS[layout])
    if mosaic:
        path.write_text(mosaic_text(bands, side, step))
    else:
        part.rename(path)
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


def write(path: Path, scene_CHW: np.ndarray, place: tuple[int, int, int, int], **profile: object) -> None:
    """Write the part of the endlessly repeated scene that starts at a row and column, in strips."""
    row, column, height, width = place
    bands, side, _ = scene_CHW.shape
    where = {"crs": "EPSG:32633", "transform": from_origin(500000 + 10 * column, 5100000 - 10 * row, 10, 10)}
    shape = {"count": bands, "height": height, "width": width, "dtype": "uint16"}
    packed = {"compress": "deflate", "predictor": 2, "num_threads": THREADS, "BIGTIFF": "IF_SAFER"}
    columns = np.arange(column, column + width) % side
    with rasterio.open(path, "w", driver="GTiff", **packed, **shape, **where, **profile) as file:
        for first in range(0, height, BLOCK):
            rows = np.arange(row + first, row + min(first + BLOCK, height)) % side
            file.write(scene_CHW[:, rows][:, :, columns], window=FileWindow(0, first, width, len(rows)))


def mosaic_text(bands: int, side: int, step: int) -> str:
    """Return the VRT that puts files of step x step px together."""
    sources = []
    for row in range(0, side, step):
        for column in range(0, side, step):
            size = f'xSize="{min(step, side - column)}" ySize="{min(step, side - row)}"'
            sources.append(
                f'<SimpleSource><SourceFilename relativeToVRT="1">part_{row}_{column}.tif</SourceFilename>'
                f'<SourceBand>BAND</SourceBand><SrcRect xOff="0" yOff="0" {size}/>'
                f'<DstRect xOff="{column}" yOff="{row}" {size}/></SimpleSource>'
            )
    inner = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{band}">{"".join(sources).replace("BAND", str(band))}</VRTRasterBand>'
        for band in range(1, bands + 1)
    )
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 5100000, 0, -10</GeoTransform>{inner}</VRTDataset>"
    )


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


def run_apart(loop: "Loop", path: Path) -> Speed:
    """Measure a loop in a process of its own, which finds memory that was in use just now."""
    apart(touch_memory, path)
    speed: Speed = apart(measure, loop, path)
    return speed


def touch_memory(path: Path) -> None:
    with rasterio.open(path) as file:
        wanted = int(TOUCHED * file.height * file.width * file.count * 2)
    np.full(min(wanted, psutil.virtual_memory().available // 2), 1, np.uint8)


def measure(loop: "Loop", path: Path) -> Speed:
    """Time a loop, which yields how many windows it has read; others than ours and the floor when they are warm."""
    warnings.filterwarnings("ignore")
    ours = loop in (run_ours, run_collection)
    if ours:
        keep_freed_memory()  # as a training does
    else:
        os.environ.pop("GDAL_CACHEMAX", None)  # which rsfm sets: the others shall have GDAL's own
    whole = ours or loop in (run_floor_gdal, run_floor_handles)
    with rasterio.open(path) as file:
        total, pixel = len(corners(file.height)), file.count * 2
        whole = whole or file.height * file.width * pixel < own_cache()  # the others too decode each block once
    timed = total if whole else min(TIMED, total)
    warm = 0 if whole else own_cache() // (pixel * (SIZE + BLOCK) ** 2) * THREADS  # each worker has its own cache
    started, cpu, counted, done = time.perf_counter(), cpu_seconds(), 0, 0
    batches = loop(path, warm + timed)  # kept, so that its workers are there when their time is read
    for windows in batches:
        done += windows
        if not counted and warm and done >= warm:
            started, cpu, counted = time.perf_counter(), cpu_seconds(), done
        if done >= warm + timed:
            break
    took, took_cpu = time.perf_counter() - started, cpu_seconds() - cpu
    return Speed((done - counted) / took, (done - counted) / took_cpu)


def own_cache() -> int:
    """Return the bytes of GDAL's block cache by default, 5 % of the memory."""
    return psutil.virtual_memory().total // 20


def cpu_seconds() -> float:
    """Return the processor's time of this process and of its workers, which are still there."""
    me = psutil.Process()
    used = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(each.user + each.system for each in used))


def corners(side: int) -> np.ndarray:
    """Draw the first row and column of as many windows as cover a raster of side x side px once."""
    return np.random.default_rng(1).integers(0, side - SIZE + 1, (round(side**2 / SIZE**2), 2))


def run_ours(path: Path, count: int) -> Iterator[int]:
    """Read as training does: batches of some way ahead together, each into an array of its own."""
    with open_raster(str(path)) as raster, reader_of(raster) as reader:
        places = [(raster, Window(*place, SIZE, SIZE)) for place in corners(raster.grid.height).tolist()]
        for first in range(0, count, BATCH * AHEAD):
            ahead = [Request(*place) for place in places[first : min(first + BATCH * AHEAD, count)]]
            out: list[Patch] = []
            for start in range(0, len(ahead), BATCH):
                batch = len(ahead[start : start + BATCH])
                pixels_BCHW = np.empty((batch, raster.bands, SIZE, SIZE), raster.dtype)
                valid_BHW = np.empty((batch, SIZE, SIZE), bool)
                out += [Patch(*both) for both in zip(pixels_BCHW, valid_BHW, strict=True)]
            reader.read(ahead, out)
            assert all(patch.valid_HW.all() for patch in out)
            yield len(out)


def reader_of(raster: Raster) -> WindowReader:
    """Return the reader that a training on a raster uses."""
    return WindowReader.of(raster.grid.height * raster.grid.width * raster.bands * raster.dtype.itemsize)


def run_collection(path: Path, count: int) -> Iterator[int]:
    """Draw and read batches as pretraining on a raster or a collection does."""
    with open_raster(str(path)) as raster:
        entry = plain_entry(raster)
    sampler = CollectionSampler([entry], SIZE, seed=1)
    for index in range(-(-count // BATCH)):
        found = sampler.batch(index, min(BATCH, count - index * BATCH))
        assert found.valid_NTHW.all()
        yield len(found.valid_NTHW)
    sampler.close()


def run_plain(path: Path, count: int) -> Iterator[int]:
    with rasterio.open(path) as file:
        places = np.resize(corners(file.height), (count, 2)).tolist()
        for first in range(0, count, BATCH):
            batch = places[first : first + BATCH]
            np.stack([file.read(window=FileWindow(column, row, SIZE, SIZE)) for row, column in batch])
            yield len(batch)


def run_floor_gdal(path: Path, count: int) -> Iterator[int]:
    """Decode with the threads GDAL has for one file."""
    with rasterio.open(path, num_threads=THREADS) as file:
        for row in range(0, file.height, BLOCK):
            file.read(window=FileWindow(0, row, file.width, min(BLOCK, file.height - row)))
    yield count


def run_floor_handles(path: Path, count: int) -> Iterator[int]:
    """Decode with a file handle in each thread."""
    with rasterio.open(path) as file:
        side = file.height

    def decode(part: int) -> None:
        with rasterio.open(path) as file:
            for row in range(part * BLOCK, side, THREADS * BLOCK):
                file.read(window=FileWindow(0, row, side, min(BLOCK, side - row)))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(decode, range(THREADS)))
    yield count


def run_torchgeo(path: Path, count: int, workers: int) -> Iterator[int]:
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler

    dataset = RasterDataset([str(path)])
    length = count + 2 * BATCH * max(workers, 1)  # so that the workers are still there, and busy, at the end
    sampler = RandomGeoSampler(dataset, size=SIZE, length=length)
    loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=stack_samples)
    for batch in loader:
        yield len(batch["image"])


def run_torchgeo_alone(path: Path, count: int) -> Iterator[int]:
    return run_torchgeo(path, count, workers=0)


def run_torchgeo_workers(path: Path, count: int) -> Iterator[int]:
    return run_torchgeo(path, count, workers=THREADS)


Loop = Callable[[Path, int], Iterator[int]]
LOOPS: dict[str, Loop] = {
    "rsfm": run_ours,
    "collection": run_collection,
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
