"""Whether two dates can be compared, finding by finding, with the shift of each block on a map."""

from statistics import median
from typing import Any, NamedTuple

from rsfm.raster.difference import DIFFERENT, WEAK
from rsfm.report_map import FOOT, foot, nice_length
from rsfm.report_parts import paragraph, table, text
from rsfm.section import Record, Section

STATES = {"ok": "✓ Fine", "note": "i Note", "warning": "⚠ Look at it", "unknown": "? Not known"}
VERDICTS = {
    "none": "The two dates do not differ beyond what one pixel of misalignment explains.",
    "few": "Most of the area is unchanged, and a small part of it differs strongly.",
    "weak": "The two dates differ a little more than one pixel of misalignment explains.",
    "differences": "The two dates differ by more than one pixel of misalignment explains.",
}
WIDE, HIGH = 400, 400
"""Most of a map on the page, in its pixels."""
COUNTS, DOES_NOT = "#56b4e9", "#ddd"
USUAL, LONGEST = 0.4, 1.0
"""Parts of the distance between blocks that the median arrow takes, and any arrow at most."""
HEAD = 0.3
"""Length of the strokes of an arrow's head, as a part of it."""


class Scale(NamedTuple):
    """How many times as long as shifts their arrows are, and how long they are at most, in pixels of the picture."""

    longer: float
    longest: float


class Pair(Section):
    name = "pair"
    title = "Check of the pair"
    rank = 5

    def show(self, record: Record) -> str:
        found = record.shown("pair")
        if not found or "problem" in found:
            return paragraph(found["problem"], "warning") if found else ""
        return "".join(
            [
                paragraph(_verdict(found["gate"])),
                _findings(found["findings"]),
                "<h3>Both dates</h3>",
                _maps(record, found),
                "<h3>How alike the bands are</h3>",
                _bands(found["bands"]),
            ]
        )


def _verdict(gate: dict[str, Any]) -> str:
    return (
        f"{VERDICTS[gate['verdict']]} Of all pixels, {_percent(gate['share'])} differ more than a shift by one pixel "
        f"would explain: below {_percent(WEAK)} counts as no difference, above {_percent(DIFFERENT)} as a clear one. "
        f"Of smoothed pixels, {_percent(gate['strong'])} differ far more. This says that something differs, not what "
        "or whether it matters."
    )


def _findings(findings: list[dict[str, str]]) -> str:
    rows = "".join(
        f'<tr><th class="short">{text(each["topic"])}</th><td class="state {text(each["state"])}">'
        f"{text(STATES[each['state']])}</td><td>{text(each['text'])}</td></tr>"
        for each in findings
    )
    return f"<div class=wide><table><tr><th></th><th>State</th><th>What was found</th></tr>{rows}</table></div>"


def _maps(record: Record, found: dict[str, Any]) -> str:
    picture, shift = found["picture"], found["shift"]
    scale = _scale(shift["blocks"])
    figures = []
    for number, (file, name) in enumerate(zip(picture["files"], picture["names"], strict=True)):
        source = record.recorded_picture(file)
        arrows = [] if number else shift["blocks"]
        words = f"<b>{text(name)}</b>, the {'later' if number else 'earlier'} date."
        words += f" {text(_legend(shift, scale))}" if number == 0 else ""
        figures.append(_map(picture, source, f"{name} in small", arrows, scale, words))
    return f"<div class=figures>{''.join(figures)}</div>"


def _map(picture: dict[str, Any], source: str, alt: str, blocks: list[dict[str, Any]], scale: Scale, words: str) -> str:
    width, height = picture["width"], picture["height"]
    unit = max(width / WIDE, height / HIGH)
    image = f'<image width="{width}" height="{height}" xlink:href="{source}"/>' if source else ""
    alt += f" with the shift of {len(blocks)} blocks" if blocks else ""
    drawn = "".join(_arrow(block, scale, unit) for block in blocks)
    return (
        f'<figure><svg class="map" width="{width / unit:.0f}" viewBox="0 0 {width} {height + FOOT * unit:.1f}" '
        f'role="img" aria-label="{text(alt)}"><title>{text(alt)}</title>{image}{drawn}{foot(picture, unit)}</svg>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _arrow(block: dict[str, Any], scale: Scale, unit: float) -> str:
    """Draw a ring where a block tells nothing, else an arrow from where things are to where the later date has them."""
    (x, y), (across, down) = block["at"], block["way"]
    if not block["counts"]:
        ring = f'<circle cx="{x}" cy="{y}" r="{4 * unit:.2f}" '
        return f"{ring}{_stroke('#000', 3 * unit)}/>{ring}{_stroke(DOES_NOT, 1.5 * unit)}/>"
    way = complex(across, down) * scale.longer
    cut = abs(way) > scale.longest
    way *= min(1.0, scale.longest / max(abs(way), 1e-9))
    dot = f'<circle cx="{x}" cy="{y}" r="{2 * unit:.2f}" fill="{COUNTS}"/>'
    if abs(way) < 2 * unit:
        return dot
    tip = complex(x, y) + way
    barbs = [tip - way * HEAD * turn for turn in (complex(0.9, 0.45), complex(0.9, -0.45))]
    path = f"M{x},{y} L{_point(tip)} M{_point(barbs[0])} L{_point(tip)} L{_point(barbs[1])}"
    halo = f'<path d="{path}" {_stroke("#000", 3.5 * unit)} stroke-opacity=".6"/>'
    dashes = f' stroke-dasharray="{3 * unit:.2f}"' if cut else ""
    return f'{halo}<path d="{path}" {_stroke(COUNTS, 2 * unit)}{dashes}/>{dot}'


def _scale(blocks: list[dict[str, Any]]) -> Scale:
    """Choose the scale by the usual shift: one block that is far off would make dots of all others."""
    usual = median([abs(complex(*block["way"])) for block in blocks if block["counts"]] or [0.0])
    places = [complex(*block["at"]) for block in blocks]
    apart = min((abs(place - places[0]) for place in places[1:]), default=WIDE / 4)
    return Scale(nice_length(USUAL * apart / usual) if usual > 0 else 1.0, LONGEST * apart)


def _legend(shift: dict[str, Any], scale: Scale) -> str:
    blocks, counted = shift["blocks"], shift["counted"]
    if not blocks:
        return "No shift was measured: the overlap is too small, or too little of it is valid on both dates."
    silent = len(blocks) - counted
    rings = f"White rings: the dates are too unlike to tell ({silent} of {len(blocks)} blocks)." if silent else ""
    if not counted:
        return f"{rings} No block tells a shift."
    if all(block["way"] == [0, 0] for block in blocks if block["counts"]):
        return f"Blue dots: no shift could be seen ({counted} of {len(blocks)} blocks). {rings}"
    moved = " This is before it was moved back." if shift["moved"] else ""
    return (
        f"Blue arrows: by how much the later date lies off ({counted} of {len(blocks)} blocks), drawn "
        f"{scale.longer:,g} times as long; a dot alone is no shift, and a dashed arrow is cut, as it would hide others."
        f"{moved} {rings}"
    )


def _bands(bands: list[dict[str, Any]]) -> str:
    rows = [(band["name"], f"{band['correlation']:.2f}") for band in bands]
    return table(["Band", "Correlation between the dates"], rows) + paragraph(
        "1 is the same but for gain and offset. Where no band is above 0.3 the dates have little in common, below 0.15 "
        "nothing: then a map without labels means little, and a few clicks mean more."
    )


def _stroke(colour: str, width: float) -> str:
    return f'fill="none" stroke="{colour}" stroke-width="{width:.2f}"'


def _point(place: complex) -> str:
    return f"{place.real:.2f},{place.imag:.2f}"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")
