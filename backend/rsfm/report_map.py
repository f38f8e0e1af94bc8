"""The strip below a small map of a report: how long things are, and where north is."""

import math
from typing import Any

BAR = 0.3
"""Share of a picture's width that its scale bar takes at most."""
FOOT = 30
"""Height of the strip, in pixels of the page."""


def foot(picture: dict[str, Any], unit: float) -> str:
    """Draw the strip below a picture, in an SVG whose units are the picture's pixels.

    Args:
        picture: its height, width, metres a pixel, and whether it is georeferenced.
        unit: pixels of the picture in one of the page.
    """
    ink = f'<g class="ink" transform="translate(0 {picture["height"]}) scale({unit:.4f})">'
    return f"{ink}{_scale_bar(picture, unit)}{_north(picture, picture['width'] / unit)}</g>"


def nice_length(length: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above a length."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= length * (1 + 1e-9))


def _scale_bar(picture: dict[str, Any], unit: float) -> str:
    of_page = picture["metres"] * unit
    metres = nice_length(picture["width"] / unit * of_page * BAR)
    name = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    name = name if picture["georeferenced"] else f"{metres:g} px"
    length = metres / of_page
    return (
        f'<rect x="1" y="10" width="{length:.1f}" height="5"/>'
        f'<text x="{length + 8:.1f}" y="17" font-size="13">{name}</text>'
    )


def _north(picture: dict[str, Any], right: float) -> str:
    if not picture["georeferenced"]:
        return ""
    return (
        f'<path d="M{right - 32:.1f},24 l6,-18 l6,18 l-6,-4 z"/><text x="{right - 16:.1f}" y="22" '
        'font-size="13">N</text>'
    )
