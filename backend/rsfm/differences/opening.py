"""Opens the two dates of a job, with what their files say of themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rsfm.differences.pair_config import PairConfig
from rsfm.differences.shift import Shift
from rsfm.errors import UserError
from rsfm.raster.band_names import band_numbers, canonical
from rsfm.raster.collection import Entry
from rsfm.raster.describing import describe_raster
from rsfm.raster.pair import Pair, Pairing, open_pair


class Described(NamedTuple):
    """What the files of both dates say: bands by name, date, scaling."""

    before: Entry
    after: Entry

    @property
    def names_known(self) -> bool:
        """Whether both files tell what their bands are."""
        return all(entry.bands and not any(_is_nameless(band.name) for band in entry.bands) for entry in self)


def describe(config: PairConfig) -> Described:
    """Read what the files say; a file that cannot be used is refused when it is opened."""
    return Described(describe_raster(config.before), describe_raster(config.after))


@contextmanager
def open_dates(config: PairConfig, described: Described, shift: Shift | None = None) -> Iterator[Pair]:
    """Open both dates as the job's parameters say.

    Args:
        shift: how far the later date lies off; it is moved back.

    Raises:
        UserError: they cannot be compared.
    """
    before, after = match_bands(described) if config.bands == "name" else (None, None)
    how = Pairing(before, after, config.before_mask, config.after_mask, config.mask_values)
    if shift is not None:
        how = how._replace(down=shift.down, right=shift.right)
    with open_pair(config.before, config.after, how) as pair:
        yield pair


def match_bands(described: Described) -> tuple[list[int], list[int]]:
    """Return the numbers of the bands that both dates have, in the order of the earlier one.

    Raises:
        UserError: nothing tells the names, or none is common.
    """
    before, after = described
    if before.problem or after.problem:
        return [band.number for band in before.bands], [band.number for band in after.bands]
    found = band_numbers(after, [band.name for band in before.bands])
    pairs = [(band.number, number) for band, number in zip(before.bands, found, strict=True) if number is not None]
    if not described.names_known or not pairs:
        named = [", ".join(band.name for band in entry.bands) for entry in described]
        raise UserError(
            f"The bands cannot be matched by name: the earlier raster has {named[0]}, the later one {named[1]}. Give "
            "them names in QGIS with 'Translate (convert format)', or compare them in their order under 'Bands'.",
            "bands",
        )
    return [number for number, _ in pairs], [number for _, number in pairs]


def out_of_order(described: Described) -> list[tuple[str, str]]:
    """Return the names of bands that are compared by their place and mean something else; none where nobody knows."""
    if not described.names_known:
        return []
    names = [[band.name for band in entry.bands] for entry in described]
    found = band_numbers(described.after, names[0])
    order = [band.number for band in described.after.bands]
    pairs = zip(*names, found, order, strict=False)
    return [(one, other) for one, other, number, own in pairs if number != own and canonical(one) != canonical(other)]


def _is_nameless(name: str) -> bool:
    return name.startswith("Band ") or not name.strip()
