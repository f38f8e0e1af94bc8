"""The 1000 that Sentinel-2 products carry on top of every pixel since processing baseline 04.00 (25 January 2022)."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from rsfm.raster.acquisition import Acquisition

OFFSET = -1000.0
FIRST_BASELINE = 400
FIRST_DAY = datetime(2022, 1, 25, tzinfo=UTC)
_BASELINE = re.compile(r"_N(\d{4})_")
_CLEAR_OF_ZERO = 900.0
"""A shifted product has next to nothing below this; an unshifted scene with anything dark has."""


def find_offset(
    name: str, tags: Mapping[str, str], sensor: str, taken: Acquisition | None, dtype: str, floor: float
) -> tuple[float, str]:
    """Return what is to be added to the pixels of a Sentinel-2 raster, and what is to be said about it.

    A stated baseline decides, as old scenes are processed anew. Without one, a scene of the time since is taken as
    shifted only if its darkest pixels are, because many providers take the shift away.

    Args:
        floor: 99 of 100 of its values are at least this; nan if unknown.
    """
    if not sensor.startswith("Sentinel-2") or dtype not in {"uint16", "int16"}:
        return 0.0, ""
    if "harmonized" in name.lower() or "harmonised" in name.lower():
        return 0.0, ""
    baseline = find_baseline(name, tags)
    if baseline is not None:
        return (OFFSET, _told(f"{baseline // 100:02d}.{baseline % 100:02d}")) if baseline >= FIRST_BASELINE else (0, "")
    if taken is None or taken.moment < FIRST_DAY:
        return 0.0, ""
    if math.isnan(floor):
        return OFFSET, "It was taken after January 2022: 1000 is taken off its pixels, as products since then need."
    if floor >= _CLEAR_OF_ZERO:
        return OFFSET, (
            f"It was taken after January 2022 and its darkest pixels are about {floor:.0f}: 1000 is taken off."
        )
    return 0.0, "It was taken after January 2022, but its dark pixels show that the offset of 1000 is already off."


def find_baseline(name: str, tags: Mapping[str, str]) -> int | None:
    """Return the processing baseline, such as 400 for 04.00, of metadata or of a name with its folders."""
    for tag, value in tags.items():
        if tag.upper() in {"PROCESSING_BASELINE", "S2:PROCESSING_BASELINE"}:
            match = re.fullmatch(r"0?(\d{1,2})\.(\d\d)", value.strip())
            if match:
                return int(match[1]) * 100 + int(match[2])
    found = _BASELINE.findall(name)
    return int(found[-1]) if found else None


def _told(baseline: str) -> str:
    return f"Processing baseline {baseline}: 1000 is taken off its pixels."
