"""The files that the run made."""

from rsfm.report_parts import nested
from rsfm.section import Record, Section


class Outputs(Section):
    name = "outputs"
    title = "Files"
    rank = 80

    def show(self, record: Record) -> str:
        found = {event["title"]: event["path"] for event in record.events if event["type"] == "output"}
        return nested(found) if found else ""
