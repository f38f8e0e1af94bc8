"""What a transformer looks at."""

from rsfm.report_parts import paragraph, picture_rows
from rsfm.section import Record, Section


class Attention(Section):
    name = "attention"
    title = "What the encoder attends to"
    rank = 60

    def show(self, record: Record) -> str:
        found = record.shown("attention")
        if "problem" in found:
            return paragraph(found["problem"], "warning")
        if "rows" not in found:
            convolves = record.shown("machine") and found
            return paragraph("The encoder is made of convolutions, which have no attention.") if convolves else ""
        who = "the class token" if found["by_class"] else "the patches, on average,"
        heads = [f"Head {number}" for number in range(1, found["shown"] + 1)]
        more = found["heads"] - found["shown"]
        rows = [(f"Window {row['window']}", row["files"]) for row in found["rows"]]
        return (
            paragraph(
                f"From which patches {who} of the last block takes what it adds up to a window's vector: black is "
                "least, white is most, each picture by itself. Heads that follow things on the ground, such as fields, "
                "water or roads, and differ from each other are a good sign. The same spots in all windows are a bad "
                "one."
            )
            + (paragraph(f"{more} more head(s) are not drawn.") if more else "")
            + picture_rows(record, ["Window", *heads], rows, found["side"])
        )
