"""Estimates the areas of classes from a map and points that somebody looked up.

Shape letters: N points, S strata (classes of the map), K classes of map and points together.
"""

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfm.errors import UserError
from rsfm.evaluation.area_estimate import Accuracy, Estimate, estimate
from rsfm.evaluation.class_names import look_up, read_names
from rsfm.evaluation.mapped import FileMap, values_of
from rsfm.evaluation.sample import Strata, measure
from rsfm.jobs.estimate_areas import EstimateAreasConfig
from rsfm.raster.area import Area, read_area
from rsfm.raster.grid import Window
from rsfm.raster.label_file import Parameters, read_drawing
from rsfm.raster.labels import choose_colours, natural_order
from rsfm.raster.reader import Raster, open_raster
from rsfm.result_words import area as area_text
from rsfm.runs import Run, write_json

FEW = 20
"""Points of a class of the map below which its interval is rough."""


class Looked(NamedTuple):
    """Points that were looked up: the stratum they lie in, and their class as text."""

    stratum_N: NDArray[np.int64]
    class_N: list[str]


def estimate_areas(config: EstimateAreasConfig, run: Run) -> dict[str, Any]:
    """Estimate areas and accuracies, and tell them with their intervals."""
    with open_raster(config.raster, numbers=[1]) as raster:
        names = read_names(raster, config.class_names)
        area = read_area(raster.grid, config.area)
        values = values_of(raster, area)
        strata = measure(raster, area, values, run.check)
        looked = _look(config, raster, area, strata, run)
    mapped = [names.get(value, str(value)) for value in values]
    counted, strata, mapped = _counted(looked, strata, mapped, run)
    more = sorted(set(looked.class_N) - set(mapped), key=natural_order(looked.class_N))
    every = (*mapped, *more)
    counts_SK = np.zeros((len(mapped), len(every)), np.int64)
    classes = [every.index(name) for name in counted.class_N]
    np.add.at(counts_SK, (counted.stratum_N, np.array(classes)), 1)
    found = estimate(counts_SK, strata.area_S)
    _record(every, mapped, counts_SK, strata, found, run)
    return {"sentence": sentence(every, found, int(counts_SK.sum())), **_result(every, found)}


def sentence(names: tuple[str, ...], found: Accuracy, points: int) -> str:
    """Say the areas of the largest classes with half the width of their intervals."""
    largest = sorted(range(len(names)), key=lambda at: -found.areas_K[at].value)[:3]
    parts = [
        f"{names[at]} {area_text(each.value)} ({area_text(each.low)} to {area_text(each.high)})"
        for at, each in ((at, found.areas_K[at]) for at in largest)
    ]
    right = f"{found.overall.value:.1%} ({found.overall.low:.1%} to {found.overall.high:.1%})".replace("%", " %")
    return f"From {points:,} points, with 95 % intervals: {', '.join(parts)}. The map is right on {right} of the area."


def _look(config: EstimateAreasConfig, raster: Raster, area: Area, strata: Strata, run: Run) -> Looked:
    """Read the points, and the class of the map at each.

    Raises:
        UserError: no point with a class lies on the map.
    """
    drawing = read_drawing(config.labels, config.class_field, raster.grid.crs, Parameters())
    for note in drawing.notes:
        run.note(note)
    points = [(shape, name) for shape, name in zip(drawing.shapes_F, drawing.classes_F, strict=True)]
    points = [(shape, name) for shape, name in points if shapely.get_dimensions(shape) == 0]
    if not points:
        raise UserError(f"'{drawing.name}' holds no point. Choose a layer of points under 'Points'.", "labels")
    x_N, y_N = (np.array([get(shape) for shape, _ in points]) for get in (shapely.get_x, shapely.get_y))
    a, b, c, d, e, f = (~raster.grid.transform)[:6]
    column_N, row_N = a * x_N + b * y_N + c, d * x_N + e * y_N + f
    with np.errstate(invalid="ignore"):
        there_N = (row_N >= 0) & (row_N < raster.grid.height) & (column_N >= 0) & (column_N < raster.grid.width)
    rows_N, columns_N = (np.floor(np.where(there_N, at_N, 0)).astype(np.int64) for at_N in (row_N, column_N))
    there_N &= np.array(
        [
            bool(area.inside(Window(int(row), int(column), 1, 1))[0, 0])
            for row, column in zip(rows_N, columns_N, strict=True)
        ]
    )
    said = FileMap(raster, config.class_names, "class_names").at(rows_N, columns_N, run.check)
    stratum_N = look_up(said.value, strata.value_S, np.arange(len(strata.value_S)))
    there_N &= said.valid & (stratum_N >= 0)
    if not there_N.any():
        raise UserError(
            f"No point of '{drawing.name}' with a class lies on '{raster.name}'. Choose the points that were drawn on "
            "it under 'Points', or the map that they were drawn on.",
            "labels",
        )
    if not there_N.all():
        run.warning(
            f"{int((~there_N).sum())} of {len(points)} points lie outside of the map's classes and do not count."
        )
    return Looked(stratum_N[there_N], [name for (_, name), there in zip(points, there_N, strict=True) if there])


def _counted(looked: Looked, strata: Strata, mapped: list[str], run: Run) -> tuple[Looked, Strata, list[str]]:
    """Leave out classes of the map of which too little is known, and say so."""
    count_S = np.bincount(looked.stratum_N, minlength=len(mapped))
    known_S = count_S >= 2
    for at, name in enumerate(mapped):
        if not known_S[at]:
            share = strata.area_S[at] / strata.area_S.sum()
            run.warning(
                f"Class '{name}' of the map has {count_S[at]} points with a class, and needs 2 at least: its area, "
                f"{share:.1%} of the map, is left out.".replace("%", " %")
            )
        elif count_S[at] < FEW:
            run.warning(f"Class '{name}' of the map has {count_S[at]} points with a class: its intervals are rough.")
    if not known_S.any():
        raise UserError("No class of the map has two points with a class. Look up more points.", "labels")
    new_S = np.cumsum(known_S) - 1
    index = np.flatnonzero(known_S[looked.stratum_N])
    kept = Strata(strata.value_S[known_S], strata.pixels_S[known_S], strata.area_S[known_S])
    names = [name for name, known in zip(mapped, known_S, strict=True) if known]
    return Looked(new_S[looked.stratum_N[index]], [looked.class_N[at] for at in index]), kept, names


def _record(
    names: tuple[str, ...], mapped: list[str], counts_SK: NDArray[np.int64], strata: Strata, found: Accuracy, run: Run
) -> None:
    """Keep what the report shows."""
    pixels = dict(zip(mapped, strata.area_S.tolist(), strict=True))
    shown = {
        "names": names,
        "colours": choose_colours(names, {}),
        "mapped_m2": [pixels.get(name, 0.0) for name in names],
        "areas": [each._asdict() for each in found.areas_K],
        "users": [each._asdict() for each in found.users_S],
        "producers": [each and each._asdict() for each in found.producers_K],
        "overall": found.overall._asdict(),
        "counts": {
            name: dict(zip(names, counts_K.tolist(), strict=True))
            for name, counts_K in zip(mapped, counts_SK, strict=True)
        },
    }
    (run.folder / "shown").mkdir(exist_ok=True)
    write_json(run.folder / "shown" / "areas.json", shown)


def _result(names: tuple[str, ...], found: Accuracy) -> dict[str, Any]:
    def rounded(each: Estimate) -> dict[str, float]:
        return {part: round(value, 1) for part, value in each._asdict().items()}

    return {
        "areas": {name: rounded(each) for name, each in zip(names, found.areas_K, strict=True)},
        "accuracy": round(found.overall.value, 4),
    }
