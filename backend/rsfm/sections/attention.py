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
        who = (
            "A window's vector is the class token's; white is what it"
            if found["by_class"]
            else ("A window's vector is the mean of its patches; white is what these, on average,")
        )
        heads = [f"Head {number}" for number in range(1, found["shown"] + 1)]
        more = found["heads"] - found["shown"]
        rows = [(f"Window {row['window']}", row["files"]) for row in found["rows"]]
        return (
            paragraph(
                f"{who} attend{'s' if found['by_class'] else ''} to most in the last block, black least, each picture "
                "by itself. Heads that follow things on the ground, such as fields, water or roads, and differ from "
                "each other are a good sign. The same spots in all windows are a bad one."
            )
            + (paragraph(f"{more} more head(s) are not drawn.") if more else "")
            + picture_rows(record, ["Window", *heads], rows, found["side"])
        )
