"""What a method that hides parts of windows makes of them."""

from rsfm.report_parts import paragraph, picture_rows
from rsfm.section import Record, Section

HELD_OUT = "These windows lie on held-out ground, from which nothing was learned."
NOT_HELD_OUT = (
    "These windows were not learned from, but they may overlap windows that were; 'Held out' keeps ground apart."
)


class Reconstructions(Section):
    name = "reconstructions"
    title = "What the method hides and rebuilds"
    rank = 40

    def show(self, record: Record) -> str:
        found = record.shown("reconstructions")
        if "problem" in found:
            return paragraph(found["problem"], "warning")
        if "rows" not in found:
            return ""
        dates = found["dates"] > 1
        rows = [
            (f"Window {row['window']}" + (f", date {row['date']}" if dates else ""), row["files"])
            for row in found["rows"]
        ]
        bands = ", ".join(found["bands"])
        return (
            paragraph(
                "Gray is hidden, or nodata. The more the last picture is like the first where it was hidden, the more "
                "the network knows of what usually lies beside what it saw. A blurred one is normal: of what cannot be "
                "known, such as the place of a single tree, the mean is the best guess. Brightness and contrast of "
                "each rebuilt patch are taken from the window where the method learns patches apart from these."
            )
            + paragraph(HELD_OUT if found.get("held_out") else NOT_HELD_OUT)
            + paragraph(f"Bands {bands}; the pictures of a window have one stretch. Windows go from plain to varied.")
            + picture_rows(record, found["titles"], rows, found["side"])
        )
