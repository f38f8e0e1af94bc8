"""What an encoder makes of a few windows: colours of its features, attention, and how far windows lie apart.

Shape letters: B windows, C bands, H rows, W columns, N cells of all windows, D features, A heads, h and w cells.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsfm.blocks.attention import last_attention
from rsfm.blocks.transformer import PatchEncoder
from rsfm.encoder import Encoder
from rsfm.method import Method, Sample
from rsfm.picture_file import limits, shown_bands, stretch, write_picture
from rsfm.training.shown_windows import shrink, varied

WINDOWS, ATTENDED = 6, 4
AT_ONCE = 32
FEWEST_EMBEDDED, MOST_EMBEDDED = 8, 128
EMBED_SECONDS = 1.0
"""Time that embedding windows may take, if there are more than the fewest."""
MOST_HEADS = 12


def embedding(method: Method, sample: Sample, band_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Write the colours of the features of a few windows, and measure how far apart windows lie."""
    encoder = method.encoder
    few = varied(sample, WINDOWS)
    began = time.monotonic()
    colours = feature_colours(encoder.feature_maps(few.pixels_BCHW)[-1].features_BDhw)
    each = (time.monotonic() - began) / len(colours)
    windows = _write_windows(few, band_names, folder, "features-window")
    rows = []
    for number, (name, colours_CHW) in enumerate(zip(windows, colours, strict=True), 1):
        path = folder / f"features-{number}.png"
        write_picture(path, colours_CHW)
        rows.append({"window": number, "files": [name, path.name]})
    count = min(max(FEWEST_EMBEDDED, int(EMBED_SECONDS / max(each, 1e-6))), MOST_EMBEDDED, len(sample.pixels_BCHW))
    return {"rows": rows, **spread(embed(encoder, sample, count)), "side": few.pixels_BCHW.shape[-1]}


def attention(method: Method, sample: Sample, band_names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Write what each head of the last block attends to; nothing for an encoder without attention."""
    if not isinstance(method.encoder, PatchEncoder):
        return {}
    few = varied(sample, ATTENDED)
    weights_BAhw = last_attention(method.encoder, few.pixels_BCHW).cpu().numpy()
    windows = _write_windows(few, band_names, folder, "attention-window")
    rows = []
    for number, (name, weights_Ahw) in enumerate(zip(windows, weights_BAhw[:, :MOST_HEADS], strict=True), 1):
        files = [name]
        for head, weights_hw in enumerate(weights_Ahw, 1):
            path = folder / f"attention-{number}-{head}.png"
            low, high = float(weights_hw.min()), max(float(np.percentile(weights_hw, 99)), 1e-12)
            part_hw = np.clip((weights_hw - low) / max(high - low, 1e-12), 0, 1)
            write_picture(path, heat(part_hw))
            files.append(path.name)
        rows.append({"window": number, "files": files})
    heads = weights_BAhw.shape[1]
    by_class = getattr(method.encoder, "pooling", "mean") == "class"
    shown = min(heads, MOST_HEADS)
    return {"rows": rows, "heads": heads, "shown": shown, "by_class": by_class, "side": sample.pixels_BCHW.shape[-1]}


def feature_colours(features_BDhw: Tensor) -> list[NDArray[np.uint8]]:
    """Turn features into colours of three bands: what varies most is red, then green, then blue."""
    count, width, height, columns = features_BDhw.shape
    cells_ND = features_BDhw.float().permute(0, 2, 3, 1).reshape(-1, width).cpu()
    cells_ND = cells_ND - cells_ND.mean(0)
    _, _, directions_DD = torch.linalg.svd(cells_ND, full_matrices=False)
    three = directions_DD[:3]
    three = three * three.gather(1, three.abs().argmax(1, keepdim=True)).sign()
    found_N3 = torch.zeros(len(cells_ND), 3)
    found_N3[:, : len(three)] = cells_ND @ three.T
    pixels_BCHW = found_N3.reshape(count, height, columns, 3).permute(0, 3, 1, 2).numpy()
    shown_BCHW = np.ones(pixels_BCHW.shape, bool)
    limits_2C = limits(pixels_BCHW, shown_BCHW)
    return [stretch(pixels, shown, limits_2C) for pixels, shown in zip(pixels_BCHW, shown_BCHW, strict=True)]


def heat(part_hw: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Colour 0 to 1 from black over red and yellow to white."""
    ramps = [np.clip(part_hw * 3 - start, 0, 1) for start in range(3)]
    return np.asarray(np.rint(np.stack(ramps) * 255), np.uint8)


def spread(embedded_BD: Tensor) -> dict[str, Any]:
    """Measure whether all windows have become the same to an encoder.

    Returns:
        deviation: root of the mean variance over the features of vectors of length 1; `most` if they point anywhere.
        directions: the effective rank (Roy and Vetterli, 2007) of the vectors less their mean, of at most `possible`.
    """
    count, width = embedded_BD.shape
    unit_BD = embedded_BD / embedded_BD.norm(dim=1, keepdim=True).clamp(min=1e-12)
    centred_BD = unit_BD - unit_BD.mean(0)
    share = torch.linalg.svdvals(centred_BD.double().cpu())
    share = share / share.sum().clamp(min=1e-12)
    directions = float((-(share * share.clamp(min=1e-12).log()).sum()).exp())
    return {
        "windows": count,
        "width": width,
        "deviation": float(centred_BD.square().mean().sqrt()),
        "most": 1 / math.sqrt(width),
        "directions": directions,
        "possible": min(count - 1, width),
    }


def embed(encoder: Encoder, sample: Sample, count: int) -> Tensor:
    """Return embedded_BD of the first windows of a sample."""
    parts = (slice(first, min(first + AT_ONCE, count)) for first in range(0, count, AT_ONCE))
    return torch.cat([encoder.embedding(sample.pixels_BCHW[part]).float() for part in parts])


def _write_windows(few: Sample, names: Sequence[str], folder: Path, name: str) -> list[str]:
    """Write windows as they are, and return the names of the files."""
    bands = [*shown_bands(names)]
    pixels_BCHW = shrink(few.pixels_BCHW[:, bands].float()).cpu().numpy()
    shown_B1HW = (shrink(few.valid_BHW[:, None].float()) > 0.5).cpu().numpy()
    shown_BCHW = np.broadcast_to(shown_B1HW, pixels_BCHW.shape)
    files = []
    for number, (pixels_CHW, shown_CHW) in enumerate(zip(pixels_BCHW, shown_BCHW, strict=True), 1):
        path = folder / f"{name}-{number}.png"
        write_picture(path, stretch(pixels_CHW, shown_CHW, limits(pixels_CHW[None], shown_CHW[None])))
        files.append(path.name)
    return files
