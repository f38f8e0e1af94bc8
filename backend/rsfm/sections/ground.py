"""What ground a network was trained on: rasters in small, windows, ground that was held out."""

import math
from typing import Any

from rsfm.report_parts import paragraph, table, text
from rsfm.section import Record, Section

BAR = 0.3
"""Share of a picture's width that its scale bar takes at most."""
HATCH = (
    '<defs><pattern id="held" width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="8" height="8" fill="#fff" fill-opacity=".25"/><line x1="0" y1="0" x2="0" y2="8" stroke="#d55e00" '
    'stroke-width="3"/></pattern></defs>'
)


class Ground(Section):
    name = "ground"
    title = "What was learned from"
    rank = 20

    def show(self, record: Record) -> str:
        found = record.shown("ground")
        if not found or "problem" in found:
            return paragraph(found["problem"], "warning") if found else ""
        parts = [paragraph(_sentence(found))]
        parts += [_map(record, picture, found) for picture in found["pictures"]]
        more = found["all"] - len(found["pictures"])
        parts += [paragraph(f"And {more:,} more raster(s) that are not drawn.")] if more > 0 else []
        parts.append(_rasters(found))
        return "".join(parts)


def _sentence(found: dict[str, Any]) -> str:
    steps, drawn = found["steps"], found["steps_drawn"]
    share = (
        "all of them" if len(drawn) >= steps else f"those of {len(drawn)} of {steps:,} steps, evenly over the training"
    )
    return (
        f"In {steps:,} steps of {found['batch']} windows, {steps * found['batch']:,} windows of {found['window']} x "
        f"{found['window']} px were learned from. The outlines show {found['drawn']:,}, {share}. Where outlines lie "
        "close, more was learned; where there are none, nothing was or little."
    )


def _map(record: Record, picture: dict[str, Any], found: dict[str, Any]) -> str:
    source = record.recorded_picture(picture["file"])
    name, width, height = picture["name"], picture["width"], picture["height"]
    alt = f"{name} in small with the outlines of {len(picture['windows'])} windows"
    if not source:
        return paragraph(f"{name}: the picture is not there.")
    held = "".join(_ring(rings) for rings in picture["held_out"])
    outlines = "".join(f'<polygon points="{_points(corners)}"/>' for corners in picture["windows"])
    legend = f"Yellow: outlines of {len(picture['windows']):,} windows."
    legend += " Orange hatching: ground that was held out." if held else ""
    legend += f" Colours: {', '.join(picture['bands'])}."
    legend += "" if picture["georeferenced"] else " The raster has no place on earth."
    legend += "" if picture["complete"] else " White also where it was not read for lack of time."
    return (
        f'<figure><svg class=map viewBox="0 0 {width} {height + 34}" role="img" aria-label="{text(alt)}">'
        f'<title>{text(alt)}</title>{HATCH}<image width="{width}" height="{height}" href="{source}" '
        f'xlink:href="{source}"/>{held}<g fill="none" stroke="#ffe100" stroke-width="1">{outlines}</g>'
        f"{_scale_bar(picture)}{_north(picture)}</svg>"
        f"<figcaption><b>{text(name)}</b>. {text(legend)}</figcaption></figure>"
    )


def _ring(rings: list[list[list[float]]]) -> str:
    path = " ".join("M" + " L".join(f"{x:g},{y:g}" for x, y in ring) + " Z" for ring in rings)
    return f'<path fill="url(#held)" fill-rule="evenodd" stroke="#d55e00" d="{path}"/>'


def _points(corners: list[list[float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in corners)


def scale_length(metres: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above a length."""
    power = 10.0 ** math.floor(math.log10(metres))
    return max(power * factor for factor in (1, 2, 5) if power * factor <= metres * (1 + 1e-9))


def _scale_bar(picture: dict[str, Any]) -> str:
    metres = scale_length(picture["width"] * picture["metres"] * BAR)
    length, y = metres / picture["metres"], picture["height"] + 12
    unit = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    unit = unit if picture["georeferenced"] else f"{metres:g} px"
    return (
        f'<g class=ink><rect x="1" y="{y}" width="{length:.1f}" height="5"/>'
        f'<text x="{length + 8:.1f}" y="{y + 9}" font-size="14">{unit}</text></g>'
    )


def _north(picture: dict[str, Any]) -> str:
    if not picture["georeferenced"]:
        return ""
    x, y = picture["width"] - 30, picture["height"] + 6
    return (
        f'<g class=ink><path d="M{x},{y + 20} l6,-18 l6,18 l-6,-4 z"/>'
        f'<text x="{x + 16}" y="{y + 18}" font-size="14">N</text></g>'
    )


def _rasters(found: dict[str, Any]) -> str:
    rows = [
        (
            raster["name"],
            (raster["date"] or "unknown")[:10],
            raster["sensor"] or "unknown",
            f"{raster['height']:,} x {raster['width']:,}",
            float(raster["gsd"]),
            ", ".join(raster["bands"]),
            raster["windows"],
        )
        for raster in found["rasters"]
    ]
    heads = ["Raster", "Date", "Sensor", "Height x width, px", "Pixel, m", "Bands", "Windows drawn"]
    more = found["all"] - len(rows)
    return table(heads, rows) + (paragraph(f"And {more:,} more raster(s).") if more > 0 else "")
