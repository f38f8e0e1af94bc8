"""What came out, in numbers."""

from rsfm.report_parts import nested
from rsfm.section import Record, Section


class Result(Section):
    name = "result"
    title = "Result"
    rank = 10

    def show(self, record: Record) -> str:
        found = {name: value for name, value in record.run.get("result", {}).items() if name != "sentence"}
        return nested(found) if found else ""
