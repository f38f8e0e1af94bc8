"""What a method hides and rebuilds of a few windows, as pictures.

Shape letters: B windows, T dates, C bands, H rows, W columns; RGB is 3.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from rsfm.blocks.aligned_views import spread_of
from rsfm.blocks.view import View
from rsfm.method import Method, Picture, Sample
from rsfm.picture_file import limits, shown_bands, stretch, write_picture

WINDOWS = 5
LARGEST = 256
"""Side of a picture, in pixels; larger windows are shrunk."""


def reconstructions(method: Method, sample: Sample, band_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Write what a method shows of a few windows: a picture for each date of each; none if it rebuilds none."""
    pictures = method.pictures(varied(sample, WINDOWS))
    if not pictures:
        return {}
    bands = [*shown_bands(band_names)]
    original = _visible(pictures[0], bands)
    count, dates = original[0].shape[:2]
    limits_B2C = [limits(*window) for window in zip(*original, strict=True)]
    rows: list[dict[str, Any]] = [
        {"window": window + 1, "date": date + 1, "files": []} for window in range(count) for date in range(dates)
    ]
    for number, picture in enumerate(pictures):
        pixels_BTCHW, shown_BTCHW = _visible(picture, bands)
        for row in rows:
            window, date = row["window"] - 1, row["date"] - 1
            path = folder / f"rebuilt-{window + 1}-{date + 1}-{number}.png"
            colours_CHW = stretch(pixels_BTCHW[window, date], shown_BTCHW[window, date], limits_B2C[window])
            write_picture(path, colours_CHW)
            row["files"].append(path.name)
    return {
        "titles": [picture.title for picture in pictures],
        "rows": rows,
        "dates": dates,
        "bands": [band_names[band] for band in bands],
        "side": original[0].shape[-1],
    }


def varied(sample: Sample, count: int) -> Sample:
    """Return some windows of a sample, from plain ones to those that vary most; the plainest quarter is passed by."""
    spread_B = spread_of(View(sample.pixels_BCHW, sample.valid_BHW))
    order_B, last = spread_B.argsort(), len(spread_B) - 1
    chosen = np.unique(np.linspace((last + 1) // 4, last, count).round().astype(int))
    index_B = order_B[chosen.tolist()]
    dates = sample.dates and type(sample.dates)(*(part[index_B] for part in sample.dates))
    return Sample(sample.pixels_BCHW[index_B], sample.valid_BHW[index_B], sample.gsd_B[index_B], dates)


def shrink(pixels_BCHW: Tensor) -> Tensor:
    """Make windows larger than a picture as small as one."""
    factor = -(-max(pixels_BCHW.shape[-2:]) // LARGEST)
    return pixels_BCHW if factor == 1 else functional.avg_pool2d(pixels_BCHW.float(), factor)


def _visible(picture: Picture, bands: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return three bands of the pixels, and which are shown."""
    shape = picture.pixels_BTCHW.shape[:2]
    pixels, shown = (
        shrink(values[:, :, bands].flatten(0, 1).float()).cpu()
        for values in (picture.pixels_BTCHW, picture.shown_BTCHW)
    )
    size = (*shape, *pixels.shape[1:])
    return pixels.reshape(size).numpy(), (shown > 0.5).reshape(size).numpy()
