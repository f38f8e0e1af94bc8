"""Checks whether two dates can be compared, and writes what mends them if that is asked for."""

from collections.abc import Callable
from typing import Any

from rsfm.differences.arrows import write_arrows
from rsfm.differences.findings import Finding, Measured, as_table, doubt, find_all
from rsfm.differences.fixes import write_moved, write_resampled
from rsfm.differences.gate import gate_of
from rsfm.differences.opening import Described, describe, open_dates
from rsfm.differences.shift import Shift, measure_shift
from rsfm.differences.shown_pair import keep_pair
from rsfm.errors import UserError
from rsfm.jobs.check_pair import CheckPairConfig
from rsfm.raster.difference import band_correlations
from rsfm.raster.pair import Pair
from rsfm.raster.pair_sample import take_sample
from rsfm.runs import Run


def check_pair(config: CheckPairConfig, run: Run) -> dict[str, Any]:
    """Measure a pair, say what was found, and write the arrows of the shift and what was asked for.

    Returns:
        sentence; findings: state and text of each topic; shift, gate, correlations.

    Raises:
        UserError: the two rasters cannot be compared, or the shift is too uncertain to be corrected.
    """
    described = describe(config)
    with open_dates(config, described) as pair:
        shift = measure_shift(pair, stage(run, 0, 0.5, "Looking for a shift"))
        sample = take_sample(pair, stage(run, 0.5, 0.8, "Comparing the two dates"))
        measured = Measured(sample.counts, band_correlations(sample.before_CN, sample.after_CN), gate_of(sample), shift)
        del sample
        found = find_all(config, described, pair, measured)
        for finding in found:
            (run.warning if finding.state == "warning" else run.note)(f"{finding.topic}: {finding.text}")
        keep_pair(run, pair, found, measured)
        report_arrows(shift, pair, run)
        _mend(config, described, pair, shift, run)
    return {"sentence": _sentence(found), "findings": as_table(found), **_numbers(measured)}


def report_arrows(shift: Shift, pair: Pair, run: Run) -> None:
    """Write the arrows of the blocks, where there are any."""
    if shift.blocks:
        path = run.outputs / "shift.gpkg"
        write_arrows(path, shift, pair.before.grid)
        run.output("shift_arrows", path, "Shift between the dates")


def shift_result(shift: Shift) -> dict[str, Any]:
    """Say in a few numbers how far the later date lies off."""
    return {
        "verdict": shift.verdict,
        "down_px": round(shift.down, 3),
        "right_px": round(shift.right, 3),
        "blocks": len(shift.blocks),
        "blocks_that_count": shift.counted,
    }


def tell_alignment(finding: Finding, correct: bool, run: Run) -> None:
    """Say whether the dates lie on top of each other, or as they must.

    Args:
        correct: whether a shift was to be corrected, which is impossible where it is unknown.
    """
    warned = finding.state == "warning" or (correct and finding.state == "unknown")
    (run.warning if warned else run.note)(finding.text)


def stage(run: Run, start: float, end: float, message: str) -> Callable[[float], None]:
    """Return what reports a part of the work from 0 to 1, and lets the user end it there."""

    def done(part: float) -> None:
        run.check()
        run.progress(start + (end - start) * part, message)

    return done


def _mend(config: CheckPairConfig, described: Described, pair: Pair, shift: Shift, run: Run) -> None:
    if config.write_moved:
        if shift.verdict == "unknown":
            raise UserError(
                f"The later raster was not moved: {doubt(shift)}. Leave 'Write the later raster moved back' off, or "
                "use QGIS's 'Georeferencer'.",
                "write_moved",
            )
        path = run.outputs / f"{pair.after.raster.name.rpartition('.')[0] or 'after'}_moved.vrt"
        write_moved(path, pair, shift)
        run.output("aligned", path, "Later raster, moved back")
    if config.write_resampled:
        path = run.outputs / "after_on_before.tif"
        done = stage(run, 0.8, 1, "Resampling")
        if config.write_moved:
            with open_dates(config, described, shift) as moved:
                write_resampled(path, moved, done)
        else:
            write_resampled(path, pair, done)
        run.output("aligned", path, "Later raster on the earlier grid")


def _sentence(found: list[Finding]) -> str:
    """Sum up: what to act on, else what could not be checked, and whether the dates differ."""
    difference = next(finding for finding in found if finding.topic == "Difference")
    wrong = [finding.topic for finding in found if finding.state == "warning"]
    unsure = [finding.topic for finding in found if finding.state == "unknown"]
    if wrong:
        return f"To look at first: {', '.join(wrong)}. {difference.text}"
    if unsure:
        return f"Nothing speaks against comparing them; not known: {', '.join(unsure)}. {difference.text}"
    return f"The two rasters can be compared. {difference.text}"


def _numbers(measured: Measured) -> dict[str, Any]:
    return {
        "shift": shift_result(measured.shift),
        "gate": measured.gate._asdict(),
        "correlations": measured.correlations,
    }
