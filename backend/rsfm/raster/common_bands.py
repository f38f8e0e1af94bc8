"""The bands that all rasters of a collection have, found by name, and where each raster keeps them."""

from collections.abc import Sequence
from typing import NamedTuple

from rsfm.errors import UserError
from rsfm.raster.band_names import band_numbers, canonical, shared_bands
from rsfm.raster.collection import Band, Entry
from rsfm.raster.reader import short_name


class CommonBands(NamedTuple):
    """Bands in the order of the first raster.

    Attributes:
        names: as the first raster has them.
        numbers: for each raster the numbers of its bands, from 1; None takes all bands as they come.
        left_out: names of bands that only some of the rasters have.
    """

    names: tuple[str, ...]
    numbers: tuple[tuple[int, ...] | None, ...]
    left_out: tuple[str, ...]


def common_bands(entries: Sequence[Entry], field: str = "rasters") -> CommonBands:
    """Find the bands that all rasters have, by name or wavelength.

    Where a name is used twice in a raster, the order counts if all have as many bands.

    Raises:
        UserError: no band is common to all.
    """
    first = entries[0]
    kinds = dict.fromkeys(entry.bands for entry in entries)
    if not all(kinds):
        return CommonBands(tuple(band.name for band in first.bands), (None,) * len(entries), ())
    if any(map(_repeats, kinds)) and len({len(bands) for bands in kinds}) == 1:
        numbers = tuple(tuple(band.number for band in entry.bands) for entry in entries)
        return CommonBands(tuple(band.name for band in first.bands), numbers, ())
    names = shared_bands(entries)
    if not names:
        other = next(entry for entry in entries if not shared_bands([first, entry]))
        raise UserError(
            f"'{short_name(first.path)}' has the bands {_list(first)} and '{short_name(other.path)}' has "
            f"{_list(other)}: none is common to all. Correct the names on the page Imagery, or leave a raster out.",
            field,
        )
    found = {entry.bands: band_numbers(entry, names) for entry in entries}
    numbers = tuple(tuple(number or 0 for number in found[entry.bands]) for entry in entries)
    left_out = {band.name for bands, used in found.items() for band in bands if band.number not in used}
    return CommonBands(tuple(names), numbers, tuple(sorted(left_out)))


def _repeats(bands: Sequence[Band]) -> bool:
    return len({canonical(band.name) for band in bands}) < len(bands)


def _list(entry: Entry) -> str:
    return ", ".join(band.name for band in entry.bands)
