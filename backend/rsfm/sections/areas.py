"""The area of each class on the ground with its interval, beside what counting the map's pixels would say."""

from typing import Any

from rsfm.report_parts import paragraph, table
from rsfm.result_words import area
from rsfm.section import Record, Section


class Areas(Section):
    name = "areas"
    title = "Areas on the ground"
    rank = 12

    def show(self, record: Record) -> str:
        found = record.shown("areas")
        if not found:
            return ""
        rows = [
            (name, area(each["value"]), f"{area(each['low'])} to {area(each['high'])}", area(mapped), _share(producer))
            for name, each, mapped, producer in zip(
                found["names"], found["areas"], found["mapped_m2"], found["producers"], strict=True
            )
        ]
        heads = ["Class", "Area", "95 % interval", "Pixels of the map", "Found of what is there (producer's)"]
        right = [
            (name, _share(each)) for name, each in zip(found["counts"], found["users"], strict=True)
        ]  # counts has a row for each class of the map
        points = [(name, *row.values()) for name, row in found["counts"].items()]
        return "".join(
            [
                table(heads, rows),
                paragraph(
                    "Areas are estimated from the points by the stratified estimator (Olofsson et al., 2014); the "
                    "pixels of the map alone would count its errors as truth."
                ),
                table(["Class of the map", "Right of what is mapped so (user's)"], right),
                paragraph(f"The map is right on {_share(found['overall'])} of the area."),
                "<h3>Points: class of the map in rows, class on the ground in columns</h3>",
                table(["", *found["names"]], points),
            ]
        )


def _share(each: dict[str, Any] | None) -> str:
    if each is None:
        return "-"
    return f"{each['value']:.1%} ({each['low']:.1%} to {each['high']:.1%})".replace("%", " %")
