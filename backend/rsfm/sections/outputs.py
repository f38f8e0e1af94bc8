"""The files that the run made."""

from rsfm.report_parts import table
from rsfm.section import Record, Section


class Outputs(Section):
    name = "outputs"
    title = "Files"
    rank = 80

    def show(self, record: Record) -> str:
        rows = [(event["title"], event["path"]) for event in record.events if event["type"] == "output"]
        return table([], list(dict.fromkeys(rows))) if rows else ""
