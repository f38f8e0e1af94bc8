"""Opens the two dates of a job, with what their files say of themselves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rsfm.differences.pair_config import AlignedPairConfig, PairConfig
from rsfm.differences.shift import Shift, measure_shift
from rsfm.errors import UserError
from rsfm.raster.band_names import band_numbers, canonical
from rsfm.raster.collection import Entry
from rsfm.raster.describing import describe_raster
from rsfm.raster.pair import Pair, Pairing, open_pair

Numbers = tuple[list[int], list[int]]
"""Of the bands that are compared, from 1, of both dates."""


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
def open_aligned(
    config: AlignedPairConfig,
    described: Described,
    done: Callable[[float], None] = lambda part: None,
    numbers: Numbers | None = None,
) -> Iterator[tuple[Pair, Shift]]:
    """Open both dates and look for a shift; the later one is moved back if that is asked for and certain.

    Args:
        done: told which part of the looking is done.
        numbers: as `open_dates` takes them.

    Raises:
        UserError: they cannot be compared.
    """
    with open_dates(config, described, numbers=numbers) as pair:
        shift = measure_shift(pair, done)
        if not (config.correct_shift and shift.verdict == "shifted"):
            yield pair, shift
            return
    with open_dates(config, described, shift, numbers) as pair:
        yield pair, shift


@contextmanager
def open_as_asked(
    config: AlignedPairConfig, done: Callable[[float], None] = lambda part: None
) -> Iterator[tuple[Pair, Shift | None]]:
    """Open both dates as `open_aligned` does; a shift is looked for only if it is to be corrected."""
    described = describe(config)
    if config.correct_shift:
        with open_aligned(config, described, done) as found:
            yield found
    else:
        with open_dates(config, described) as pair:
            yield pair, None


@contextmanager
def open_dates(
    config: PairConfig, described: Described, shift: Shift | None = None, numbers: Numbers | None = None
) -> Iterator[Pair]:
    """Open both dates as the job's parameters say.

    Args:
        shift: how far the later date lies off; it is moved back.
        numbers: of the bands that a model reads; None takes those that the parameters say.

    Raises:
        UserError: they cannot be compared.
    """
    if numbers is None and config.bands == "name":
        numbers = match_bands(described)
    before, after = numbers or (None, None)
    how = Pairing(before, after, config.before_mask, config.after_mask, config.mask_values)
    if shift is not None:
        how = how._replace(down=shift.down, right=shift.right)
    with open_pair(config.before, config.after, how) as pair:
        yield pair


def match_bands(described: Described) -> Numbers:
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
