"""What came out, in numbers."""

from rsfm.report_parts import nested
from rsfm.section import Record, Section

OF_THE_PAIR = {"findings", "gate", "shift", "correlations"}
"""What the section of the pair shows, where there is one."""


class Result(Section):
    name = "result"
    title = "Result"
    rank = 10

    def show(self, record: Record) -> str:
        elsewhere = {"sentence"} | (OF_THE_PAIR if "findings" in record.shown("pair") else set())
        found = {name: value for name, value in record.run.get("result", {}).items() if name not in elsewhere}
        return nested(found) if found else ""
