"""What tiled inference costs beyond the network, beside a plain loop, torchgeo and the floor, in the same run.

    make bench-inference                          (installs torchgeo in an environment of its own)
    python benchmarks/inference.py [--quick] [--all] [--rounds 3]

The raster is 4096 x 4096 (--quick: 2048), 4 bands of uint16 with the texture of land, in three layouts of DEFLATE:
blocks of 512, strips, blocks with the bands of a pixel together. Labels are the largest of 4 outputs, and all loops but
torchgeo's write them as a map with pyramids. Networks: one that does nothing, one of the size of a U-Net, and a
ViT-S/16. Figures are seconds a megapixel less what the network took, the best of three rounds in which the loops take
turns (of nine with the network that does nothing, whose rounds take seconds), and the whole time over that of the
network:

- ours, with tiles side by side, as for any network of known reach, and with tiles blended over 64 px;
- the plain loop: read each tile by rasterio, add it to an accumulator of the whole raster with Hann weights, divide,
  label, write, and let GDAL make the cloud-optimised copy;
- torchgeo: the same tiles from `RasterDataset` with `GridGeoSampler`, labelled by argmax, neither blended nor written;
- the floor: decode every block once, and encode the labels once.

The large networks run through the loops of others on blocks of 512 alone (--all: on all layouts), and once: their
minutes are the network's. Torch has one thread. The bound on the overhead, .055 s of the processor and .03 by the
clock, is for every network and layout.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rasterio
import timm
import torch
from affine import Affine
from rasterio.shutil import copy as copy_raster
from rsfm.inference import TileNetwork, run_tiles
from rsfm.inference_config import TilingConfig
from rsfm.outputs.classes import Classes
from rsfm.raster.background import Background
from rsfm.raster.largest import find_largest
from rsfm.raster.reader import open_raster
from rsfm.raster.writer import RasterWriter
from torch import Tensor, nn

TILE, OVERLAP, BATCH = 512, 64, 4
LAYOUTS = {
    "blocks of 512": {"tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "band"},
    "strips": {"tiled": False, "interleave": "band"},
    "bands together": {"tiled": True, "blockxsize": 512, "blockysize": 512, "interleave": "pixel"},
}


class Spent(NamedTuple):
    """Seconds of the processor and of the clock, in all and in the network."""

    cpu: float
    wall: float
    network_cpu: float
    network_wall: float


class Cost(NamedTuple):
    """Seconds a megapixel beyond the network, and the whole time over that of the network; 0 without one."""

    cpu: float
    wall: float
    cpu_ratio: float
    wall_ratio: float


class Timed(TileNetwork):
    """Runs a network and measures its time."""

    def __init__(self, network: nn.Module, margin: int | None, multiple: int = 1) -> None:
        super().__init__()
        self.outputs, self.stride, self.margin, self.multiple = 4, 1, margin, multiple
        self.network = network.eval()
        self.cpu = self.wall = 0.0

    def forward(self, pixels_BCSS: Tensor, valid_BSS: Tensor) -> Tensor:
        cpu, wall = time.thread_time(), time.perf_counter()
        outputs_BKSS: Tensor = self.network(pixels_BCSS)
        self.cpu += time.thread_time() - cpu
        self.wall += time.perf_counter() - wall
        return outputs_BKSS


class Same(nn.Module):
    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        return pixels_BCSS * 1.0


class UNetSize(nn.Module):
    """A ResNet-18 with a light decoder: about the work of a U-Net on it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model("resnet18", in_chans=4, features_only=True)
        self.reduce = nn.ModuleList(nn.Conv2d(width, 64, 1) for width in self.encoder.feature_info.channels())
        self.mix = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1) for _ in self.reduce)
        self.label = nn.Conv2d(64, 4, 1)

    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        maps = self.encoder(pixels_BCSS / 3000)
        mixed = self.reduce[-1](maps[-1])
        for index in range(len(maps) - 2, -1, -1):
            mixed = nn.functional.interpolate(mixed, scale_factor=2.0)
            mixed = torch.relu(self.mix[index](mixed + self.reduce[index](maps[index])))
        return nn.functional.interpolate(self.label(mixed), scale_factor=2.0)


class ViTSmall(nn.Module):
    """ViT-S/16 with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = timm.create_model("vit_small_patch16_224", in_chans=4, img_size=TILE, num_classes=0)
        self.label = nn.Conv2d(384, 4, 1)

    def forward(self, pixels_BCSS: Tensor) -> Tensor:
        tokens_BLD = self.encoder.forward_features(pixels_BCSS / 3000)[:, 1:]
        side = TILE // 16
        features_BDhw = tokens_BLD.transpose(1, 2).reshape(len(tokens_BLD), 384, side, side)
        return nn.functional.interpolate(self.label(features_BDhw), scale_factor=16.0, mode="bilinear")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a raster of a quarter the size, and no large networks")
    parser.add_argument("--all", action="store_true", help="the large networks in every loop on every layout")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    arguments = parser.parse_args()
    side = 2048 if arguments.quick else 4096
    torch.set_num_threads(1)
    print(f"{side} x {side} x 4 uint16; overhead in s/Mpx: processor, clock; whole time / network: processor, clock")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "raster.tif"
        for layout in LAYOUTS:
            make_raster(path, side, LAYOUTS[layout])
            first = layout == "blocks of 512"
            found = {"nothing": compare(path, layout, side, "nothing", Same(), list(LOOPS), 3 * arguments.rounds)}
            if not arguments.quick:
                loops = list(LOOPS)[:4] if first or arguments.all else [SIDE_BY_SIDE, BLENDED]
                found["unet"] = compare(path, layout, side, "U-Net size", UNetSize(), loops, arguments.rounds)
                found["vit_small"] = compare(path, layout, side, "ViT-S/16", ViTSmall(), loops, arguments.rounds)
                claim("inference_cpu_over_vit_small", found["vit_small"][BLENDED].cpu_ratio, 1.03)
            for network, costs in found.items():
                claim_overhead(f"{layout.replace(' ', '_')}_{network}", costs)
    if not find_spec("torchgeo"):
        print("torchgeo is not installed here: run `make bench-inference` to compare with it")


def compare(
    path: Path, layout: str, side: int, name: str, network: nn.Module, loops: Sequence[str], times: int
) -> dict[str, Cost]:
    """Print and return what loops cost beyond a network; one after the other, ours `times` times over."""
    print(f"DEFLATE, {layout}; network: {name}")
    spent: dict[str, list[Spent]] = {loop: [] for loop in loops if loop != TORCHGEO or find_spec("torchgeo")}
    for turn in range(times):
        for loop, found in spent.items():
            if turn == 0 or name == "nothing" or loop in (SIDE_BY_SIDE, BLENDED):
                found.append(LOOPS[loop](path, network))
    costs = {loop: cost_of(found, side * side / 1e6) for loop, found in spent.items()}
    for loop, cost in costs.items():
        ratios = f"{cost.cpu_ratio:9.3f} {cost.wall_ratio:9.3f}" if cost.cpu_ratio else ""
        print(f"  {loop:<26} {cost.cpu:.4f}  {cost.wall:.4f} {ratios}", flush=True)
    return costs


def claim_overhead(case: str, costs: dict[str, Cost]) -> None:
    for name, loop in {"side_by_side": SIDE_BY_SIDE, "blended": BLENDED}.items():
        claim(f"inference_overhead_{case}_{name}_cpu_s_per_mpx", costs[loop].cpu, 0.055)
        claim(f"inference_overhead_{case}_{name}_wall_s_per_mpx", costs[loop].wall, 0.03)
    for name, peer in {"plain_loop": PLAIN, "torchgeo": TORCHGEO}.items():
        if peer in costs:
            claim(f"inference_{case}_blended_cpu_over_{name}", costs[BLENDED].cpu / costs[peer].cpu, 1.0)


def make_raster(path: Path, side: int, layout: dict[str, object]) -> None:
    """Smooth fields with noise: DEFLATE saves about a third, as with real 16-bit imagery."""
    random = np.random.default_rng(0)
    coarse_CHW = random.normal(1500, 500, (4, side // 32, side // 32))
    pixels_CHW = np.kron(coarse_CHW, np.ones((1, 32, 32))) + random.normal(0, 110, (4, side, side))
    transform = Affine(10, 0, 500000, 0, -10, 5000000)
    shape = {"count": 4, "height": side, "width": side, "dtype": "uint16"}
    place = {"crs": "EPSG:32633", "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", compress="deflate", **place, **shape, **layout) as file:
        file.write(pixels_CHW.clip(1, 65535).astype(np.uint16))


def cost_of(found: Sequence[Spent], mpx: float) -> Cost:
    """Return the least of several runs, after taking off what the network took."""
    network_cpu, network_wall = (min(spent[index] for spent in found) for index in (2, 3))
    cpu = min(spent.cpu - spent.network_cpu for spent in found)
    wall = min(spent.wall - spent.network_wall for spent in found)
    ratios = (1 + cpu / network_cpu, 1 + wall / network_wall) if network_cpu else (0.0, 0.0)
    return Cost(cpu / mpx, wall / mpx, *ratios)


def spent_since(started: tuple[float, float], network: Timed | None = None) -> Spent:
    cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
    return Spent(cpu, wall, network.cpu if network else 0.0, network.wall if network else 0.0)


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def run_ours(path: Path, network: Timed) -> Spent:
    started = now()
    target = path.with_name("ours.tif")
    with (
        open_raster(str(path)) as raster,
        RasterWriter(target, Classes, raster.grid) as writer,
        Background() as background,
    ):

        def finish(rows_KHW: np.ndarray, valid_HW: np.ndarray) -> None:
            labels_HW = find_largest(rows_KHW, valid_HW, 255)[0]
            background.do(lambda: writer.write(labels_HW[None]), labels_HW.nbytes)

        tiling = TilingConfig(tile_size=TILE, tile_overlap=OVERLAP)
        run_tiles(network, raster, raster.grid.window, tiling, "cpu", BATCH, finish, lambda: None, lambda done: None)
    return spent_since(started, network)


def run_plain(path: Path, network: Timed) -> Spent:
    """The loop one writes first: every tile read by itself, sums and weights of the whole raster in memory."""
    started, step = now(), TILE - OVERLAP
    bell_S = np.hanning(TILE + 2)[1:-1].astype(np.float32)
    weight_SS = bell_S[:, None] * bell_S
    with rasterio.open(path) as file, torch.inference_mode():
        profile = file.profile
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
    write_plain(path.with_name("plain.tif"), find_largest(sums_KHW / weights_HW, valid_HW, 255)[0], profile)
    options = {"compress": "DEFLATE", "predictor": "STANDARD", "blocksize": 512, "overview_resampling": "MODE"}
    copy_raster(path.with_name("plain.tif"), path.with_name("plain-cog.tif"), driver="COG", **options)
    return spent_since(started, network)


def write_plain(path: Path, labels_HW: np.ndarray, profile: dict[str, object]) -> None:
    tiled = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1, "predictor": 2}
    shape = {name: profile[name] for name in ("height", "width", "crs", "transform")}
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="uint8", nodata=255, **shape, **tiled) as file:
        file.write(labels_HW, 1)


def run_torchgeo(path: Path, network: Timed) -> Spent:
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    started = now()
    dataset = RasterDataset([str(path)])
    sampler = GridGeoSampler(dataset, size=TILE, stride=TILE - OVERLAP)
    with torch.inference_mode():
        for batch in DataLoader(dataset, BATCH, sampler=sampler, num_workers=0, collate_fn=stack_samples):
            pixels_BCSS = batch["image"]
            network(pixels_BCSS, torch.isfinite(pixels_BCSS).all(dim=1)).argmax(dim=1).to(torch.uint8)
    return spent_since(started, network)


def run_floor(path: Path) -> Spent:
    with rasterio.open(path.with_name("ours.tif")) as made:
        labels_HW = made.read(1)
    started = now()
    with rasterio.open(path) as file:
        for row in range(0, file.height, 512):
            file.read(window=rasterio.windows.Window(0, row, file.width, 512))
        write_plain(path.with_name("floor.tif"), labels_HW, file.profile)
    return spent_since(started)


SIDE_BY_SIDE, BLENDED, PLAIN, TORCHGEO = "ours, tiles side by side", "ours, tiles blended", "plain loop", "torchgeo"
LOOPS: dict[str, Callable[[Path, nn.Module], Spent]] = {
    SIDE_BY_SIDE: lambda path, network: run_ours(path, Timed(network, 0, 32)),
    BLENDED: lambda path, network: run_ours(path, Timed(network, None, 32)),
    PLAIN: lambda path, network: run_plain(path, Timed(network, None)),
    TORCHGEO: lambda path, network: run_torchgeo(path, Timed(network, None)),
    "floor": lambda path, network: run_floor(path),
}


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.4f} {bound} {'ok' if value <= bound else 'short'}")


if __name__ == "__main__":
    main()
