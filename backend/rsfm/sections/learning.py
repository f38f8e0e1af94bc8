"""How the map of the embedding changed while it was learned."""

import re
from pathlib import Path

from rsfm.picture_file import shrink_picture
from rsfm.report_parts import paragraph, picture, text
from rsfm.section import Record, Section

MOST = 6
SIDE = 640
"""Longest side of a map, in pixels."""


class Learning(Section):
    name = "learning"
    title = "Maps while it learned"
    rank = 55

    def show(self, record: Record) -> str:
        files = sorted((record.folder / "outputs" / "learning").glob("*.png"), key=_step)
        if not files:
            return ""
        last = len(files) - 1
        chosen = sorted({round(number * last / (MOST - 1)) for number in range(MOST)})
        figures = []
        for number in chosen:
            steps = _step(files[number])
            words = f"After {steps:,} step{'s' if steps != 1 else ''}"
            source = record.picture_of(shrink_picture(files[number], SIDE), "image/jpeg")
            figures.append(f"<figure>{picture(source, words, 1000)}<figcaption>{text(words)}</figcaption></figure>")
        return (
            paragraph(
                f"Colours of the embedding of the part that was on the screen, {len(chosen)} of {len(files)} maps. "
                "Things on the ground become areas of one colour as the encoder learns; when nothing changes any more, "
                "it has learned what it can."
            )
            + f"<div class=figures>{''.join(figures)}</div>"
        )


def _step(path: Path) -> int:
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else 0
