"""What a check of two dates finds, sentence by sentence: what is well, what to look at, and what nobody can tell."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from rsfm.differences.opening import Described, out_of_order
from rsfm.differences.pair_config import PairConfig
from rsfm.differences.shift import BLOCK, FEWEST, QUALITY, SHARE, SMALLEST_BLOCK, SPREAD, VALID, Shift
from rsfm.raster.collection import Entry
from rsfm.raster.difference import Gate
from rsfm.raster.pair import Pair
from rsfm.raster.pair_sample import Counts
from rsfm.raster.reader import short_name
from rsfm.raster.resampled import relative_pixel

State = Literal["ok", "note", "warning", "unknown"]

UNRELATED, DOUBTFUL = 0.15, 0.3
"""Correlations below which the dates have nothing in common, or little."""
SMALL_OVERLAP, LITTLE_VALID, FILLED = 0.5, 0.5, 0.01
COARSER = 2.0
"""Times by which pixels may differ in size before it is a reason to worry."""
SAME_SIZE = 1.01
SEASON_DAYS, YEAR_DAYS = 45, 365
MEND_PAIR = "Choose 'Correct the shift', or let 'Check Pair' write a raster that is moved back."


class Finding(NamedTuple):
    """One line of the check.

    Attributes:
        topic: in a word or two.
        state: "warning" is worth acting on, "unknown" could not be checked.
    """

    topic: str
    state: State
    text: str


class Measured(NamedTuple):
    """What pixels tell."""

    counts: Counts
    correlations: list[float]
    gate: Gate
    shift: Shift
    moved: bool = False


def find_all(config: PairConfig, described: Described, pair: Pair, measured: Measured) -> list[Finding]:
    """Check a pair; the order is that of a careful eye."""
    return [
        *_place(pair, described),
        *_bands(config, described, pair),
        *_values(described),
        *_dates(described),
        *_nodata(pair, measured.counts),
        *_clouds(config),
        _correlation(measured),
        alignment(measured.shift, measured.moved),
        _difference(measured.gate),
    ]


def _place(pair: Pair, described: Described) -> Iterator[Finding]:
    before, after = (entry.crs or "a CRS of its own" for entry in described)
    if pair.before.grid.crs == pair.after.raster.grid.crs:
        yield Finding("CRS", "ok", f"Both rasters are in {_short(before)}.")
    else:
        text = f"The later raster is in {_short(after)} and is warped to {_short(before)} while it is read."
        yield Finding("CRS", "note", text)
    grid = pair.before.grid
    share = pair.window.height * pair.window.width / (grid.height * grid.width)
    state: State = "warning" if share < SMALL_OVERLAP else "ok"
    yield Finding("Overlap", state, f"They share {_percent(share)} of the earlier raster.")
    times = relative_pixel(pair.after.raster.grid, grid)
    sizes = f"{grid.gsd:.4g} m and {pair.after.raster.grid.gsd:.4g} m"
    if max(times, 1 / times) > COARSER:
        text = f"Pixels are {sizes}: what is smaller than the larger of them differs because of that alone."
        yield Finding("Pixel size", "warning", text)
    elif max(times, 1 / times) > SAME_SIZE:
        yield Finding("Pixel size", "note", f"Pixels are {sizes}; the later raster is resampled.")
    elif pair.after.resampled:
        yield Finding("Pixel size", "ok", f"Pixels are {sizes}; the later ones are interpolated onto the earlier grid.")
    else:
        yield Finding("Pixel size", "ok", f"Pixels are {grid.gsd:.4g} m and lie on one grid.")


def _bands(config: PairConfig, described: Described, pair: Pair) -> Iterator[Finding]:
    names = [band.name for band in described.before.bands]
    if config.bands == "name":
        kept = ", ".join(
            name
            for name, number in zip(names, _numbers(described.before), strict=True)
            if number in pair.before.numbers
        )
        yield Finding("Bands", "ok", f"Bands of the same name are compared: {kept}.")
    elif not described.names_known:
        text = "The files do not say what their bands are: they are compared in their order. Make sure it is the same."
        yield Finding("Bands", "unknown", text)
    elif wrong := out_of_order(described):
        one, other = wrong[0]
        text = (
            f"Bands do not follow in the same order: {one} of the earlier raster is compared with {other} of the "
            "later one. Choose 'By name' under 'Bands'."
        )
        yield Finding("Bands", "warning", text)
    else:
        yield Finding("Bands", "ok", f"Both have {', '.join(names)}.")


def _values(described: Described) -> Iterator[Finding]:
    before, after = described
    if before.dtype != after.dtype:
        text = (
            f"Values are {before.dtype} and {after.dtype}. IR-MAD does not mind; the plain difference means nothing "
            "where the units differ."
        )
        yield Finding("Data types", "warning", text)
    elif (before.scale, before.offset) != (after.scale, after.offset):
        text = (
            f"Stored values mean different things: x {before.scale:g} {before.offset:+g} on the earlier date, "
            f"x {after.scale:g} {after.offset:+g} on the later one. They are compared as stored."
        )
        yield Finding("Data types", "warning", text)
    else:
        yield Finding("Data types", "ok", f"Both hold {before.dtype}.")


def _dates(described: Described) -> Iterator[Finding]:
    before, after = (datetime.fromisoformat(entry.date) if entry.date else None for entry in described)
    if before is None or after is None:
        missing = [short_name(entry.path) for entry in described if not entry.date]
        text = f"Nothing tells when {' and '.join(missing)} {'was' if len(missing) == 1 else 'were'} taken."
        yield Finding("Dates", "unknown", text)
        return
    said = " and ".join(_date(entry) for entry in described)
    if before > after:
        yield Finding("Dates", "warning", f"The earlier raster is the later one: {said}. Swap 'Before' and 'After'.")
    elif before == after:
        yield Finding("Dates", "warning", f"Both rasters are of {_date(described.before)}.")
    else:
        yield Finding("Dates", "ok", f"They were taken on {said}.")
    if described.before.month_known and described.after.month_known:
        apart = abs(before.timetuple().tm_yday - after.timetuple().tm_yday)
        apart = min(apart, YEAR_DAYS - apart)
        if apart > SEASON_DAYS:
            text = f"The seasons differ by {apart} days of the year: crops, leaves, snow and shadows count as change."
            yield Finding("Season", "warning", text)
        else:
            yield Finding("Season", "ok", f"The seasons differ by {apart} days of the year.")


def _nodata(pair: Pair, counts: Counts) -> Iterator[Finding]:
    pixels = max(pair.window.height * pair.window.width, 1)
    valid = counts.valid / pixels
    shares = f"{_percent(counts.before / pixels)} and {_percent(counts.after / pixels)}"
    text = f"{_percent(valid)} of the overlap is valid on both dates ({shares} on each)."
    yield Finding("Nodata", "warning" if valid < LITTLE_VALID else "ok", text)
    fills = ((pair.before.name, counts.fill_before), (pair.after.name, counts.fill_after))
    for name, count in fills:
        if count > FILLED * max(counts.valid, 1):
            text = (
                f"{_percent(count / counts.valid)} of '{name}' is 0 in all bands but counts as valid. If 0 means "
                "nothing there, say so in QGIS with 'Translate (convert format)'."
            )
            yield Finding(f"Fill of {name}", "warning", text)


def _clouds(config: PairConfig) -> Iterator[Finding]:
    missing = [
        title for title, mask in (("Before mask", config.before_mask), ("After mask", config.after_mask)) if not mask
    ]
    if missing:
        text = f"Clouds and their shadows count as differences. If there are any, give a mask under '{missing[0]}'."
        yield Finding("Clouds", "unknown", text)
    else:
        yield Finding("Clouds", "ok", "What the masks mark on either date is left out.")


def _correlation(measured: Measured) -> Finding:
    best = max(measured.correlations)
    if measured.gate.verdict == "none" or best >= DOUBTFUL:
        return Finding("Likeness", "ok", f"The best band correlates by {best:.2f} between the dates.")
    if best >= UNRELATED:
        text = (
            f"The two dates have little in common: no band correlates better than {best:.2f}. Season, clouds or haze "
            "may hide the change you look for."
        )
        return Finding("Likeness", "warning", text)
    text = (
        "Almost everything differs: season, clouds, or not the same place. No band of the two dates correlates better "
        f"than {best:.2f}, so that a map without labels means little. Click a few places you mean and a few you do not."
    )
    return Finding("Likeness", "warning", text)


def alignment(shift: Shift, moved: bool, mend: str = MEND_PAIR) -> Finding:
    """Say whether the dates lie on top of each other.

    Args:
        mend: what is offered where they do not.
    """
    told = f"{shift.counted} of {len(shift.blocks)} blocks"
    if shift.verdict == "unknown":
        text = f"The alignment could not be verified: {doubt(shift)}. Look at both dates at a road or a shore."
        return Finding("Alignment", "unknown", text)
    by = offset(shift.down, shift.right)
    if shift.verdict == "aligned":
        return Finding("Alignment", "ok", f"The dates lie on top of each other within {shift.length:.2f} px ({told}).")
    if moved:
        return Finding("Alignment", "ok", f"The later date lay off by {by} ({told}) and was moved back.")
    text = f"The later date lies off by {shift.length:.2f} px: {by} ({told}). {mend}"
    return Finding("Alignment", "warning", text)


def offset(down: float, right: float) -> str:
    """Say in words how far and which way a date lies off."""
    return f"{_along(down, 'down', 'up')}, {_along(right, 'right', 'left')}"


def doubt(shift: Shift) -> str:
    """Say why nobody can tell whether the dates lie on top of each other."""
    blocks, sure = len(shift.blocks), f"a clear match, a peak of {QUALITY:g} deviations"
    if shift.doubt == "no block":
        return (
            f"no block of {SMALLEST_BLOCK} to {BLOCK} px is valid on both dates for {VALID:.0%} of it, so that nothing "
            "could be compared".replace("%", " %")
        )
    if shift.doubt == "no peak":
        where = "the only block does not show" if blocks == 1 else f"none of {blocks} blocks shows"
        return f"{where} {sure}"
    if shift.doubt == "one block":
        return f"only one block fits into what they share, and at least {FEWEST} that agree are asked for"
    if shift.doubt == "few blocks":
        wanted = max(FEWEST, math.ceil(SHARE * blocks))
        return f"only {shift.counted} of {blocks} blocks {_show(shift.counted)} {sure}; at least {wanted} must"
    return (
        f"{shift.counted} of {blocks} blocks have a clear match, but they disagree: half of them lie "
        f"{shift.spread:.1f} px or more from the median shift, and less than {SPREAD:g} px is asked for"
    )


def _show(count: int) -> str:
    return "shows" if count == 1 else "show"


def _difference(gate: Gate) -> Finding:
    share = _percent(gate.share)
    if gate.verdict == "none":
        return Finding("Difference", "ok", f"No difference beyond one pixel of misalignment: {share} differs more.")
    if gate.verdict == "few":
        text = f"Most of the area has not changed; {_percent(gate.strong)} of it differs strongly."
        return Finding("Difference", "ok", text)
    weak = ", which is little" if gate.verdict == "weak" else ""
    return Finding("Difference", "ok", f"{share} differs more than a one-pixel shift would explain{weak}.")


def _along(pixels: float, forth: str, back: str) -> str:
    return f"{abs(pixels):.2f} px {forth if pixels >= 0 else back}"


def _date(entry: Entry) -> str:
    return (entry.date or "")[: 10 if entry.month_known else 4]


def _numbers(entry: Entry) -> list[int]:
    return [band.number for band in entry.bands]


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _short(crs: str) -> str:
    return crs if len(crs) < 20 else "a CRS of its own"


def as_table(found: Sequence[Finding]) -> dict[str, dict[str, str]]:
    """Lay findings out as a result: topic -> state and text."""
    return {finding.topic: {"state": finding.state, "text": finding.text} for finding in found}
