"""Shows when places first changed, how often and how much, over three dates or more, and the changes of each date.

Every date of a pixel is compared with the last one before it (or the first of all) that is not missing there. Each two
dates that are compared have statistics and a threshold of their own, measured over all that the series covers, so that
an area gives the crop of the whole; where they do not differ beyond one pixel of misalignment nothing has changed.

Shape letters: D dates, H rows, W columns of a strip.
"""

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsfm import __version__
from rsfm.date_colours import date_colours
from rsfm.differences.comparisons import Comparisons
from rsfm.differences.findings import alignment
from rsfm.differences.history import History, Step, each_step
from rsfm.differences.series import Series, open_series
from rsfm.differences.shift import Shift
from rsfm.errors import UserError
from rsfm.jobs.change_over_time import ChangeOverTimeConfig
from rsfm.output import RasterKind
from rsfm.outputs.change import Change
from rsfm.outputs.change_count import ChangeCount
from rsfm.outputs.first_change import FirstChange
from rsfm.outputs.magnitude import Magnitude
from rsfm.raster.background import Background
from rsfm.raster.collection import Entry
from rsfm.raster.dates import date_tags, known_date
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.reader import short_name
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

FIRST, COUNT, LARGEST = "Date of first change", "Count of changes", "Largest magnitude of difference"
NOT_WHAT = (
    "The layers show where images differ, not what changed or whether it matters: crops, season, haze, clouds and "
    "shadow count."
)
MEND_SERIES = "Let 'Check Pair' write it moved back, and choose what it writes in its place under 'Rasters'."
DAY_ZERO = datetime(1899, 12, 30)
"""From which spreadsheets count days."""


class Tally:
    """What was found in the area.

    Attributes:
        valid, changed: pixels that were compared, and that changed, at least once.
        most: changes of a pixel.
        compared_D, changed_D, first_D: pixels by number of the date: compared, changed, changed for the first time.
        changed_m2_D: square metres that changed.
    """

    def __init__(self, dates: int) -> None:
        self.valid = self.changed = self.most = 0
        self.compared_D, self.changed_D, self.first_D = (np.zeros(dates, np.int64) for _ in range(3))
        self.changed_m2_D = np.zeros(dates)

    def add_step(self, step: Step, area_HW: np.ndarray) -> None:
        """Count a date of a strip whose pixels have these areas."""
        self.compared_D[step.number] += step.compared_HW.sum()
        self.changed_D[step.number] += step.changed_HW.sum()
        self.changed_m2_D[step.number] += area_HW[step.changed_HW].sum()

    def add(self, history: History) -> None:
        """Count a strip once all its dates are known."""
        self.valid += int(history.compared_HW.sum())
        self.changed += int((history.first_HW > 0).sum())
        self.most = max(self.most, int(history.count_HW.max()))
        self.first_D += np.bincount(history.first_HW.ravel(), minlength=len(self.first_D))


class Task(NamedTuple):
    """What all parts of a run share."""

    series: Series
    comparisons: Comparisons
    run: Run


class Writers:
    """The rasters that are written beside each other, row by row."""

    def __init__(self, task: Task, stack: ExitStack) -> None:
        self._task, self._stack = task, stack
        self.first = self._open("first_change.tif", FirstChange, FIRST)
        self.count = self._open("change_count.tif", ChangeCount, COUNT)
        self.largest = self._open("largest_magnitude.tif", Magnitude, LARGEST)
        later = list(enumerate(task.series.entries))[1:]
        self.dates = [
            self._open(f"change_{task.series.day(number)}.tif", Change, "Difference", entry) for number, entry in later
        ]

    def _open(self, name: str, kind: type[RasterKind], title: str, entry: Entry | None = None) -> RasterWriter:
        series, comparisons, run = self._task
        names = [short_name(each.path) for each in series.entries]
        metadata = {"RSFM_VERSION": __version__, "RSFM_METHOD": comparisons.method, "RSFM_RASTERS": ", ".join(names)}
        metadata |= date_tags(entry) if entry else {}
        grid = series.grid.crop(series.area)
        writer = RasterWriter(run.outputs / name, kind, grid, band_names=[title], metadata=metadata, check=run.check)
        return self._stack.enter_context(writer)


def change_over_time(config: ChangeOverTimeConfig, run: Run) -> dict[str, Any]:
    """Compare the dates, then write when places first changed, how often and how much, and a layer for each date.

    Returns:
        sentence, share_ever_changed, most_changes; dates and comparisons: what was found for each; method.

    Raises:
        UserError: the rasters cannot be compared.
    """
    with open_series(config, config.area, run) as series:
        comparisons = Comparisons(series, config, run)
        if config.method == "automatic" and comparisons.method != "ir_mad":
            run.warning(
                "Two of the dates have little in common: season, clouds, or not the same place. Plain differences are "
                "shown in place of IR-MAD, which needs some unchanged ground. Leave such a date out under 'Rasters'."
            )
        task = Task(series, comparisons, run)
        shifts = _check_shifts(task)
        tally = _map(task)
        text = f"{_sentence(task, tally)}{_by_share(comparisons, config.show)}"
        run.note(text)
        return _result(task, tally, text, shifts)


def _check_shifts(task: Task) -> dict[tuple[int, int], Shift]:
    """Tell which dates do not lie on those they are compared with, or cannot be told to; nothing is moved."""
    series, comparisons, run = task
    found = {}
    for before, after, shift in comparisons.shifts():
        found[before, after] = shift
        seen = alignment(shift, moved=False, mend=MEND_SERIES)
        text = f"{series.day(before)} and {series.day(after)}: {seen.text}"
        if seen.state == "warning":
            run.warning(text)
        elif seen.state == "unknown":
            run.note(text)
    return found


def _map(task: Task) -> Tally:
    """Write all rasters in one pass, and report them."""
    series, comparisons, run = task
    tally, areas = Tally(len(series.entries)), GroundArea(series.grid.crop(series.area))
    days = np.array([0, *(_day_number(entry) for entry in series.entries[1:])], np.int32)
    with ExitStack() as stack:
        writers = Writers(task, stack)
        with Background() as background:

            def write(writer: RasterWriter, values_HW: np.ndarray, compared_HW: np.ndarray) -> None:
                background.do(lambda: writer.write(_marked(values_HW, compared_HW, writer.kind)), values_HW.nbytes)

            for strip in series.strips():
                row, history = strip.row - series.area.row, History(strip)
                area_HW = areas.read(strip._replace(row=row, column=0))
                for step in each_step(series, comparisons, strip):
                    run.check()
                    history.add(step)
                    tally.add_step(step, area_HW)
                    write(writers.dates[step.number - 1], step.changed_HW, step.compared_HW)
                tally.add(history)
                write(writers.first, days[history.first_HW], history.compared_HW)
                write(writers.count, history.count_HW, history.compared_HW)
                write(writers.largest, history.largest_HW, history.compared_HW)
                run.progress(0.5 + 0.5 * (row + strip.height) / series.area.height, "Finding changes")
        if tally.valid == 0:
            raise UserError(
                "No pixel of the area is valid on two dates that can be compared. Draw another one under 'Area', or "
                "choose rasters with less cloud and nodata under 'Rasters'.",
                "rasters",
            )
    _report(task, tally, writers)
    return tally


def _marked(values_HW: np.ndarray, compared_HW: np.ndarray, kind: type[RasterKind]) -> np.ndarray:
    """Return values as a kind stores them, with one band, and its nodata where nothing was compared."""
    return np.where(compared_HW, values_HW, kind.nodata).astype(kind.dtype)[None]


def _report(task: Task, tally: Tally, writers: Writers) -> None:
    """Report the rasters; a date that could not be compared anywhere has none, and is told.

    The map of first changes covers those of the dates, whose colours it has. It is of the first date, which has no
    changes: the time slider begins with it, and then shows the dates.
    """
    series, _, run = task
    later = range(1, len(series.entries))
    seen = [number for number in later if tally.compared_D[number] > 0]
    legend = {
        number: {"value": _day_number(series.entries[number]), "name": series.day(number), "colour": colour}
        for number, colour in zip(seen, date_colours(len(seen)), strict=True)
    }
    run.said = {"date": known_date(series.entries[0])}
    run.output("first_change", writers.first.path, FIRST, classes=list(legend.values()))
    for number, each in legend.items():
        path, run.said = writers.dates[number - 1].path, {"date": known_date(series.entries[number])}
        run.output("change", path, f"Difference \u00b7 {each['name']}", classes=[{**each, "value": 1}])
    for number in sorted({*later} - {*seen}):
        _leave_out(series, number, writers.dates[number - 1].path, run)
    run.said = {}
    counts = [
        {"value": count, "name": f"{count} change{'s' if count > 1 else ''}", "colour": colour}
        for count, colour in enumerate(date_colours(tally.most) if tally.most else [], 1)
    ]
    run.output("change_count", writers.count.path, COUNT, classes=counts)
    low, high = _stretch(task)
    run.output("magnitude", writers.largest.path, LARGEST, minimum=low, maximum=high, threshold=None)


def _leave_out(series: Series, number: int, path: Path, run: Run) -> None:
    path.unlink()
    run.warning(
        f"'{short_name(series.entries[number].path)}' of {series.day(number)} could not be compared with another date "
        "here: too few of its pixels are valid. It is passed over, and later dates are compared with earlier ones."
    )


def _stretch(task: Task) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of the magnitudes of dates that differ, at their widest."""
    layers = [found.layer for found in task.comparisons.measured.values() if found.threshold is not None]
    low = min((layer.minimum for layer in layers), default=0.0)
    return low, max((layer.maximum for layer in layers), default=low + 1)


def _day_number(entry: Entry) -> int:
    return (datetime.fromisoformat(entry.date or "").replace(tzinfo=None) - DAY_ZERO).days


def _sentence(task: Task, tally: Tally) -> str:
    """Say what was found, in the words of the panel."""
    series, comparisons, _ = task
    dates = f"{len(series.entries)} dates from {series.day(0)} to {series.day(len(series.entries) - 1)}"
    if all(found.threshold is None for found in comparisons.measured.values()):
        return f"No difference beyond one pixel of misalignment between any of {dates}."
    if not tally.changed:
        return f"Nothing changed in the area over {dates}."
    share = _percent(tally.changed / tally.valid)
    number = int(tally.first_D[1:].argmax()) + 1
    most = f"most of it first on {series.day(number)} ({_percent(tally.first_D[number] / tally.valid)})"
    often = "" if tally.most == 1 else f" A pixel changed {tally.most} times at most."
    return f"About {share} of the area changed at least once over {dates}, {most}.{often} {NOT_WHAT}"


def _by_share(comparisons: Comparisons, show: float) -> str:
    """Say for how many comparisons the data did not set the threshold; nothing where it always did."""
    differ = [found.layer for found in comparisons.measured.values() if found.threshold is not None]
    number = sum(not layer.automatic for layer in differ)
    if number == 0:
        return ""
    return (
        f" In {number} of {len(differ)} comparisons of two dates that differ no threshold comes from the data: there "
        f"the {show:g} % that differ most count as changed."
    )


def _shift_of(shift: Shift | None) -> dict[str, Any]:
    """Say how two dates lie; nobody looked where single pixels alone needed them, under clouds."""
    if shift is None or shift.verdict == "unknown":
        return {"alignment": shift and shift.verdict, "shift_px": None}
    return {"alignment": shift.verdict, "shift_px": round(shift.length, 3)}


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _result(task: Task, tally: Tally, text: str, shifts: dict[tuple[int, int], Shift]) -> dict[str, Any]:
    series, comparisons, _ = task
    dates = {
        series.day(number): {
            "raster": short_name(series.entries[number].path),
            "pixels_compared": int(tally.compared_D[number]),
            "share_changed_then": _share(tally.changed_D[number], tally.compared_D[number]),
            "share_first_changed": _share(tally.first_D[number], tally.compared_D[number]),
            "area_changed_then_m2": float(tally.changed_m2_D[number]),
        }
        for number in range(1, len(series.entries))
    }
    return {
        "sentence": text,
        "share_ever_changed": tally.changed / tally.valid,
        "most_changes": tally.most,
        "dates": dates,
        "comparisons": {
            f"{series.day(before)} and {series.day(after)}": found.told() | _shift_of(shifts.get((before, after)))
            for (before, after), found in comparisons.measured.items()
        },
        "method": comparisons.method,
    }
