"""How good a map is: scores with what they are between, counts, where it errs, and whether its confidence holds."""

from typing import Any

from rsfm.report_parts import paragraph, picture, table, text
from rsfm.section import Record, Section

SIDE, LEFT, FOOT = 260, 46, 40
"""Of the diagram of confidence, in pixels of the page."""
SCORES = {
    "accuracy": "Overall accuracy",
    "mean_iou": "Mean IoU",
    "mean_f1": "Mean F1",
    "kappa": "Kappa",
    "calibration_error": "Calibration error",
}


class Evaluation(Section):
    name = "evaluation"
    title = "How good it is"
    rank = 12

    def show(self, record: Record) -> str:
        found = record.shown("evaluation")
        if not found:
            return ""
        parts = [_scores(found), _classes(found), "<h3>Labelled pixels: truth in rows, map in columns</h3>"]
        parts.append(_counts(found["counts"]))
        source = record.recorded_picture(found["picture"])
        words = "Where the map is right (blue) and wrong (orange); gray is what no label tells. North is up."
        parts.append(f"<figure>{picture(source, words, 800)}<figcaption>{text(words)}</figcaption></figure>")
        if found["bins"]:
            parts.append(_confidence(found["bins"], found["scores"]["calibration_error"]))
        return "".join(parts)


def _scores(found: dict[str, Any]) -> str:
    rows = []
    for name, title in SCORES.items():
        value, between = found["scores"][name], found["intervals"].get(name)
        if value is not None:
            rows.append((title, value, f"{between[0]:.3f} to {between[1]:.3f}" if between else "-"))
    note = (
        "The interval holds the score of 95 of 100 draws of as many polygons from these. Means are over the classes "
        "that have labels; every score comes from the one table of counts below."
    )
    return table(["Score", "Value", "With other polygons"], rows) + paragraph(note)


def _classes(found: dict[str, Any]) -> str:
    rows = [
        (name, each["precision"], each["recall"], each["f1"], each["iou"], each["pixels"])
        for name, each in found["classes"].items()
    ]
    heads = ["Class", "Right of what is mapped so", "Found of what is there", "F1", "IoU", "Labelled pixels"]
    return table(heads, [tuple("-" if value is None else value for value in row) for row in rows])


def _counts(counts: dict[str, dict[str, int]]) -> str:
    """Show a confusion matrix; the darker a cell, the more of the truth of its row it holds."""
    names = list(next(iter(counts.values())))
    head = "".join(f"<th>{text(name)}</th>" for name in ["", *names])
    body = ""
    for truth, row in counts.items():
        total = max(sum(row.values()), 1)
        cells = "".join(_cell(count, count / total, name == truth) for name, count in row.items())
        body += f"<tr><th>{text(truth)}</th>{cells}</tr>"
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _cell(count: int, share: float, right: bool) -> str:
    colour = "0,114,178" if right else "213,94,0"
    return f'<td class=number style="background:rgba({colour},{0.6 * share:.2f})">{count:,}</td>'


def _confidence(bins: list[list[float]], error: float) -> str:
    """Draw which share of the pixels of each confidence is right; on the line, confidence can be taken at its word."""
    bars, width = "", SIDE / len(bins)
    for at, (count, right, _) in enumerate(bins):
        if count:
            high = right / count * SIDE
            bars += (
                f'<rect x="{LEFT + at * width + 1:.1f}" y="{SIDE - high + 10:.1f}" width="{width - 2:.1f}" '
                f'height="{high:.1f}" fill="#0072b2">'
                f"<title>{count:,.0f} pixels, {right / count:.1%} right</title></rect>"
            )
    ticks = "".join(
        f'<text class="axis" x="{LEFT - 6}" y="{SIDE * (1 - part) + 14:.0f}" text-anchor="end">{part:g}</text>'
        f'<text class="axis" x="{LEFT + SIDE * part:.0f}" y="{SIDE + 26}" text-anchor="middle">{part:g}</text>'
        for part in (0, 0.5, 1)
    )
    words = f"Confidence is off by {error:.3f} on average. Bars below the line: it is too sure; above: not sure enough."
    return (
        f'<figure><svg width="{LEFT + SIDE + 10}" viewBox="0 0 {LEFT + SIDE + 10} {SIDE + FOOT}" role="img" '
        f'aria-label="{text(words)}">{bars}<line x1="{LEFT}" y1="{SIDE + 10}" x2="{LEFT + SIDE}" y2="10" '
        f'stroke="#d55e00" stroke-width="2"/>{ticks}<text class="axis" x="{LEFT + SIDE / 2}" y="{SIDE + 38}" '
        'text-anchor="middle">confidence</text></svg>'
        f"<figcaption>Share that is right by confidence. {text(words)}</figcaption></figure>"
    )
