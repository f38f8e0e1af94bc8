"""What the encoder tells apart: colours of its features, and whether all windows have become the same to it."""

from typing import Any

from rsfm.report_parts import paragraph, picture_rows
from rsfm.section import Record, Section

COLLAPSED, NARROW = 0.02, 0.1
"""Share of the largest deviation below which windows are the same to an encoder, or nearly."""


class Features(Section):
    name = "features"
    title = "What the encoder tells apart"
    rank = 50

    def show(self, record: Record) -> str:
        found = record.shown("embedding")
        if not found or "problem" in found:
            return paragraph(found["problem"], "warning") if found else ""
        rows = [(f"Window {row['window']}", row["files"]) for row in found["rows"]]
        kind = "note" if found["deviation"] >= NARROW * found["most"] else "warning"
        return (
            paragraph(collapse(found), kind)
            + paragraph(
                "Colours of the features: what varies most among these windows is red, then green, then blue. Ground "
                "of one colour is alike to the encoder, in all windows; borders that follow those in the window are a "
                "good sign."
            )
            + picture_rows(record, ["Window", "Features"], rows, found["side"])
        )


def collapse(found: dict[str, Any]) -> str:
    """Say in words whether windows still differ to an encoder."""
    share = found["deviation"] / found["most"]
    if share < COLLAPSED:
        verdict = (
            "All windows look the same to the encoder: it has collapsed, and is of no use. Lower the 'Learning rate', "
            "or choose another method."
        )
    elif share < NARROW:
        verdict = "Windows lie very close together: the encoder may be collapsing, or it was trained too briefly."
    else:
        verdict = "Windows differ to the encoder: there is no sign of a collapse."
    return (
        f"{verdict} Over {found['windows']} windows each of the {found['width']} features of a vector of length 1 "
        f"deviates by {found['deviation']:.4f}; {found['most']:.4f} would be vectors that point anywhere, 0 vectors "
        f"that are all the same; before training it was {found['untrained']:.4f}. They use about "
        f"{found['directions']:.0f} of {found['possible']} directions."
    )
