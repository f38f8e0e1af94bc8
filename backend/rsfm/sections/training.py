"""How the training went: each number over the steps, and how to read it."""

from rsfm import curves
from rsfm.report_parts import paragraph
from rsfm.section import Record, Section


class Training(Section):
    name = "training"
    title = "Training"
    rank = 30

    def show(self, record: Record) -> str:
        series = record.series()
        total = series.get("loss")
        kept = {name: points for name, points in series.items() if name == "loss" or points != total}  # a single part
        batch = (record.config.get("training") or {}).get("batch_size", 0)
        speed = curves.speed(record.events, batch) if batch else []
        drawn = {name: points for name, points in {**kept, "windows_per_second": speed}.items() if len(points) > 1}
        if not drawn:
            short = series and record.run["state"] == "stopped"
            return paragraph("The run was stopped before there was a curve to draw.") if short else ""
        order = sorted(drawn, key=curves.rank)
        return "".join(curves.draw(name, drawn[name]) for name in order)
