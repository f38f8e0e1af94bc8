"""Draws the points to look up on a map of classes, and writes them."""

from typing import Any

from rsfm.errors import UserError
from rsfm.evaluation.class_names import read_names
from rsfm.evaluation.mapped import values_of
from rsfm.evaluation.sample import allocate, draw, measure, write_points
from rsfm.jobs.draw_sample import DrawSampleConfig
from rsfm.raster.area import read_area
from rsfm.raster.labels import choose_colours
from rsfm.raster.reader import open_raster
from rsfm.runs import Run

FILE = "sample.gpkg"


def draw_sample(config: DrawSampleConfig, run: Run) -> dict[str, Any]:
    """Draw points in each class and write them as a layer."""
    with open_raster(config.raster, numbers=[1]) as raster:
        names = read_names(raster, config.class_names)
        area = read_area(raster.grid, config.area)
        values = values_of(raster, area)
        if not values:
            raise UserError(f"'{raster.name}' has no class there. Choose another 'Map' or 'Area'.", "raster")
        run.progress(0.2, "Measuring the classes")
        strata = measure(raster, area, values, run.check)
        count_S = allocate(strata, config.points, config.fewest)
        run.progress(0.6, "Drawing points")
        drawn = draw(raster, area, strata, count_S, config.seed, run.check)
        called = [names.get(value, str(value)) for value in values]
        path = run.outputs / FILE
        write_points(path, drawn, called, raster.grid)
    colours = choose_colours(tuple(called), {})
    classes = [{"value": name, "name": name, "colour": colour} for name, colour in zip(called, colours, strict=True)]
    run.output("sample_points", path, "Points to look up", classes=classes)
    sentence = (
        f"{len(drawn.rows_N):,} points in {len(called)} classes. Fill in the true class of each, in their order, then "
        "choose the layer in 'Estimate Areas'."
    )
    return {"sentence": sentence, "points": dict(zip(called, count_S.tolist(), strict=True))}
