"""Shows where two rasters differ, without labels: a magnitude, and what lies above a threshold as objects.

Everything that is global is measured over the whole overlap of the two rasters, so the magnitude of an area is the crop
of the magnitude of the whole. Objects are those of the area: one that its edge cuts counts with the part inside.

Shape letters: C bands, H rows, W columns, N objects.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from rsfm import __version__
from rsfm.change_findings import Findings, measure, sentence, warnings
from rsfm.embedding_change import FeatureStrips, write_embedding_difference
from rsfm.errors import UserError
from rsfm.jobs.detect_change import DetectChangeConfig
from rsfm.outputs.change import Change
from rsfm.outputs.magnitude import Magnitude
from rsfm.preview import Preview, Show, small_preview, view_preview, view_window
from rsfm.raster.grid import Window, parse_area
from rsfm.raster.ground_area import GroundArea
from rsfm.raster.ir_mad import IrMad
from rsfm.raster.objects import ObjectFinder, Objects
from rsfm.raster.pair import Pair, open_pair
from rsfm.raster.pair_sample import take_sample, with_margin
from rsfm.raster.polygons import PolygonWriter
from rsfm.raster.reader import open_raster
from rsfm.raster.smoothing import MARGIN, smooth
from rsfm.raster.tracing import Tracer
from rsfm.raster.writer import RasterWriter
from rsfm.runs import Run

TITLE = "Magnitude of difference"
TIMELESS = {"gassl": "GASSL", "seco": "SeCo"}
"""Methods whose views of a place come from several dates."""
FEWEST_PIXELS = 40
"""Smaller objects are left out unless the user gives a minimum area; measured on real pairs."""


class Extent(NamedTuple):
    """Pixels of an area that are valid, pixels and square metres that changed, and in how many polygons."""

    valid: int
    changed: int
    changed_m2: float
    polygons: int


def detect_change(config: DetectChangeConfig, run: Run, features: FeatureStrips | None = None) -> dict[str, Any]:
    """Write the magnitude, the map of changes and their polygons.

    Args:
        features: runs the encoder of `config.model` over a raster; None is the encoder itself.

    Returns:
        share_changed, area_changed_m2, polygons; gate (share, verdict), correlations, method, threshold, sentence.

    Raises:
        UserError: the two rasters cannot be compared.
    """
    with open_pair(config.before, config.after) as pair:
        for note in pair.notes:
            run.warning(note)
        area = _area(pair, config.area)
        if config.model and features is None:
            features = _encoder(config, config.model, pair, area, run)
        sample = take_sample(pair, _stage(run, 0, 0.4, "Comparing the two dates"))
        findings = measure(sample, config, run.check)
        del sample  # as large as everything that follows
        for text in warnings(findings, config):
            run.warning(text)
        extent = _map(pair, area, findings, config, run)
        if features:
            _map_embedding(pair, features, run)
    text = sentence(findings, config)
    run.note(text)
    return _result(findings, extent, text)


def _map(pair: Pair, area: Window, findings: Findings, config: DetectChangeConfig, run: Run) -> Extent:
    path = run.outputs / "magnitude.tif"
    objects, valid = _write_magnitude(pair, area, findings, path, run)
    run.output("magnitude", path, TITLE, **_style(findings))
    if config.minimum_area > 0:
        objects = objects.keep(objects.area_N >= config.minimum_area)
    else:
        objects = objects.keep(objects.pixels_N >= FEWEST_PIXELS)
    _write_changes(pair, path, findings, objects, run)
    return Extent(valid, int(objects.pixels_N.sum()), float(objects.area_N.sum()), len(objects))


def _style(findings: Findings) -> dict[str, Any]:
    return {"minimum": findings.minimum, "maximum": findings.maximum, "threshold": findings.threshold}


def _write_magnitude(pair: Pair, area: Window, findings: Findings, path: Path, run: Run) -> tuple[Objects, int]:
    """Write the magnitude of an area; return what lies above the threshold and the number of valid pixels."""
    done = _stage(run, 0.4, 0.7, TITLE)
    grid = pair.before.grid.crop(area)
    areas, finder, valid = GroundArea(grid), ObjectFinder(), 0
    metadata = _provenance(pair, findings)
    with RasterWriter(path, Magnitude, grid, band_names=[TITLE], metadata=metadata) as writer:
        preview = _preview(pair, area, findings, writer, run)
        for strip in pair.strips(area):
            magnitude_HW, valid_HW = _magnitude(pair, strip, findings)
            writer.write(np.where(valid_HW, magnitude_HW, np.float32(np.nan))[None])
            if preview is not None:
                preview.take(magnitude_HW[None], valid_HW)[0]()
            changed_HW = _above(magnitude_HW, valid_HW, findings.threshold)
            row = strip.row - area.row
            finder.add(changed_HW, areas.read(Window(row, 0, strip.height, strip.width)), magnitude_HW)
            valid += int(valid_HW.sum())
            done((row + strip.height) / area.height)
        if valid == 0:
            raise UserError(
                "No pixel of the area is valid on both dates. Draw another one under 'Area', or leave it empty to "
                "compare the whole overlap.",
                "area",
            )
    return finder.finish(), valid


def _preview(pair: Pair, area: Window, findings: Findings, writer: RasterWriter, run: Run) -> Preview | None:
    """Compare what is on the screen, then return what shows the whole in small; None where nobody looks."""
    show = Show(writer, "magnitude", TITLE, _style(findings), lambda rows, valid: np.where(valid, rows, np.nan))
    small = small_preview(run, show)
    window = view_window(run, pair.before.grid, area, lambda part: part.height * part.width)
    if window is not None:
        view = view_preview(run, show, pair.before.grid.crop(window))
        for strip in pair.strips(window):
            run.check()
            magnitude_HW, valid_HW = _magnitude(pair, strip, findings)
            view.take(magnitude_HW[None], valid_HW)[0]()
        view.write()
    return small


def _provenance(pair: Pair, findings: Findings) -> dict[str, str]:
    """Say in an output's metadata where it comes from."""
    return {
        "RSFM_VERSION": __version__,
        "RSFM_METHOD": findings.method,
        "RSFM_BEFORE": pair.before.name,
        "RSFM_AFTER": pair.after.name,
        "RSFM_THRESHOLD": str(findings.threshold),
    }


def _magnitude(pair: Pair, strip: Window, findings: Findings) -> tuple[np.ndarray, np.ndarray]:
    """Compute magnitude_HW and valid_HW of a strip."""
    if not isinstance(findings.magnitude, IrMad):
        before_CHW, after_CHW, valid_HW = pair.read(strip)
        return findings.magnitude.magnitude(before_CHW, after_CHW), valid_HW
    before_CHW, after_CHW, valid_HW = pair.read(with_margin(strip))
    inside = slice(MARGIN, MARGIN + strip.height, 1), slice(MARGIN, MARGIN + strip.width, 1)
    before_CHW, after_CHW = smooth(before_CHW, valid_HW, *inside), smooth(after_CHW, valid_HW, *inside)
    return findings.magnitude.magnitude(before_CHW, after_CHW), valid_HW[inside]


def _write_changes(pair: Pair, magnitude_path: Path, findings: Findings, objects: Objects, run: Run) -> None:
    """Write objects as a raster and as polygons; the magnitude is read back, strip by strip as it was written."""
    path, polygons_path = run.outputs / "change.tif", run.outputs / "change.gpkg"
    done = _stage(run, 0.7, 0.9, "Outlines")
    mean_N = objects.weight_N / np.maximum(objects.pixels_N, 1)
    rank_N = rankdata(-mean_N, "ordinal")
    tracer = Tracer(objects.last_row_N)
    with open_raster(str(magnitude_path)) as magnitude:
        grid = magnitude.grid
        with (
            RasterWriter(path, Change, grid, band_names=["Difference"], metadata=_provenance(pair, findings)) as writer,
            PolygonWriter(polygons_path, grid, ["rank", "mean_magnitude", "area_m2"]) as polygons,
        ):
            for index, strip in enumerate(pair.strips(grid.window)):
                pixels_CHW, valid_HW = magnitude.read(strip)
                numbers_HW = objects.label(index, _above(pixels_CHW[0], valid_HW, findings.threshold))
                writer.write(np.where(valid_HW, numbers_HW > 0, Change.nodata).astype(np.uint8)[None])
                for number, polygon in tracer.add(numbers_HW):
                    place = number - 1
                    polygons.add(polygon, int(rank_N[place]), float(mean_N[place]), float(objects.area_N[place]))
                done((strip.row + strip.height) / grid.height)
    run.output("change", path, "Difference")
    if len(objects):
        run.output("change_polygons", polygons_path, "Difference polygons")
    else:
        polygons_path.unlink()


def _above(magnitude_HW: np.ndarray, valid_HW: np.ndarray, threshold: float | None) -> np.ndarray:
    return np.zeros_like(valid_HW) if threshold is None else valid_HW & (magnitude_HW > np.float32(threshold))


def _map_embedding(pair: Pair, features: FeatureStrips, run: Run) -> None:
    run.progress(0.9, "Embedding difference")
    path = run.outputs / "embedding_difference.tif"
    found = write_embedding_difference(pair.before, pair.after, features, path, run)
    run.output("magnitude", path, "Embedding difference", minimum=found.minimum, maximum=found.maximum, threshold=None)


def _encoder(config: DetectChangeConfig, model_path: str, pair: Pair, area: Window, run: Run) -> FeatureStrips:
    """Make ready what runs the encoder over the area of a date; a model that does not fit is refused at once."""
    from rsfm import model_file  # torch takes seconds, and most comparisons need none
    from rsfm.devices import choose_device
    from rsfm.embedding import feature_strips
    from rsfm.inference_config import TilingConfig

    card = model_file.load(model_path).card
    if not card.units and card.bands != pair.before.bands:
        raise UserError(
            f"The model was trained on {card.bands} bands and the rasters have {pair.before.bands}. Choose a model of "
            f"{pair.before.bands} bands under 'Model', or leave it empty.",
            "model",
        )
    if taught := TIMELESS.get((card.method or {}).get("name", "")):
        run.warning(
            f"{taught} teaches an encoder that a place looks the same at all dates, so that its "
            "'Embedding difference' shows less of what changed. Choose a model of another method under 'Model'."
        )
    device = choose_device(config.device, run)
    return lambda raster, finish: feature_strips(model_path, raster, area, TilingConfig(), device, run, finish)


def _area(pair: Pair, area: str | None) -> Window:
    """Return the part of the overlap that is asked for."""
    window = parse_area(pair.before.grid, area).intersection(pair.window)
    if window.height == 0 or window.width == 0:
        raise UserError(
            "The area lies outside the part that the two rasters share. Draw another one under 'Area', or leave it "
            "empty to compare the whole overlap.",
            "area",
        )
    return window


def _stage(run: Run, start: float, end: float, message: str) -> Callable[[float], None]:
    """Return what reports a part of the work from 0 to 1, and lets the user end it there."""

    def done(part: float) -> None:
        run.check()
        run.progress(start + (end - start) * part, message)

    return done


def _result(findings: Findings, extent: Extent, text: str) -> dict[str, Any]:
    return {
        "sentence": text,
        "share_changed": extent.changed / extent.valid,
        "area_changed_m2": extent.changed_m2,
        "polygons": extent.polygons,
        "gate": findings.gate._asdict(),
        "correlations": findings.correlations,
        "method": findings.method,
        "threshold": findings.threshold,
    }
