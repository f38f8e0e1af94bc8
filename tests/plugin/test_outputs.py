"""Every output of real jobs opens in QGIS as it should: colours, legend, CRS, nodata, pyramids; several dates in time.

A new kind of output needs an entry in `KINDS`, and a run in `real_outputs.py` that makes it.
"""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import ROOT
from osgeo import gdal
from qgis.core import (
    QgsColorRampLegendNode,
    QgsDateTimeRange,
    QgsLayerTree,
    QgsLayerTreeModel,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsNumericFormatContext,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QDateTime, QSize, Qt
from qgis.PyQt.QtGui import QColor

from rsfm_qgis import layers, painting
from rsfm_qgis.records import Output, read_record

DATA = Path(os.environ.get("RSFM_TEST_DATA", ROOT.parent / "shared" / "data"))
RUNS = (
    "segment", "embed", "find_similar", "detect_change", "refine_change", "classify", "detect_objects", "finetune",
    "several", "several_embedded", "change_over_time",
)  # fmt: skip
BLOCK = 512
SUFFIXES = layers.RASTER_SUFFIXES | layers.VECTOR_SUFFIXES
NO_LAYER = {"search_index"}
"""Kinds that are for other jobs rather than for the eye."""
TRANSPARENT = (0, 0, 0, 0)


class Kind(NamedTuple):
    """How an output must look.

    Attributes:
        paint: computes red, green, blue and alpha of values_CHW, NaN where nodata, as the style says; None for vectors.
        legend: the texts of the legend.
        colours: of the lines and areas of vectors.
    """

    paint: Callable[[np.ndarray, dict[str, Any]], np.ndarray] | None
    legend: Callable[[dict[str, Any]], list[str]]
    colours: Callable[[dict[str, Any]], Sequence[str]] = lambda style: [each["colour"] for each in style["classes"]]


def paint_classes(classes):
    def paint(values_CHW, _style):
        found = np.zeros((*values_CHW.shape[1:], 4))
        for value, colour in classes:
            found[values_CHW[0] == value] = QColor(colour).getRgb()
        return found

    return paint


def paint_style_classes(values_CHW, style):
    return paint_classes([(each["value"], each["colour"]) for each in style["classes"]])(values_CHW, style)


def paint_ramp(values_CHW, style):
    part = (values_CHW[0] - style["minimum"]) / (style["maximum"] - style["minimum"])
    stops = np.array([QColor(colour).getRgb() for colour in painting.VIRIDIS], float)
    places = np.clip(np.nan_to_num(part), 0, 1) * (len(stops) - 1)
    found = np.stack([np.interp(places, np.arange(len(stops)), stops[:, channel]) for channel in range(4)], axis=-1)
    found[np.isnan(part)] = TRANSPARENT
    return found


def paint_colours(values_CHW, style):
    found = np.full((*values_CHW.shape[1:], 4), 255.0)
    for channel, (band, (low, high)) in enumerate(zip(style["bands"], style["ranges"])):
        found[..., channel] = np.clip((values_CHW[band - 1] - low) / (high - low), 0, 1) * 255
    found[np.isnan(values_CHW[0])] = TRANSPARENT
    return found


def paint_bytes(values_CHW, _style):
    return paint_colours(values_CHW, {"bands": [1, 2, 3], "ranges": [(0, 255)] * 3})


def paint_likeness(values_CHW, style):
    cut, found = style["cuts"][round(style["show"] * 10) - 1], np.zeros((*values_CHW.shape[1:], 4))
    for place, kind in enumerate(style["kinds"]):
        found[(values_CHW[0] > place + cut) & (values_CHW[0] <= place + 1)] = QColor(kind["colour"]).getRgb()
    return found


def changes(style):
    """The one class of a map of changes: of no class, or of a date."""
    return style.get("classes") or [{"value": 1, "name": "Changed", "colour": painting.CHANGED}]


def paint_change(values_CHW, style):
    return paint_style_classes(values_CHW, {"classes": changes(style)})


def class_names(style):
    return [each["name"] for each in style["classes"]]


KINDS = {
    "classes": Kind(paint_style_classes, class_names),
    "confidence": Kind(paint_ramp, lambda style: [*ends(style)]),
    "magnitude": Kind(paint_ramp, lambda style: [*ends(style)]),
    "change": Kind(paint_change, lambda style: [each["name"] for each in changes(style)]),
    "first_change": Kind(paint_style_classes, class_names),
    "change_count": Kind(paint_style_classes, class_names),
    "embedding": Kind(paint_colours, lambda style: [f"PC{band}" for band in style["bands"]]),
    "probability": Kind(lambda values, _: paint_ramp(values, {"minimum": 0, "maximum": 1}), lambda _: ["0", "1"]),
    "similarity": Kind(paint_ramp, lambda style: [*ends(style)]),
    "likeness": Kind(paint_likeness, lambda style: [each["name"] for each in style["kinds"]]),
    "embedding_picture": Kind(paint_bytes, lambda _: []),
    "polygons": Kind(None, class_names),
    "change_polygons": Kind(None, lambda _: [], lambda _: ["#cc79a7"]),
    "boxes": Kind(None, class_names),
    "classified": Kind(None, lambda style: [*class_names(style), "No class"]),
    "split": Kind(None, lambda _: ["test", "train"], lambda _: painting.OKABE_ITO[:2]),
}  # fmt: skip


def ends(style):
    return [f"{style['minimum']:.3g}", f"{style['maximum']:.3g}"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of the runs."""
    if not (DATA / "s2_slovenia").is_dir():
        pytest.skip(f"the test rasters are not there: {DATA} (set RSFM_TEST_DATA)")
    work = tmp_path_factory.mktemp("outputs")
    script = Path(__file__).with_name("real_outputs.py")
    done = subprocess.run(
        [os.environ["RSFM_PYTHON"], str(script), str(DATA), str(work)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return work


def outputs(made, *names):
    return [output for name in names or RUNS for output in read_record(made / name).outputs]


def each_once(made):
    """One output of every kind and file name, the first."""
    found = [output for output in reversed(outputs(made)) if Path(output.path).suffix in SUFFIXES]
    return {(output.kind, Path(output.path).name): output for output in found if output.kind not in NO_LAYER}


def render(layer, moment=None):
    """Draw a layer pixel by pixel as the canvas does, as rgba_HWC."""
    settings = QgsMapSettings()
    settings.setLayers([layer] if not isinstance(layer, list) else layer)
    first = layer if not isinstance(layer, list) else layer[0]
    settings.setDestinationCrs(first.crs())
    settings.setExtent(first.extent())
    size = QSize(first.width(), first.height()) if isinstance(first, QgsRasterLayer) else QSize(300, 300)
    settings.setOutputSize(size)
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    settings.setFlag(QgsMapSettings.Flag.Antialiasing, False)
    if moment is not None:
        settings.setIsTemporal(True)
        settings.setTemporalRange(moment)
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage().convertToFormat(job.renderedImage().Format.Format_RGBA8888)
    data = image.constBits()
    data.setsize(image.byteCount())
    lines = np.frombuffer(bytes(data), np.uint8).reshape(image.height(), image.bytesPerLine())
    return lines[:, : image.width() * 4].reshape(image.height(), image.width(), 4).astype(float)


def read(path):
    """Read values_CHW as QGIS shows them, NaN for nodata; and the dataset's nodata and CRS."""
    dataset = gdal.Open(path)
    values_CHW = dataset.ReadAsArray().astype(float).reshape(dataset.RasterCount, dataset.RasterYSize, -1)
    nodata = dataset.GetRasterBand(1).GetNoDataValue()
    values_CHW[values_CHW == nodata] = np.nan
    for number, band_HW in enumerate(values_CHW, start=1):
        band = dataset.GetRasterBand(number)
        band_HW *= band.GetScale() or 1
        band_HW += band.GetOffset() or 0
    return values_CHW, nodata, dataset.GetProjection()


def legend(layer):
    """The texts of a layer's legend, as the layer panel shows them; of a colour ramp, its ends."""
    tree, texts = QgsLayerTree(), []
    model = QgsLayerTreeModel(tree)
    for node in model.layerLegendNodes(tree.addLayer(layer)):
        if isinstance(node, QgsColorRampLegendNode):
            shader = layer.renderer().shader().rasterShaderFunction()
            numbers = shader.legendSettings().numericFormat()
            values = shader.minimumValue(), shader.maximumValue()
            texts += [numbers.formatDouble(value, QgsNumericFormatContext()) for value in values]
        else:
            texts.append(str(node.data(Qt.ItemDataRole.DisplayRole) or ""))
    return texts


def test_every_kind_that_the_jobs_make_is_looked_at(qgis_app, made):
    assert {kind for kind, _ in each_once(made)} == set(KINDS)


def test_every_raster_has_the_colours_of_its_style_and_nodata_is_transparent(qgis_app, made):
    for (kind, name), output in each_once(made).items():
        if KINDS[kind].paint is None:
            continue
        layer = layers.make_layer(output)
        values_CHW, _, _ = read(output.path)
        expected, found = KINDS[kind].paint(values_CHW, output.style), render(layer)
        assert np.isnan(values_CHW[0]).any(), name
        assert (found[np.isnan(values_CHW[0])][:, 3] == 0).all(), name
        assert (np.abs(found - expected).max(axis=-1) <= 4).mean() > 0.999, name


def test_every_raster_has_crs_nodata_and_pyramids(qgis_app, made):
    for (_, name), output in each_once(made).items():
        layer = layers.make_layer(output)
        if not isinstance(layer, QgsRasterLayer):
            continue
        provider, (_, nodata, projection) = layer.dataProvider(), read(output.path)
        assert layer.crs().isValid(), name
        assert layer.crs().toWkt() == type(layer.crs())(projection).toWkt(), name
        assert layer.crs().authid() == "EPSG:32633", name
        assert provider.sourceHasNoDataValue(1), name
        assert np.array_equal(provider.sourceNoDataValue(1), nodata, equal_nan=True), name
        if max(layer.width(), layer.height()) > BLOCK:
            assert provider.hasPyramids(), name
            assert any(pyramid.getExists() if hasattr(pyramid, "getExists") else pyramid.exists
                       for pyramid in provider.buildPyramidList()), name  # fmt: skip


def test_every_legend_names_what_is_seen(qgis_app, made):
    for (kind, name), output in each_once(made).items():
        texts = legend(layers.make_layer(output))
        for wanted in KINDS[kind].legend(output.style):
            assert any(wanted in text for text in texts), f"{name}: {wanted} is not in {texts}"


def test_vectors_have_the_crs_and_are_seen(qgis_app, made):
    for (kind, name), output in each_once(made).items():
        if KINDS[kind].paint is None:
            layer = layers.make_layer(output)
            assert layer.crs().authid() == "EPSG:32633", name
            assert layer.featureCount() > 0, name
            seen = render(layer)
            colours = {tuple(colour[:3]) for colour in seen[seen[..., 3] == 255].astype(int).reshape(-1, 4)}
            assert colours & {QColor(colour).getRgb()[:3] for colour in KINDS[kind].colours(output.style)}, name


def test_dates_are_one_group_with_the_newest_on_top_and_one_legend_open(project, made):
    groups = list(layers.add_run(project, made / "several"))
    nodes = groups[-1].findLayers()
    assert len(project.layerTreeRoot().findGroups()) == 1
    assert [node.name() for node in nodes[:3]] == [
        f"Classes of S2_{date}" for date in ("20150909", "20150830", "20150711")
    ]
    assert [node.isExpanded() for node in nodes[:3]] == [True, False, False]
    assert len({node.layer().renderer().classes()[0].color.name() for node in nodes[:3]}) == 1
    assert not list(layers.add_run(project, made / "several")) or len(groups[-1].findLayers()) == len(nodes)


def test_embeddings_of_all_dates_have_the_same_colours(qgis_app, made):
    styles = [output.style for output in outputs(made, "several_embedded") if output.kind == "embedding"]
    assert len(styles) == 3
    assert styles[0] == styles[1] == styles[2]


@pytest.mark.parametrize("run", ["several", "several_embedded"])
def test_time_slider_shows_the_layer_of_its_day(project, made, run):
    list(layers.add_run(project, made / run))
    kind = {"several": "classes", "several_embedded": "embedding"}[run]
    dated = {output.date: output for output in outputs(made, run) if output.kind == kind}
    assert sorted(dated) == ["2015-07-11", "2015-08-30", "2015-09-09"]
    by_path = {layer.source(): layer for layer in QgsProject.instance().mapLayers().values()}
    shown = [by_path[output.path] for output in dated.values()]
    alone = {date: render(by_path[output.path]) for date, output in dated.items()}
    for date in dated:
        assert np.array_equal(render(shown, day(date)), alone[date]), date
        assert alone[date][..., 3].any()
    assert not render(shown, day("2015-08-01"))[..., 3].any()
    whole = project.timeSettings().temporalRange()
    assert whole.begin().toString("yyyy-MM-dd") == "2015-07-11"
    assert whole.end().toString("yyyy-MM-dd") == "2015-09-10"


def test_changes_over_time_are_summed_up_on_top_and_played_date_by_date(project, made):
    groups = list(layers.add_run(project, made / "change_over_time"))
    nodes = groups[-1].findLayers()
    found = outputs(made, "change_over_time")
    assert [node.name() for node in nodes] == [
        "Date of first change", "Difference \u00b7 2015-09-09", "Difference \u00b7 2015-08-30", "Count of changes",
        "Largest magnitude of difference",
    ]  # fmt: skip
    assert [node.itemVisibilityChecked() for node in nodes] == [True, True, True, False, False]
    assert nodes[0].isExpanded()
    assert legend(nodes[0].layer())[-2:] == ["2015-08-30", "2015-09-09"]
    by_path = {node.layer().source(): node.layer() for node in nodes}
    dated = {output.date: by_path[output.path] for output in found if output.kind == "change"}
    shown = [node.layer() for node in nodes if node.itemVisibilityChecked()]
    for date, layer in dated.items():
        assert np.array_equal(render(shown, day(date)), render(layer)), date
        assert render(layer)[..., 3].any()
    assert np.array_equal(render(shown), render(shown[0])), "a later change covers the first one"
    assert not render(shown, day("2015-09-01"))[..., 3].any()


def test_time_range_that_the_user_chose_stays(project, made):
    chosen = day("2020-01-01")
    project.timeSettings().setTemporalRange(chosen)
    list(layers.add_run(project, made / "several"))
    assert project.timeSettings().temporalRange() == chosen


def test_a_year_or_a_month_is_as_long_as_it_is(qgis_app):
    from rsfm_qgis.layer_time import time_of

    for date, end in (("2015", "2016-01-01"), ("2015-02", "2015-03-01"), ("2015-02-28T10:23:00", "2015-03-01")):
        found = time_of(date)
        assert found.end().toString("yyyy-MM-dd") == end
        assert not found.includeEnd()
    assert time_of("") is None
    assert time_of("2015-13-01") is None


def day(date):
    """A frame of an hour on a day, as the time slider asks for it."""
    begin = QDateTime.fromString(f"{date}T12:00:00Z", Qt.DateFormat.ISODate)
    return QgsDateTimeRange(begin, begin.addSecs(3600), True, False)


def test_output_without_a_date_is_always_seen(qgis_app, make_raster):
    path = make_raster(np.ones((1, 4, 4), "uint8"))
    layer = layers.make_layer(Output("change", str(path), "Change", {}))
    assert not layer.temporalProperties().isActive()
    assert render(layer, day("2015-08-01"))[..., 3].all()


def test_every_row_of_the_layer_panel_says_what_it_shows_and_an_only_band_is_not_called_gray(project, made):
    model = QgsLayerTreeModel(project.layerTreeRoot())
    for (kind, name), output in each_once(made).items():
        group = layers.add_outputs(project, name, [output])
        (node,) = group.findLayers()
        rows = model.layerLegendNodes(node)
        texts = [str(row.data(Qt.ItemDataRole.DisplayRole) or "") for row in rows]
        ramps = [row for row in rows if isinstance(row, QgsColorRampLegendNode)]
        is_single = not isinstance(node.layer(), QgsRasterLayer) and len(rows) == 1
        assert is_single or sum(not text for text in texts) == len(ramps), f"{name}: {texts}"
        assert len(texts) == 3 or not any("Gray" in text for text in texts), f"{name}: {texts}"
        assert ramps or is_single or rows, name
        assert KINDS[kind].paint is not paint_ramp or ramps, name
