"""What a model of change remembers of the two dates it learned from, and what that means for a map of two others."""

import math
from typing import Any, Literal

from rsfm.differences.findings import Finding, alignment, offset
from rsfm.differences.opening import Described, Numbers
from rsfm.differences.shift import SMALLEST, Shift
from rsfm.errors import UserError
from rsfm.model_file import Card
from rsfm.params import Config
from rsfm.raster.band_names import band_numbers
from rsfm.raster.reader import short_name

PAIR = "pair"
"""Entry of the card's head that holds it."""


class LearnedPair(Config):
    """Two dates as a model saw them.

    Attributes:
        bands: whether they were found by name, or taken as they came.
        down, right: how far the later date lay off, in pixels, after the correction; None where nobody could tell.
    """

    bands: Literal["order", "name"]
    down: float | None = None
    right: float | None = None


def remember(bands: str, shift: Shift, corrected: bool) -> dict[str, Any]:
    """Make the entry of the card's head."""
    lay = _lay(shift, corrected)
    down, right = (None, None) if lay is None else (round(lay[0], 3), round(lay[1], 3))
    return {PAIR: LearnedPair.model_validate({"bands": bands, "down": down, "right": right}).model_dump()}


def learned_pair(card: Card) -> LearnedPair | None:
    """Return what a model remembers; None where it was not taught change, or before models remembered."""
    found = (card.head or {}).get(PAIR)
    return LearnedPair.model_validate(found) if found else None


def reads_by_name(card: Card) -> bool:
    """Tell whether a model was taught to find its bands by their names."""
    learned = learned_pair(card)
    return learned is not None and learned.bands == "name"


def bands_of_model(card: Card, described: Described) -> Numbers | None:
    """Return the numbers of the bands that a model finds by their names; None where it takes bands as they come.

    Raises:
        UserError: a model that was taught by name misses some.
    """
    if not (card.units or reads_by_name(card)):
        return None
    before, after = (band_numbers(entry, card.band_names) for entry in described)
    found = [number for number in before if number], [number for number in after if number]
    if len(found[0]) == len(found[1]) == len(card.band_names):
        return found
    if card.units:
        return None  # as many bands may do: who shows the raster in units decides
    for entry, numbers, field in zip(described, (before, after), ("before", "after"), strict=True):
        missing = [name for name, number in zip(card.band_names, numbers, strict=True) if number is None]
        if missing and not entry.problem:
            raise UserError(
                f"The model learned from the bands {', '.join(card.band_names)}, and '{short_name(entry.path)}' has no "
                f"{' and no '.join(missing)}. Choose a raster that has them under '{field.capitalize()}', or another "
                "model under 'Model'.",
                field,
            )
    return None


def alignment_for(card: Card, shift: Shift, corrected: bool) -> Finding:
    """Say whether two dates lie to each other as those did that a model learned from.

    Args:
        shift: of the dates that are mapped, before it was corrected.
    """
    learned, lay = learned_pair(card), _lay(shift, corrected)
    if learned is None or learned.down is None or learned.right is None or lay is None:
        return alignment(shift, corrected)
    taught = learned.down, learned.right
    if math.dist(taught, lay) <= SMALLEST:
        if math.hypot(*lay) <= SMALLEST:
            return alignment(shift, corrected)
        text = f"The later date lies off by {offset(*lay)}, as it did where the model learned."
        return Finding("Alignment", "ok", text)
    if math.hypot(*taught) <= SMALLEST:
        text = (
            f"The later date lies off by {offset(*lay)}, and the model learned from dates that lie on top of each "
            "other: it may take edges for change. Choose 'Correct the shift'."
        )
        return Finding("Alignment", "warning", text)
    here = "they lie on top of each other" if math.hypot(*lay) <= SMALLEST else f"it lies off by {offset(*lay)}"
    text = (
        f"The model learned from dates of which the later one lay off by {offset(*taught)}, and here {here}: it may "
        "take edges for change, or miss some. Teach it again with 'Correct the shift'."
    )
    return Finding("Alignment", "warning", text)


def _lay(shift: Shift, corrected: bool) -> tuple[float, float] | None:
    """Return how far the later date lies off once it is corrected, if it is; None where nobody can tell."""
    if shift.verdict == "unknown":
        return None
    return (0.0, 0.0) if corrected and shift.verdict == "shifted" else (shift.down, shift.right)
