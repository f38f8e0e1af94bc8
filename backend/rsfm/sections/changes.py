"""The largest changes: both dates of each place, stretched alike, with a box around what changed."""

from typing import Any

from rsfm.report_parts import PIXELATED_BELOW, paragraph, text
from rsfm.result_words import area
from rsfm.section import Record, Section

VALUES = {"mean_magnitude": "mean magnitude", "mean_likeness": "mean likeness", "confidence": "mean confidence"}
FRAME, HALO = 'fill="none" stroke="#ffe100"', 'fill="none" stroke="#000" stroke-opacity=".7"'
WIDE = 200
"""Width of a picture on the page, in its pixels."""
PER_CENT = {"confidence"}


class Changes(Section):
    name = "changes"
    title = "The largest changes"
    rank = 15

    def show(self, record: Record) -> str:
        found = record.shown("changes")
        if not found or "problem" in found:
            return paragraph(found["problem"], "warning") if found else ""
        if "why_none" in found:
            return paragraph(found["why_none"])
        places = found["places"]
        figures = "".join(_figure(record, number, place, found) for number, place in enumerate(places, 1))
        return paragraph(_sentence(found)) + figures


def _sentence(found: dict[str, Any]) -> str:
    shown, all_of_them = len(found["places"]), found["all"]
    which = (
        f"The {shown} largest of {all_of_them:,} outlined places"
        if shown < all_of_them
        else f"All {shown} outlined places"
        if shown > 1
        else "The one outlined place"
    )
    stretch = (
        "Both dates of a place have one stretch."
        if found["alike"]
        else "The dates hold values of different types, so that each has a stretch of its own: compare shapes, not "
        "brightness."
    )
    return (
        f"{which}, the largest first: the earlier date on the left, the later one on the right, bands "
        f"{', '.join(dict.fromkeys(found['bands']))}. The box encloses what is outlined. {stretch} Areas are those on "
        "the ground, centres those of the boxes; the rank is the one in the attribute table of the polygons."
    )


def _figure(record: Record, number: int, place: dict[str, Any], found: dict[str, Any]) -> str:
    dates = zip(("before", "after"), place["files"], strict=True)
    pictures = "".join(_picture(record, f"Change {number}, {date}", file, place) for date, file in dates)
    return (
        f'<figure class="dates"><div>{pictures}</div><figcaption><b>{number}.</b> '
        f"{text(_facts(place, found))}</figcaption></figure>"
    )


def _picture(record: Record, alt: str, file: str, place: dict[str, Any]) -> str:
    source = record.recorded_picture(file)
    if not source:
        return f"<span class=absent>{text(alt)}: not shown</span>"
    width, height = place["width"], place["height"]
    unit = width / WIDE
    left, top, across, down = place["box"]
    room, edge = 2 * unit, unit  # so that the box lies around the change, not on it, and in the picture
    right, bottom = min(left + across + room, width - edge), min(top + down + room, height - edge)
    left, top = max(left - room, edge), max(top - room, edge)
    box = f'x="{left:.2f}" y="{top:.2f}" width="{right - left:.2f}" height="{bottom - top:.2f}"'
    squares = ' class="squares"' if max(width, height) < PIXELATED_BELOW else ""
    return (
        f'<svg class="map" viewBox="0 0 {width} {height}" role="img" aria-label="{text(alt)}">'
        f'<title>{text(alt)}</title><image{squares} width="{width}" height="{height}" xlink:href="{source}"/>'
        f'<rect {box} {HALO} stroke-width="{3 * unit:.3f}"/><rect {box} {FRAME} stroke-width="{1.5 * unit:.3f}"/></svg>'
    )


def _facts(place: dict[str, Any], found: dict[str, Any]) -> str:
    fields = place["fields"]
    said = [fields["kind"]] if fields.get("kind") else []
    said.append(area(fields["area_m2"]))
    if found["value"]:
        value = fields[found["value"]]
        shown = f"{value:.0%}".replace("%", " %") if found["value"] in PER_CENT else f"{value:.3g}"
        said.append(f"{VALUES[found['value']]} {shown}")
    said.append(f"rank {fields['rank']:,}")
    x, y = place["centre"]
    digits = 1 if max(abs(x), abs(y)) > 1000 else 6
    sentence = f"{', '.join(said)}. Centre {x:.{digits}f}, {y:.{digits}f}"
    sentence += f" ({found['crs']})" if found["crs"] else ""
    if place["degrees"] and not found["geographic"]:
        latitude, longitude = place["degrees"]
        sentence += f"; {_along(latitude, 'N', 'S')} {_along(longitude, 'E', 'W')}"
    sentence += f". Picture {_length(place['width'] * place['metres'], bool(found['crs']))} wide."
    return sentence if place["complete"] else f"{sentence} Drawn coarsely for lack of time."


def _along(degrees: float, forth: str, back: str) -> str:
    return f"{abs(degrees):.5f}° {forth if degrees >= 0 else back}"


def _length(metres: float, georeferenced: bool) -> str:
    if not georeferenced:
        return f"{metres:.0f} px"
    return f"{metres / 1000:.3g} km" if metres >= 1000 else f"{metres:.3g} m"
