"""The bands that all rasters of a collection have, found by name, and where each raster keeps them."""

from collections.abc import Sequence
from typing import NamedTuple

from rsfm.errors import UserError
from rsfm.published_scaling import canonical
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
    """Find the bands that all rasters have.

    Names are compared as `canonical` writes them. Where a name is used twice in a raster, the order counts if all have
    as many bands.

    Raises:
        UserError: no band is common to all.
    """
    first = entries[0]
    if not all(entry.bands for entry in entries):
        return CommonBands(tuple(band.name for band in first.bands), (None,) * len(entries), ())
    found = {entry.bands: _by_name(entry) for entry in entries}
    if _repeats(found) and len({len(bands) for bands in found}) == 1:
        numbers = tuple(tuple(band.number for band in entry.bands) for entry in entries)
        return CommonBands(tuple(band.name for band in first.bands), numbers, ())
    common = set(found[first.bands])
    for entry in entries[1:]:
        if not common & set(found[entry.bands]):
            raise UserError(
                f"'{short_name(first.path)}' has the bands {_list(first)} and '{short_name(entry.path)}' has "
                f"{_list(entry)}: none is common to all. Correct the names on the page Imagery, or leave a raster out.",
                field,
            )
        common &= set(found[entry.bands])
    order = [name for name in found[first.bands] if name in common]
    names = tuple(next(band.name for band in first.bands if canonical(band.name) == name) for name in order)
    left_out = {name for mapping in found.values() for name in mapping} - common
    numbers = tuple(tuple(found[entry.bands][name] for name in order) for entry in entries)
    return CommonBands(names, numbers, tuple(sorted(left_out)))


def _by_name(entry: Entry) -> dict[str, int]:
    """Return the number of the first band of each name."""
    found: dict[str, int] = {}
    for band in entry.bands:
        found.setdefault(canonical(band.name), band.number)
    return found


def _repeats(found: dict[tuple[Band, ...], dict[str, int]]) -> bool:
    return any(len(names) < len(bands) for bands, names in found.items())


def _list(entry: Entry) -> str:
    return ", ".join(band.name for band in entry.bands)
