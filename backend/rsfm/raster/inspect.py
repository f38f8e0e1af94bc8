"""Says on one page what is in a raster, whether it can be used, and what to do where it cannot.

Shape letters: C bands, N pixels.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rsfm.errors import UserError
from rsfm.raster.collection import Band, Entry
from rsfm.raster.describing import describe_raster
from rsfm.raster.grid import Grid, Window
from rsfm.raster.reader import Raster, find_problem, open_dataset, short_name
from rsfm.raster.validity import find_alpha, probes

EXACT_PIXELS = 2**26
"""Rasters of at most this many values are looked at in full."""


class _Seen(NamedTuple):
    """What was measured.

    Attributes:
        valid: share of all pixels.
        fill: share of the valid pixels that are 0, or the largest integer, in all bands at once.
        exact: whether all pixels were looked at.
    """

    valid: float
    low_C: np.ndarray
    mean_C: np.ndarray
    high_C: np.ndarray
    fill: float
    exact: bool


def inspect_raster(path: str) -> str:
    """Describe a raster: size, place, bands, nodata, layout, statistics, what is wrong and what to do.

    Raises:
        UserError: there is no such file, or it is not a raster.
    """
    with open_dataset(path, "raster") as dataset:
        lines = [short_name(path), *_describe(dataset), *_interpret(describe_raster(path))]
        blocking = find_problem(dataset)
        usable = not find_problem(dataset, require_crs=False)
        hints = [f"It {blocking}"] if blocking else []
        if usable:
            with Raster(path, open_dataset(path, "raster")) as raster:
                try:
                    seen = _look(raster)
                    lines += _describe_bands(raster, seen)
                    hints += _find_oddities(dataset, raster, seen)
                    blocking = blocking or ("empty" if seen.valid == 0 else "")
                except UserError as error:
                    hints.append(str(error))
                    blocking = "damaged"
        verdict = "  Verdict      cannot be used as it is" if blocking else "  Verdict      can be used"
        return "\n".join([*lines, verdict, *(f"  - {hint}" for hint in hints)])


def _describe(dataset: Any) -> Iterator[str]:
    crs = dataset.crs or None
    grid = Grid(crs, dataset.transform, dataset.height, dataset.width)
    bands = "1 band" if dataset.count == 1 else f"{dataset.count} bands"
    yield f"  Size         {dataset.height} rows x {dataset.width} columns, {bands}"
    yield f"  CRS          {_crs_name(crs)}"
    if crs is not None and not dataset.transform.is_identity:
        yield f"  Pixel        {grid.gsd:.4g} m"
        west, south, east, north = grid.bounds
        yield f"  Bounds       west {west:.8g}, south {south:.8g}, east {east:.8g}, north {north:.8g}"
    if dataset.count:
        yield f"  Type         {', '.join(dict.fromkeys(dataset.dtypes))}"
        nodata = dataset.nodata
        yield f"  Nodata       {'not set' if nodata is None else f'{nodata:g}'}; mask: {_masks(dataset)}"
        height, width = dataset.block_shapes[0]
        layout = "rows" if width == dataset.width else "tiles"
        compression = dataset.compression.name.lower() if dataset.compression else "no compression"
        overviews = ", ".join(f"1:{factor}" for factor in dataset.overviews(1)) or "none"
        yield f"  Layout       {layout} of {height} x {width}, {compression}; overviews: {overviews}"


def _interpret(entry: Entry) -> Iterator[str]:
    """Say what a collection would make of it."""
    roles = {
        "imagery": "imagery to learn from",
        "mask": "a mask",
        "labels": "labels",
        "other": "neither image nor labels",
    }
    yield f"  Taken as     {roles[entry.role]}{f', {entry.sensor}' if entry.sensor else ''}"
    if entry.date:
        known = 16 if entry.hour_known else 10 if entry.month_known else 4
        where = {"metadata": "from its metadata", "name": "from its name"}[entry.date_source]
        yield f"  Date         {entry.date[:known].replace('T', ' ')} {where}{' (UTC)' if entry.hour_known else ''}"
    elif entry.role == "imagery":
        yield "  Date         not known: neither its metadata nor its name tell it"
    if entry.role == "imagery" and any(not band.name.startswith("Band ") for band in entry.bands):
        yield f"  Known bands  {', '.join(_band(band) for band in entry.bands)}"
    if (entry.scale, entry.offset) != (1.0, 0.0):
        yield f"  Values       stored x {entry.scale:g} {'+' if entry.offset >= 0 else '-'} {abs(entry.offset):g}"
    if entry.decibel:
        yield "  Values       radar backscatter in decibels"
    if entry.note:
        yield f"  Note         {entry.note}"


def _band(band: Band) -> str:
    return band.name if band.wavelength_nm is None else f"{band.name} ({band.wavelength_nm:.0f} nm)"


def _describe_bands(raster: Raster, seen: _Seen) -> Iterator[str]:
    how = "" if seen.exact else " (from a sample)"
    yield f"  Valid        {seen.valid:.1%} of the pixels{how}"
    if seen.valid == 0:
        return
    yield f"  Bands{how:<18}        min         mean          max"
    for name, low, mean, high in zip(raster.band_names, seen.low_C, seen.mean_C, seen.high_C, strict=True):
        yield f"    {name[:18]:<18} {low:>12.5g} {mean:>12.5g} {high:>12.5g}"


def _find_oddities(dataset: Any, raster: Raster, seen: _Seen) -> Iterator[str]:
    """Name what does not stop the work but may spoil it."""
    if seen.valid == 0:
        yield (
            "No valid pixel was found: all are nodata. Choose another raster, or correct its nodata value in QGIS with "
            "'Translate (convert format)'."
        )
        return
    constant = [name for name, low, high in zip(raster.band_names, seen.low_C, seen.high_C, strict=True) if low == high]
    if constant:
        yield f"Constant bands teach nothing: {', '.join(constant)}. Leave them out with 'Rearrange bands'."
    if "alpha" in (meaning.name for meaning in dataset.colorinterp):
        if find_alpha(dataset) is None:
            yield "A band is marked as alpha but holds varied values, so it is used as a band like the others."
        else:
            yield "The alpha band says which pixels are valid; it is not used as a band."
    if "palette" in (meaning.name for meaning in dataset.colorinterp):
        yield "Its values are the numbers of colours or classes, not measurements."
    if seen.fill > 0.005 and raster.bands > 1:
        yield (
            f"{seen.fill:.1%} of the pixels have one extreme value in all bands, perhaps around the picture. If they "
            "are no measurements, declare the value as nodata in QGIS with 'Translate (convert format)'."
        )
    if any(scale != 1 for scale in dataset.scales) or any(offset != 0 for offset in dataset.offsets):
        yield "It declares a scale and offset; values are used as stored, and normalised band by band."
    if dataset.transform.e > 0 and not dataset.transform.is_identity:
        yield "South is up in the file; this is read correctly."
    if dataset.width > 4096 and not dataset.overviews(1):
        yield "It has no overviews, so QGIS draws it slowly. Add them with 'Build overviews (pyramids)'."


def _look(raster: Raster) -> _Seen:
    """Measure all pixels of a small raster, of a large one those of evenly spread windows."""
    grid = raster.grid
    exact = raster.bands * grid.height * grid.width <= EXACT_PIXELS
    windows = _whole(grid.window) if exact else probes(grid.window, side=256, count=12)
    low_C, high_C = np.full(raster.bands, np.inf), np.full(raster.bands, -np.inf)
    sum_C, valid, fill, seen = np.zeros(raster.bands), 0, 0, 0
    largest = np.iinfo(raster.dtype).max if raster.dtype.kind in "iu" else 0
    for window in windows:
        pixels_CHW, valid_HW = raster.read(window)
        pixels_CN = pixels_CHW[:, valid_HW]
        seen += valid_HW.size
        valid += pixels_CN.shape[1]
        if pixels_CN.shape[1]:
            low_C = np.minimum(low_C, pixels_CN.min(axis=1))
            high_C = np.maximum(high_C, pixels_CN.max(axis=1))
            fill += max(int((pixels_CN == value).all(axis=0).sum()) for value in (0, largest))
            sum_C += pixels_CN.sum(axis=1, dtype=np.float64)
    return _Seen(valid / seen, low_C, sum_C / max(valid, 1), high_C, fill / max(valid, 1), exact)


def _whole(window: Window) -> list[Window]:
    return [Window(row, 0, 512, window.width).intersection(window) for row in range(0, window.height, 512)]


def _crs_name(crs: Any) -> str:
    if crs is None:
        return "none"
    code = crs.to_authority()
    name = crs.to_wkt().split('"')[1]
    return f"{name} ({':'.join(code)})" if code else name


def _masks(dataset: Any) -> str:
    found = dict.fromkeys(flag.name for flags in dataset.mask_flag_enums for flag in flags)
    return ", ".join(name.replace("_", " ") for name in found) or "a mask for each band"
