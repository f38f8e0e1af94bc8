"""Views a second: ours, on tensors of a whole batch, beside the authors' pipelines on PIL images, in the same run.

    python benchmarks/views.py [--quick] [--device auto] [--rounds 5]

From decoded windows of 8 bits in memory to normalised tensors: DINO draws 2 views of 224 px and 8 of 96 px from windows
of 256 px; PerA 2 pairs of 448 px and 8 pairs of 96 px from windows of 512 px, as published. The authors' pipelines are
torchvision's transforms on PIL images with the same sizes and chances, run by a DataLoader with a worker process for
each core; our side keeps the memory it frees, as a training does. Both sides get the same two cores and take turns; a
line tells the median of the rounds, of images a second and of CPU seconds an image with all processes counted. With a
GPU our side runs there, and theirs stays as it is.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image, ImageFilter, ImageOps
from rsfm.allocator import keep_freed_memory
from rsfm.blocks.multicrop import draw_views
from rsfm.blocks.normalisation import Normalisation
from rsfm.blocks.view import View
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.methods.pera import PerA, PerAConfig
from rsfm.raster.statistics import Statistics
from scipy import ndimage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

CORES = 2
luck = random.Random(0)  # noqa: S311  not for secrets
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU_BOUND, GPU_BOUND = 1.5, 50


class Speed(NamedTuple):
    """Images a second, and CPU seconds an image."""

    rate: float
    cpu: float


class DinoTransform:
    """Ten views of an image: Caron et al., 2021, arXiv:2104.14294."""

    def __init__(self) -> None:
        finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        change = [
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            transforms.RandomGrayscale(0.2),
        ]

        def view(size: int, area: tuple[float, float], *last: Any) -> transforms.Compose:
            crop = transforms.RandomResizedCrop(size, area, interpolation=transforms.InterpolationMode.BICUBIC)
            return transforms.Compose([crop, *change, *last, *finish])

        first, second = view(224, (0.4, 1), Blur(1)), view(224, (0.4, 1), Blur(0.1), Solarise(0.2))
        self.views = [first, second] + [view(96, (0.05, 0.4), Blur(0.5))] * 8

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [view(image) for view in self.views]


class Blur(NamedTuple):
    chance: float

    def __call__(self, image: Image.Image) -> Image.Image:
        if luck.random() >= self.chance:
            return image
        return image.filter(ImageFilter.GaussianBlur(radius=luck.uniform(0.1, 2.0)))


class Solarise(NamedTuple):
    chance: float

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.solarize(image) if luck.random() < self.chance else image


class PerATransform:
    """Ten pairs of views of an image: Shen et al., 2025, arXiv:2505.19447."""

    def __init__(self) -> None:
        def place(size: int, area: tuple[float, float]) -> transforms.Compose:
            crop = transforms.RandomResizedCrop(size, area)
            return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()])

        self.places = [place(448, (0.4, 1))] * 2 + [place(96, (0.05, 0.4))] * 8
        self.jitter = transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)

    def __call__(self, image: Image.Image) -> list[Tensor]:
        views = []
        for place in self.places:
            plain = place(image)
            student = plain
            if luck.random() < 0.8:
                gray = luck.random() < 0.1
                student = functional.to_grayscale(plain, 3) if gray else self.jitter(plain)
            teacher = self.jitter(plain) if luck.random() < 0.1 else plain
            views += [functional.normalize(functional.to_tensor(view), MEAN, STD) for view in (student, teacher)]
        return views


class Images(Dataset[list[Tensor]]):
    def __init__(self, images: list[Image.Image], transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


def make_windows(count: int, side: int) -> np.ndarray:
    """Draw windows_NHW3 of 8 bits with the texture of land."""
    generator = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(generator.normal(size=(count, side, side, 3)), (0, 3, 3, 0))
    fields = fields / fields.std() * 50 + 110 + generator.normal(size=fields.shape) * 6
    return np.asarray(fields.clip(0, 255).astype(np.uint8))


def theirs(windows_NHW3: np.ndarray, transform: Callable[[Image.Image], list[Tensor]], batch: int) -> Iterator[None]:
    """Make the views of all windows at each step."""
    images = [Image.fromarray(window) for window in windows_NHW3]
    loader = DataLoader(Images(images, transform), batch, num_workers=CORES, persistent_workers=True)
    while True:
        for _ in loader:
            pass
        yield


def ours(windows_NHW3: np.ndarray, draw: Callable[[View], object], batch: int, device: str) -> Iterator[None]:
    """Make the views of all windows at each step."""
    keep_freed_memory()
    mean, std = (tuple(255 * value for value in values) for values in (MEAN, STD))
    known = Statistics(mean=mean, std=std, low=(0.0,) * 3, high=(255.0,) * 3, count=(1,) * 3)
    normalise = Normalisation.from_statistics(known).to(device)
    pixels_NCHW = torch.from_numpy(windows_NHW3).permute(0, 3, 1, 2).contiguous()
    while True:
        for start in range(0, len(pixels_NCHW), batch):
            pixels_BCHW = pixels_NCHW[start : start + batch].to(device)
            valid_BHW = torch.ones_like(pixels_BCHW[:, 0], dtype=torch.bool)
            draw(View(normalise(pixels_BCHW, valid_BHW), valid_BHW))
        if device != "cpu":
            torch.cuda.synchronize()
        yield


def draw_dino(window: View) -> object:
    return draw_views(window, (224, 96), [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 8)


def make_pera() -> Callable[[View], object]:
    encoder = ViTLearned(ViTLearnedConfig(width=64, depth=1, heads=1, patch_size=16, window=448), 3)
    method = PerA(PerAConfig(prototypes=64, hidden=64, bottleneck=32), encoder)

    def draw(window: View) -> object:
        return method.draw(window, 2, 448, (0.4, 1.0)), method.draw(window, 8, 96, (0.05, 0.4))

    return draw


def measure(step: Iterator[None], images: int) -> Speed:
    started, cpu = time.perf_counter(), cpu_seconds()
    next(step)
    return Speed(images / (time.perf_counter() - started), (cpu_seconds() - cpu) / images)


def cpu_seconds() -> float:
    """Return the seconds of the processor of this process and of its workers."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def compare(name: str, sides: dict[str, Iterator[None]], images: int, rounds: int, bound: float) -> None:
    """Let both sides take turns and print what they did."""
    for step in sides.values():
        next(step)
    found: dict[str, list[Speed]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, step in sides.items():
            found[side].append(measure(step, images))
    for side, speeds in found.items():
        rate, cpu = (statistics.median(values) for values in zip(*speeds, strict=True))
        print(f"{name:5s} {side:7s} {rate:8.1f} images/s  {cpu * 1e3:7.2f} CPU ms an image")
    pairs = list(zip(found["ours"], found["theirs"], strict=True))
    ratio = statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)
    cpu_ratio = statistics.median(theirs.cpu / ours.cpu for ours, theirs in pairs)
    print(f"{name:5s} ratio of CPU seconds {cpu_ratio:.2f}")
    print(f"CLAIM views_{name}_times_pil {ratio:.2f} {bound} {'ok' if ratio >= bound else 'short'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer windows and rounds")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="of our side")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    torch.manual_seed(0)
    cuda = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
    device, bound = ("cuda", GPU_BOUND) if cuda else ("cpu", CPU_BOUND)
    rounds = 2 if options.quick else options.rounds
    print(f"ours on {torch.cuda.get_device_name() if cuda else 'the processor'}; {CORES} cores; {rounds} rounds")
    for name, side, count, draw, transform in (
        ("dino", 256, 64, draw_dino, DinoTransform()),
        ("pera", 512, 32, make_pera(), PerATransform()),
    ):
        count = count // 2 if options.quick else count
        windows_NHW3 = make_windows(count, side)
        batch = min(count, 32)
        sides = {
            "theirs": theirs(windows_NHW3, transform, batch // CORES),
            "ours": ours(windows_NHW3, draw, batch, device),
        }
        compare(name, sides, count, rounds, bound)


if __name__ == "__main__":
    main()
