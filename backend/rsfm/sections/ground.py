"""What ground a network was trained on: rasters in small, windows, ground that was held out."""

from typing import Any

from rsfm.report_map import FOOT, foot
from rsfm.report_parts import paragraph, table, text
from rsfm.section import Record, Section

WIDE, HIGH = 400, 360
"""Most of a map on the page, in pixels of the page."""


class Ground(Section):
    name = "ground"
    title = "What was learned from"
    rank = 20

    def show(self, record: Record) -> str:
        found = record.shown("ground")
        if not found or "problem" in found:
            return paragraph(found["problem"], "warning") if found else ""
        parts = [paragraph(_sentence(found))]
        maps = "".join(_map(record, picture) for picture in found["pictures"])
        parts.append(f"<div class=figures>{maps}</div>")
        more = found["all"] - len(found["pictures"])
        parts += [paragraph(f"And {more:,} more raster(s) that are not drawn.")] if more > 0 else []
        parts.append(_rasters(found))
        return "".join(parts)


def _sentence(found: dict[str, Any]) -> str:
    steps, windows = found["steps"], found["steps"] * found["batch"]
    share = (
        "all of them"
        if found["drawn"] == windows
        else f"some from each of {found['steps_drawn']} steps, evenly over the training"
    )
    return (
        f"In {steps:,} steps of {found['batch']} windows, {windows:,} windows of {found['window']} x {found['window']} "
        f"px were learned from. The outlines show {found['drawn']:,}, {share}. Where outlines lie close, more was "
        "learned; where there are none, little or nothing was."
    )


def _map(record: Record, picture: dict[str, Any]) -> str:
    source = record.recorded_picture(picture["file"])
    name, width, height = picture["name"], picture["width"], picture["height"]
    alt = f"{name} in small with the outlines of {len(picture['windows'])} windows"
    if not source:
        return f"<figure>{paragraph(f'{name}: the picture is not there.')}</figure>"
    unit = max(width / WIDE, height / HIGH)
    held = "".join(_ring(rings) for rings in picture["held_out"])
    outlines = "".join(f'<polygon points="{_points(corners)}"/>' for corners in picture["windows"])
    return (
        f'<figure><svg class="map" width="{width / unit:.0f}" viewBox="0 0 {width} {height + FOOT * unit:.1f}" '
        f'role="img" aria-label="{text(alt)}"><title>{text(alt)}</title>{_hatch(unit)}<image width="{width}" '
        f'height="{height}" xlink:href="{source}"/>{held}<g fill="none" stroke="#ffe100" stroke-opacity=".8" '
        f'stroke-width="{unit:.3f}">{outlines}</g>{foot(picture, unit)}</svg>'
        f"<figcaption><b>{text(name)}</b>. {text(_legend(picture))}</figcaption></figure>"
    )


def _legend(picture: dict[str, Any]) -> str:
    legend = f"Yellow: outlines of {len(picture['windows']):,} windows."
    legend += " Orange hatching: ground that was held out." if picture["held_out"] else ""
    legend += f" Bands: {', '.join(picture['bands'])}."
    legend += "" if picture["georeferenced"] else " The raster has no place on earth."
    legend += "" if picture["complete"] else " White also where it was not read for lack of time."
    return legend


def _hatch(unit: float) -> str:
    side = 7 * unit
    return (
        f'<defs><pattern id="held" width="{side:.3f}" height="{side:.3f}" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="{side:.3f}" height="{side:.3f}" fill="#fff" fill-opacity=".25"/>'
        f'<line x1="0" y1="0" x2="0" y2="{side:.3f}" stroke="#d55e00" stroke-width="{2.5 * unit:.3f}"/>'
        "</pattern></defs>"
    )


def _ring(rings: list[list[list[float]]]) -> str:
    path = " ".join("M" + " L".join(f"{x:g},{y:g}" for x, y in ring) + " Z" for ring in rings)
    return f'<path fill="url(#held)" fill-rule="evenodd" stroke="#d55e00" d="{path}"/>'


def _points(corners: list[list[float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in corners)


def _rasters(found: dict[str, Any]) -> str:
    rows = [
        (
            raster["name"],
            (raster["date"] or "unknown")[:10],
            raster["sensor"] or "unknown",
            f"{raster['height']:,} x {raster['width']:,}",
            f"{raster['gsd']:.3g}",
            ", ".join(raster["bands"]),
            raster["windows"],
        )
        for raster in found["rasters"]
    ]
    heads = ["Raster", "Date", "Sensor", "Height x width, px", "Pixel, m", "Bands", "Windows outlined"]
    more = found["all"] - len(rows)
    return table(heads, rows) + (paragraph(f"And {more:,} more raster(s).") if more > 0 else "")
