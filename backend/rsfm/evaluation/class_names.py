"""What the values of a map of classes mean, and how they meet the classes of the truth.

Shape letters: V values of a map, K classes of map and truth together.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from rsfm.errors import UserError
from rsfm.raster.labels import MOST_CLASSES, choose_colours, natural_order
from rsfm.raster.reader import Raster

TAG = "RSFM_CLASSES"
FIELD = "class_names"


class Classes(NamedTuple):
    """The classes of map and truth together: those of the truth first.

    Attributes:
        names, colours: of each class.
        map_value_V, map_class_V: values of the map, rising, and their classes.
        unknown: names of the truth that the map does not know.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    map_value_V: NDArray[np.int64]
    map_class_V: NDArray[np.int64]
    unknown: tuple[str, ...]

    def of_map(self, value_N: NDArray[Any]) -> NDArray[np.int64]:
        """Return the class of values of the map; -1 for a value that is none."""
        return look_up(value_N, self.map_value_V, self.map_class_V)


def look_up(value_N: NDArray[Any], known_V: NDArray[np.int64], class_V: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each value, whatever its shape; -1 where it is none of the known ones, which rise."""
    if not len(known_V):
        return np.full(value_N.shape, -1, np.int64)
    at_N = np.minimum(np.searchsorted(known_V, value_N), len(known_V) - 1)
    return np.where(known_V[at_N] == value_N, class_V[at_N], -1)


def read_names(raster: Raster, said: str, field: str = FIELD) -> dict[int, str]:
    """Return the names of a map's values: those said, else those the file gives; empty where nothing is known.

    Args:
        said: "1=water, 2=forest".

    Raises:
        UserError: it was not understood, or the raster holds no whole numbers.
    """
    if raster.dtype.kind not in "iu":
        raise UserError(
            f"'{raster.name}' holds numbers with decimals and is no map of classes. Choose one of whole numbers, such "
            "as the classes that 'Segment a Raster' makes.",
            raster.field,
        )
    if said.strip():
        return parse_names(said, field)
    try:
        with rasterio.open(raster.path) as file:
            return names_of_tag(file.tags().get(TAG, ""))
    except RasterioError:
        return {}


def names_of_tag(text: str) -> dict[int, str]:
    """Read "1 water; 2 forest"."""
    parts = re.split(r"; (?=\d+ )", text) if text else []
    return {int(value): name for value, _, name in (part.partition(" ") for part in parts) if value.isdigit()}


def parse_names(text: str, field: str = FIELD) -> dict[int, str]:
    """Read "1=water, 2=forest".

    Raises:
        UserError: it is not of that form.
    """
    found = {}
    for part in filter(str.strip, re.split(r"[,;]", text)):
        value, mark, name = part.partition("=")
        if not (mark and name.strip() and re.fullmatch(r"\s*-?\d+\s*", value)):
            raise UserError(
                f"'{part.strip()}' of the class names was not understood. Write each value of the map and its class, "
                "such as '1=water, 2=forest'.",
                field,
            )
        found[int(value)] = name.strip()
    return found


def meet(
    truth: Sequence[str], names: Mapping[int, str], values: Sequence[int], colours: Mapping[str, str], where: str
) -> Classes:
    """Put the classes of the truth and the values of a map together, by name.

    Args:
        truth: names of the true classes.
        names: of the map's values; a value without one is called as it is written.
        values: those that occur in the map.
        where: the map's name, for errors.

    Raises:
        UserError: they share no class.
    """
    called = {value: names.get(value, str(value)) for value in sorted({*values, *names})}
    mapped = list(dict.fromkeys(called.values()))
    shared = set(truth) & set(mapped)
    if not shared:
        raise UserError(
            f"The labels have the classes {_listed(truth)}, and '{where}' has {_listed(mapped)}: they "
            "share none. Choose the attribute that holds the map's classes under 'Class field', or say what the values "
            "mean under 'Class names'.",
            FIELD,
        )
    more = [name for name in mapped if name not in truth]
    every = (*truth, *sorted(more, key=natural_order(more)))
    class_V = np.array([every.index(name) for name in called.values()], np.int64)
    unknown = tuple(name for name in truth if name not in mapped)
    return Classes(every, choose_colours(every, dict(colours)), np.array(list(called), np.int64), class_V, unknown)


def check_count(values: NDArray[np.int64], where: str, field: str) -> None:
    """Refuse a raster that can be no map of classes.

    Raises:
        UserError: it has too many values.
    """
    if len(values) > MOST_CLASSES:
        raise UserError(
            f"'{where}' holds more than {MOST_CLASSES} different values and is no map of classes. Choose one that has "
            "a whole number for each class.",
            field,
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"'{name}'" for name in list(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
