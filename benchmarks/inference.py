"""What tiled inference costs beyond reading and the network, beside a plain loop, in the same run.

    python benchmarks/inference.py [--quick]

The raster is 4096 x 4096 (--quick: 2048), 4 bands of uint16 with the texture of land, DEFLATE in blocks of 512. The
network returns its input; labels are the largest of its 4 outputs. Figures are CPU seconds of the whole process a
megapixel, the best of three runs; what the network itself takes is left out. Three loops make the same map:

- ours, with tiles side by side, as for any network of known reach, and with tiles blended over 64 px;
- the plain loop: read each tile by rasterio, add it to an accumulator of the whole raster with Hann weights, divide;
- the floor: decode every block once and do nothing.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
import torch
from affine import Affine
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.raster.reader import open_raster
from torch import Tensor

TILE, OVERLAP = 512, 64


class Identity(TileNetwork):
    """Returns its input and measures its own CPU time."""

    def __init__(self, margin: int | None) -> None:
        super().__init__()
        self.outputs, self.stride, self.margin, self.multiple = 4, 1, margin, 1
        self.seconds = 0.0

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        started = time.thread_time()
        outputs_BKSS = pixels_BCSS * 1.0
        self.seconds += time.thread_time() - started
        return outputs_BKSS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a raster of a quarter the size")
    side = 2048 if parser.parse_args().quick else 4096
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raster.tif"
        make_raster(path, side)
        halo, blend, plain, floor = (
            best(lambda loop=loop: loop(path), side) for loop in (run_halo, run_blend, run_plain, run_floor)
        )
    print(f"{side} x {side} x 4 uint16, DEFLATE 512; CPU seconds a megapixel without the network")
    print(f"  floor: decode once          {floor:.4f}")
    print(f"  ours, tiles side by side    {halo:.4f}  ({halo - floor:.4f} above the floor)")
    print(f"  ours, tiles blended         {blend:.4f}  ({blend - floor:.4f} above the floor)")
    print(f"  plain loop, full accumulator {plain:.3f}  ({plain - floor:.4f} above the floor)")
    claim("inference_overhead_cpu_s_per_mpx", halo, 0.055)
    claim("inference_cpu_over_plain_loop", halo / plain, 1.0)


def make_raster(path: Path, side: int) -> None:
    """Smooth fields with noise: DEFLATE saves about a third, as with real 16-bit imagery."""
    random = np.random.default_rng(0)
    coarse_CHW = random.normal(1500, 500, (4, side // 32, side // 32))
    pixels_CHW = np.kron(coarse_CHW, np.ones((1, 32, 32))) + random.normal(0, 110, (4, side, side))
    profile = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "interleave": "band"}
    transform = Affine(10, 0, 500000, 0, -10, 5000000)
    shape = {"count": 4, "height": side, "width": side, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **shape, **profile) as file:
        file.write(pixels_CHW.clip(1, 65535).astype(np.uint16))


def best(loop: Callable[[], float], side: int, times: int = 3) -> float:
    """Return the fewest CPU seconds a megapixel, after taking off what the network took."""
    found = []
    for _ in range(times):
        started = time.process_time()
        network = loop()
        found.append((time.process_time() - started - network) / (side * side / 1e6))
    return min(found)


def run_halo(path: Path) -> float:
    return run_ours(path, Identity(margin=0))


def run_blend(path: Path) -> float:
    return run_ours(path, Identity(margin=None))


def run_ours(path: Path, network: Identity) -> float:
    labels: list[np.ndarray] = []

    def finish(rows_KHW: np.ndarray, valid_HW: np.ndarray) -> None:
        labels.append(label(rows_KHW, valid_HW))

    with open_raster(str(path)) as raster:
        tiling = TilingConfig(tile_size=TILE, tile_overlap=OVERLAP)
        run_tiles(network, raster, raster.grid.window, tiling, "cpu", 4, finish, lambda: None, lambda done: None)
    assert sum(len(rows_HW) for rows_HW in labels) == raster.grid.height
    return network.seconds


def run_plain(path: Path) -> float:
    """The loop one writes first: every tile read by itself, sums and weights of the whole raster in memory."""
    network, step = Identity(margin=None), TILE - OVERLAP
    bell_S = np.hanning(TILE + 2)[1:-1].astype(np.float32)
    weight_SS = bell_S[:, None] * bell_S
    with rasterio.open(path) as file, torch.inference_mode():
        sums_KHW = np.zeros((4, file.height, file.width), np.float32)
        weights_HW = np.zeros((file.height, file.width), np.float32)
        valid_HW = np.zeros((file.height, file.width), bool)
        for row in range(0, max(file.height - OVERLAP, 1), step):
            for column in range(0, max(file.width - OVERLAP, 1), step):
                high, wide = min(TILE, file.height - row), min(TILE, file.width - column)
                pixels_CSS = np.zeros((4, TILE, TILE), np.float32)
                pixels_CSS[:, :high, :wide] = file.read(window=rasterio.windows.Window(column, row, wide, high))
                seen_SS = np.isfinite(pixels_CSS).all(axis=0)
                tensors = torch.from_numpy(pixels_CSS)[None], torch.from_numpy(seen_SS)[None]
                outputs_KSS = network(*tensors)[0].numpy()
                rows, columns = slice(row, row + high), slice(column, column + wide)
                sums_KHW[:, rows, columns] += (outputs_KSS * weight_SS)[:, :high, :wide]
                weights_HW[rows, columns] += weight_SS[:high, :wide]
                valid_HW[rows, columns] |= seen_SS[:high, :wide]
    label(sums_KHW / weights_HW, valid_HW)
    return network.seconds


def run_floor(path: Path) -> float:
    with rasterio.open(path) as file:
        for row in range(0, file.height, 512):
            file.read(window=rasterio.windows.Window(0, row, file.width, 512))
    return 0.0


def label(rows_KHW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Return the largest output, from 1, by comparing one after the other: much faster than argmax."""
    labels_HW = np.ones(valid_HW.shape, np.uint8)
    largest_HW = rows_KHW[0].copy()
    for index in range(1, len(rows_KHW)):
        larger_HW = rows_KHW[index] > largest_HW
        np.copyto(labels_HW, index + 1, where=larger_HW)
        np.maximum(largest_HW, rows_KHW[index], out=largest_HW)
    np.copyto(labels_HW, 255, where=~valid_HW)
    return labels_HW


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.4f} {bound} {'ok' if value <= bound else 'short'}")


if __name__ == "__main__":
    main()
