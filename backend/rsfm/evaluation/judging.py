"""Judges a map of classes, or a model, by labels or by a raster of the truth.

Shape letters: N labelled pixels, K classes, H rows, W columns.
"""

from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfm import model_file
from rsfm.devices import choose_device
from rsfm.errors import UserError
from rsfm.evaluation.class_names import Classes, look_up, meet, read_names
from rsfm.evaluation.error_layer import ErrorLayer
from rsfm.evaluation.judged_labels import card_of_map, learned_area, leave_out_learned, only_in_area
from rsfm.evaluation.mapped import FileMap, Mapped, ModelMap, Said, values_of
from rsfm.evaluation.tally import Tally, absent, as_table, by_class, polygon_intervals, summary
from rsfm.jobs.evaluate import EvaluateConfig
from rsfm.model_file import Card, Model
from rsfm.networks import head_network
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Window
from rsfm.raster.labels import Labels, read_labels
from rsfm.raster.reader import open_raster
from rsfm.raster.resampled import Nearest
from rsfm.runs import Run, write_json
from rsfm.training.finetuning import open_for

LAYER = "errors.tif"
PICTURE = "errors.png"


class Verdict(NamedTuple):
    """What came of a comparison.

    Attributes:
        intervals: of scores, where they can be told.
        polygons: that were judged by; 0 for a raster of the truth.
        silent: labelled pixels of which the map says nothing.
    """

    classes: Classes
    tally: Tally
    intervals: dict[str, Any]
    polygons: int
    silent: int


def evaluate(config: EvaluateConfig, run: Run) -> dict[str, Any]:
    """Compare a map with the truth, write where it is wrong, and return the scores."""
    with ExitStack() as stack:
        model = None if config.model is None else model_file.load(config.model)
        mapped = stack.enter_context(_Opened(config, model, run)).mapped
        area = read_area(mapped.raster.grid, config.area)
        card = model.card if model else card_of_map(config.raster)
        judge = _by_labels if config.labels else _by_raster
        verdict = judge(config, mapped, card, area, run)
        for note in [*absent(verdict.tally.counts_KK, verdict.classes.names), *_notes(verdict, mapped)]:
            run.warning(note)
        if not verdict.tally.counts_KK.any():
            raise UserError(
                f"There is no pixel to judge '{mapped.raster.name}' by: choose a truth of this place that the model "
                "has not learnt from.",
                "truth",
            )
        found = summary(verdict.tally)
        run.output("errors", run.outputs / LAYER, "Right and wrong")
        _record(verdict, run)
    return {"sentence": sentence(found, verdict), **found}


def sentence(found: dict[str, float | None], verdict: Verdict) -> str:
    """Say how good the map is, in figures."""
    pixels = int(verdict.tally.counts_KK.sum())
    where = f" in {verdict.polygons:,} polygons" if verdict.polygons else ""
    text = f"Right on {found['accuracy']:.1%}".replace("%", " %") + f" of {pixels:,} labelled pixels{where}"
    if found["mean_iou"] is not None:
        text += f"; mean IoU {found['mean_iou']:.2f}"
    if "mean_iou" in verdict.intervals:
        low, high = verdict.intervals["mean_iou"]
        text += f" ({low:.2f} to {high:.2f} with other polygons)"
    return f"{text}."


class _Opened:
    """What is judged, with its raster open."""

    def __init__(self, config: EvaluateConfig, model: Model | None, run: Run) -> None:
        if model is None:
            self._raster = open_raster(config.raster, numbers=[1])
            self.mapped: Mapped = FileMap(self._raster, config.class_names, "class_names")
            return
        device = choose_device(config.device, run)
        network = head_network(model).to(device)
        self._raster = open_for(model, config.raster)
        self.mapped = ModelMap(self._raster, model, network, device)

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self._raster.close()


def _by_labels(config: EvaluateConfig, mapped: Mapped, card: Card | None, area: Area, run: Run) -> Verdict:
    raster = mapped.raster
    labels = read_labels(config.labels or "", config.class_field, raster)
    for note in labels.notes:
        run.warning(note)
    labels = only_in_area(labels, area, raster.name)
    labels = leave_out_learned(labels, config.labels or "", card, raster, run)
    said = mapped.at(labels.rows_N, labels.columns_N, run.check)
    values = np.unique(said.value[said.valid]).tolist()
    colours = dict(zip(labels.names, labels.colours, strict=True))
    classes = meet(labels.names, mapped.names, values, colours, raster.name)
    predicted_N = classes.of_map(said.value)
    told_N = said.valid & (predicted_N >= 0)
    if not told_N.any():
        raise UserError(
            f"'{raster.name}' has no class at any of {len(told_N):,} labelled pixels. Choose labels of this place "
            "under 'Labels'.",
            "labels",
        )
    tally = Tally(len(classes.names))
    tally.add(labels.class_N[told_N], predicted_N[told_N], None if said.confidence is None else said.confidence[told_N])
    window = _around(labels)
    with ErrorLayer(run.outputs / LAYER, raster.grid, window, run.check) as layer:
        right_N = labels.class_N == predicted_N
        layer.add_pixels(labels.rows_N[told_N], labels.columns_N[told_N], right_N[told_N])
    _draw(layer, run)
    intervals = polygon_intervals(
        labels.class_N[told_N], predicted_N[told_N], labels.polygon_N[told_N], len(classes.names), config.seed
    )
    return Verdict(classes, tally, intervals, len(np.unique(labels.polygon_N)), int((~told_N).sum()))


def _by_raster(config: EvaluateConfig, mapped: Mapped, card: Card | None, area: Area, run: Run) -> Verdict:
    raster = mapped.raster
    with open_raster(config.truth or "", "truth", numbers=[1]) as file:
        truth, names = Nearest(file, raster.grid), read_names(file, config.truth_names, "truth_names")
        values = values_of(truth, area)
        if not values:
            raise UserError(
                f"'{file.name}' has no class where '{raster.name}' has pixels. Choose one of this place under 'Raster "
                "of the truth', or another 'Area'.",
                "truth",
            )
        called = {value: names.get(value, str(value)) for value in values}
        true_names = tuple(dict.fromkeys(called.values()))
        classes = meet(true_names, mapped.names, mapped.values(area), {}, raster.name)
        true_V = np.array([true_names.index(name) for name in called.values()], np.int64)
        tally, silent, seen, learned = Tally(len(classes.names)), 0, 0, learned_area(card, raster)

        def take(window: Window, said: Said) -> None:
            nonlocal silent, seen
            value_CHW, known_HW = truth.read_native(window)
            known_HW &= area.inside(window)
            if learned is not None:
                seen_HW = known_HW & learned.inside(window)
                seen += int(seen_HW.sum())
                known_HW &= ~seen_HW
            truth_HW = look_up(value_CHW[0].astype(np.int64), np.array(values, np.int64), true_V)
            predicted_HW = classes.of_map(said.value)
            told_HW = known_HW & said.valid & (predicted_HW >= 0)
            silent += int((known_HW & ~told_HW).sum())
            sure_N = None if said.confidence is None else said.confidence[told_HW]
            tally.add(truth_HW[told_HW], predicted_HW[told_HW], sure_N)
            layer.add(window.row, told_HW, truth_HW == predicted_HW)

        def report(done: float) -> None:
            run.progress(done, "Comparing with the truth")

        with ErrorLayer(run.outputs / LAYER, raster.grid, area.window, run.check) as layer:
            mapped.by_rows(area, take, run.check, report)
        _draw(layer, run)
    if seen:
        run.warning(f"{seen:,} pixels lie in polygons that the model learnt from and were left out.")
    return Verdict(classes, tally, {}, 0, silent)


def _around(labels: Labels) -> Window:
    row, column = int(labels.rows_N.min()), int(labels.columns_N.min())
    return Window(row, column, int(labels.rows_N.max()) - row + 1, int(labels.columns_N.max()) - column + 1)


def _notes(verdict: Verdict, mapped: Mapped) -> list[str]:
    told = []
    if verdict.classes.unknown:
        listed = ", ".join(f"'{name}'" for name in verdict.classes.unknown)
        told.append(f"'{mapped.raster.name}' has no class {listed}: those labels count as wrong.")
    if verdict.silent:
        told.append(f"{verdict.silent:,} labelled pixels lie where the map has no class; they are not counted.")
    return told


def _draw(layer: ErrorLayer, run: Run) -> None:
    folder = run.folder / "shown"
    folder.mkdir(exist_ok=True)
    layer.draw(folder / PICTURE)


def _record(verdict: Verdict, run: Run) -> None:
    """Keep what the report shows."""
    counts_KK, names = verdict.tally.counts_KK, verdict.classes.names
    bins_B3: NDArray[np.float64] = verdict.tally.bins_B3
    shown = {
        "names": names,
        "colours": verdict.classes.colours,
        "classes": by_class(counts_KK, names),
        "counts": as_table(counts_KK, names),
        "bins": bins_B3.tolist() if bins_B3[:, 0].any() else [],
        "scores": summary(verdict.tally),
        "intervals": verdict.intervals,
        "picture": PICTURE,
    }
    write_json(run.folder / "shown" / "evaluation.json", shown)
