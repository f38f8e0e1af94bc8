"""Windows of GeoTIFFs as PIL images, and the views that torchvision makes of them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image, ImageFilter, ImageOps
from rasterio.windows import Window
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FINISH = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]


class Windows(Dataset[Any]):
    """A random window of a raster for each index; each worker opens a raster once."""

    def __init__(self, paths: list[Path], side: int, count: int, make: Callable[[Image.Image], Any]) -> None:
        self.paths, self.side, self.count, self.make = paths, side, count, make
        self.opened: dict[Path, Any] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        path = self.paths[index % len(self.paths)]
        raster = self.opened.get(path) or self.opened.setdefault(path, rasterio.open(path))
        row, column = (random.randrange(extent - self.side) for extent in raster.shape)  # noqa: S311
        pixels_CHW = raster.read(window=Window(column, row, self.side, self.side))
        return self.make(Image.fromarray(np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0))))


def load(paths: list[Path], side: int, batch: int, steps: int, make: Callable[[Image.Image], Any], workers: int) -> Any:
    """Return a loader of whole batches."""
    windows = Windows(paths, side, batch * steps, make)
    return DataLoader(windows, batch, shuffle=True, num_workers=workers, pin_memory=True, drop_last=True)


class Blur:
    def __init__(self, chance: float) -> None:
        self.chance = chance

    def __call__(self, image: Image.Image) -> Image.Image:
        if random.random() >= self.chance:  # noqa: S311  not for secrets
            return image
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))  # noqa: S311


class Solarise:
    def __init__(self, chance: float) -> None:
        self.chance = chance

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.solarize(image) if random.random() < self.chance else image  # noqa: S311


class MoCoViews:
    """Two views of an image: Chen et al., 2020, arXiv:2003.04297."""

    def __init__(self, size: int) -> None:
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
        crop, gray = transforms.RandomResizedCrop(size, (0.2, 1)), transforms.RandomGrayscale(0.2)
        flip = transforms.RandomHorizontalFlip()
        self.view = transforms.Compose([crop, jitter, gray, Blur(0.5), flip, *FINISH])

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [self.view(image), self.view(image)]


class DINOViews:
    """Two large views and small ones of an image: Caron et al., 2021, arXiv:2104.14294."""

    def __init__(self, large: int, small: int, count: int) -> None:
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
        change = [transforms.RandomHorizontalFlip(), jitter, transforms.RandomGrayscale(0.2)]

        def view(size: int, area: tuple[float, float], *last: Any) -> transforms.Compose:
            crop = transforms.RandomResizedCrop(size, area, interpolation=transforms.InterpolationMode.BICUBIC)
            return transforms.Compose([crop, *change, *last, *FINISH])

        first, second = view(large, (0.4, 1), Blur(1)), view(large, (0.4, 1), Blur(0.1), Solarise(0.2))
        self.views = [first, second] + [view(small, (0.05, 0.4), Blur(0.5))] * count

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [view(image) for view in self.views]


class MAEView:
    """One view of an image: He et al., 2022, arXiv:2111.06377."""

    def __init__(self, size: int) -> None:
        crop = transforms.RandomResizedCrop(size, (0.2, 1), interpolation=transforms.InterpolationMode.BICUBIC)
        self.view = transforms.Compose([crop, transforms.RandomHorizontalFlip(), *FINISH])

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [self.view(image)]
