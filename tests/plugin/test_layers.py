"""What runs made, on the map: colours as the backend said, nodata transparent, polygons on top."""

import os
import subprocess

import numpy as np
import pytest
from qgis.core import (
    QgsExpression,
    QgsExpressionContext,
    QgsFeature,
    QgsField,
    QgsGeometry,
    QgsNumericFormatContext,
    QgsPointXY,
    QgsRasterLayer,
    QgsRectangle,
    QgsRenderContext,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QVariant
from qgis.PyQt.QtGui import QColor

from rsfm_qgis import layers, painting
from rsfm_qgis.layers import errors
from rsfm_qgis.layers.classified import NO_CLASS
from rsfm_qgis.records import Output

CLASSES = [
    {"value": 1, "name": "Wheat", "colour": "#ff0000"},
    {"value": 2, "name": "Maize", "colour": "#0000ff"},
]


def pixels(layer, band=1):
    """Draw a raster layer one to one, as (red, green, blue, alpha) by row and column."""
    extent: QgsRectangle = layer.extent()
    height, width = layer.height(), layer.width()
    block = layer.renderer().block(band, extent, width, height)
    colours = [[block.color(row, column) for column in range(width)] for row in range(height)]
    return np.array([[_channels(colour) for colour in line] for line in colours])


def _channels(colour):
    alpha = colour >> 24 & 255
    return (colour >> 16 & 255, colour >> 8 & 255, colour & 255, alpha) if alpha else (0, 0, 0, 0)


def test_classes_have_the_colours_and_names_of_the_model_and_nodata_is_transparent(qgis_app, make_raster):
    path = make_raster(np.array([[[1, 2], [2, 255]]], "uint8"), nodata=255)
    layer = layers.make_layer(Output("classes", str(path), "Map", {"classes": CLASSES}))
    assert pixels(layer).tolist() == [[[255, 0, 0, 255], [0, 0, 255, 255]], [[0, 0, 255, 255], [0, 0, 0, 0]]]
    assert [entry.label for entry in layer.renderer().classes()] == ["Wheat", "Maize"]


def test_confidence_goes_from_the_dark_to_the_light_end_of_viridis(qgis_app, make_raster):
    path = make_raster(np.array([[[0.0, 1.0, np.nan]]], "float32"), nodata=float("nan"))
    layer = layers.make_layer(Output("confidence", str(path), "Confidence", {"minimum": 0, "maximum": 1}))
    dark, light, nothing = pixels(layer)[0]
    assert dark[:3].tolist() == [0x44, 0x01, 0x54]
    assert light[:3].tolist() == [0xFD, 0xE7, 0x25]
    assert nothing[3] == 0


def test_probability_has_a_style_for_each_class_and_shows_the_first(qgis_app, make_raster):
    path = make_raster(np.array([[[250, 0, 255]], [[0, 250, 255]]], "uint8"), nodata=255, scale=0.004)
    layer = layers.make_layer(Output("probability", str(path), "Probability", {"classes": CLASSES}))
    dark, light = [0x44, 0x01, 0x54], [0xFD, 0xE7, 0x25]
    assert layer.styleManager().styles() == ["Maize", "Wheat"]
    assert layer.styleManager().currentStyle() == "Wheat"
    for name, band, expected in (("Wheat", 1, [light, dark]), ("Maize", 2, [dark, light]), ("Wheat", 1, [light, dark])):
        layer.styleManager().setCurrentStyle(name)
        assert layer.renderer().band() == band
        assert (layer.renderer().classificationMin(), layer.renderer().classificationMax()) == (0, 1)
        assert pixels(layer)[0, :2, :3].tolist() == expected
        assert pixels(layer)[0, 2, 3] == 0
    assert layer.dataProvider().sample(layer.extent().center(), 1) == (0.0, True)


def test_magnitude_without_a_range_uses_the_one_of_the_pixels(qgis_app, make_raster):
    path = make_raster(np.array([[[3.0, 7.0]]], "float32"))
    layer = layers.make_layer(Output("magnitude", str(path), "Magnitude", {}))
    assert layer.renderer().classificationMin() == 3
    assert layer.renderer().classificationMax() == 7


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.0, 113.701075), ["0", "114"]),
        ((0.00012345, 1.5), ["0.000123", "1.5"]),
        ((-2.3456, 87654.3), ["-2.35", "87,700"]),
    ],
)
def test_legend_of_a_ramp_gives_its_ends_in_three_significant_digits(ends, said, qgis_app, make_raster):
    path = make_raster(np.array([[ends]], "float32"))
    layer = layers.make_layer(Output("magnitude", str(path), "Magnitude", {"minimum": ends[0], "maximum": ends[1]}))
    ramp = layer.renderer().shader().rasterShaderFunction()
    numbers = ramp.legendSettings().numericFormat()
    assert [numbers.formatDouble(value, QgsNumericFormatContext()) for value in ends] == said
    assert (ramp.minimumValue(), ramp.maximumValue()) == ends  # the colours are those of the numbers themselves


def test_unchanged_pixels_are_transparent(qgis_app, make_raster):
    path = make_raster(np.array([[[0, 1, 255]]], "uint8"), nodata=255)
    layer = layers.make_layer(Output("change", str(path), "Change", {}))
    assert pixels(layer)[0, :, 3].tolist() == [0, 255, 0]


def test_right_and_wrong_pixels_have_two_colours_and_the_rest_is_transparent(qgis_app, make_raster):
    path = make_raster(np.array([[[1, 2, 255]]], "uint8"), nodata=255)
    layer = layers.make_layer(Output("errors", str(path), "Errors", {}))
    assert [QColor(*colour).name() for colour in pixels(layer)[0, :2, :3].tolist()] == [errors.RIGHT, errors.WRONG]
    assert pixels(layer)[0, 2, 3] == 0
    assert [entry.label for entry in layer.renderer().classes()] == ["Right", "Wrong"]


def test_points_to_look_up_stand_out_until_they_have_a_class_and_hide_what_the_map_says(qgis_app):
    fields = "field=number:integer&field=class:string&field=mapped:string"
    layer = QgsVectorLayer(f"Point?crs=EPSG:32633&{fields}", "Points", "memory")
    for number, name in ((1, None), (2, "Wheat"), (3, "")):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([number, name, "Maize"])
        feature.setGeometry(QgsGeometry.fromPointXY(QgsPointXY(number, 0)))
        layer.dataProvider().addFeature(feature)
    classes = [{"value": "Wheat", "name": "Wheat", "colour": "#ff0000"}]
    layers.style_layer(layer, Output("sample_points", "", "Points", {"classes": classes}))
    rules = layer.renderer().rootRule().children()
    context = QgsExpressionContext()
    shown = {}
    for feature in layer.getFeatures():
        context.setFeature(feature)
        fitting = [rule.label() for rule in rules if QgsExpression(rule.filterExpression()).evaluate(context)]
        shown[feature["number"]] = fitting
    assert shown == {1: ["Class to be looked up"], 2: ["Class is known"], 3: ["Class to be looked up"]}
    assert layer.editorWidgetSetup(2).type() == "Hidden"
    assert layer.editorWidgetSetup(1).config() == {"map": [{"Wheat": "Wheat"}]}
    assert layer.labelsEnabled()


def test_embedding_stretches_each_component_over_its_own_range(qgis_app, make_raster):
    path = make_raster(np.array([[[-1, 1]], [[0, 10]], [[5, 6]]], "float32"))
    style = {"bands": [1, 2, 3], "ranges": [[-1, 1], [0, 10], [5, 6]]}
    layer = layers.make_layer(Output("embedding", str(path), "Embedding", style))
    assert pixels(layer)[0, :, :3].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_polygons_have_the_colours_of_the_classes(qgis_app, make_polygons):
    path = make_polygons([(0, 0, 2, 1), (4, 4, 2, 2)])
    layer = layers.make_layer(Output("polygons", str(path), "Polygons", {"classes": CLASSES}))
    assert {category.label() for category in layer.renderer().categories()} == {"Wheat", "Maize"}


def test_boxes_are_outlines_by_class_with_the_score_where_they_are_seen_large(qgis_app, make_polygons):
    path = make_polygons([(0, 0, 2, 1), (4, 4, 2, 2)])
    layer = QgsVectorLayer(str(path), "Boxes")
    layer.addExpressionField("0.876", QgsField("score", QVariant.Double))
    layers.style_layer(layer, Output("boxes", str(path), "Objects", {"classes": CLASSES, "label_scale": 800}))
    assert {category.label() for category in layer.renderer().categories()} == {"Wheat", "Maize"}
    for category in layer.renderer().categories():
        assert category.symbol().symbolLayer(0).fillColor().alpha() == 0
    outline = {
        each.label(): each.symbol().symbolLayer(0).strokeColor().name() for each in layer.renderer().categories()
    }
    assert outline == {"Wheat": "#ff0000", "Maize": "#0000ff"}
    settings = layer.labeling().settings()
    feature = next(layer.getFeatures())
    context = QgsExpressionContext()
    context.setFeature(feature)
    assert QgsExpression(settings.fieldName).evaluate(context) == 0.88
    assert (settings.scaleVisibility, settings.minimumScale) == (True, 800)
    assert layer.labelsEnabled()


def test_attributes_of_polygons_have_names_that_a_person_reads(qgis_app, make_polygons):
    fields = {"class": "Class number", "name": "Class", "area_m2": "Area, m²", "confidence": "Mean confidence"}
    for field, title in fields.items():
        path = make_polygons([(0, 0, 2, 1)], field, f"{field}.gpkg")
        layer = layers.make_layer(Output("polygons", str(path), "Polygons", {"classes": CLASSES}))
        assert layer.attributeDisplayName(layer.fields().indexFromName(field)) == title
    assert (
        layers.make_layer(
            Output("polygons", str(make_polygons([(0, 0, 2, "Wheat")], "name", "n.gpkg")), "Polygons", {})
        ).displayExpression()
        == '"name"'
    )


def test_classified_polygons_are_shown_by_the_name_of_their_class_and_the_rest_in_grey(qgis_app, make_polygons):
    path = make_polygons([(0, 0, 2, "Wheat"), (4, 4, 2, "Maize"), (8, 8, 2, None)], "predicted_2")
    classes = [{**entry, "value": entry["name"]} for entry in CLASSES]
    style = {"field": "predicted_2", "classes": classes}
    layer = layers.make_layer(Output("classified", str(path), "Polygons", style))
    renderer = layer.renderer()
    context = QgsRenderContext()
    renderer.startRender(context, layer.fields())
    found = {}
    for feature in layer.getFeatures():
        found[feature["predicted_2"] or ""] = renderer.symbolForFeature(feature, context).color().name()
    renderer.stopRender(context)
    assert found == {"Wheat": "#ff0000", "Maize": "#0000ff", "": NO_CLASS}
    assert [category.label() for category in renderer.categories()] == ["Wheat", "Maize", "No class"]


def test_arrows_of_a_shift_are_coloured_where_they_count_and_grey_where_not(qgis_app):
    layer = QgsVectorLayer("LineString?field=counts:integer&field=length_px:double", "Shift", "memory")
    layers.style_layer(layer, Output("shift_arrows", "shift.gpkg", "Shift", {}))
    colours = {each.value(): each.symbol().color().name() for each in layer.renderer().categories()}
    assert colours == {1: painting.OKABE_ITO[5], 0: NO_CLASS}


def test_arrows_of_a_shift_are_hidden_beside_changes_and_shown_alone(qgis_app):
    kind = layers.kind_of(Output("shift_arrows", "shift.gpkg", "Shift", {}))
    assert kind.is_shown({"shift_arrows"})
    assert not kind.is_shown({"shift_arrows", "change", "magnitude"})


def test_a_date_on_the_grid_of_another_is_shown_as_qgis_shows_it(qgis_app, make_raster):
    path = make_raster(np.array([[[10.0, 200.0]], [[1.0, 2.0]], [[3.0, 4.0]]], "float32"))
    layer = layers.make_layer(Output("aligned", str(path), "Later raster", {}))
    assert layer.isValid()
    assert (
        layers.kind_of(Output("aligned", str(path), "Later raster", {})).order
        > layers.kind_of(Output("magnitude", str(path), "Magnitude", {})).order
    )


def test_blocks_are_shown_by_their_part(qgis_app, make_polygons):
    path = make_polygons([(0, 0, 2, "train"), (4, 4, 2, "test")], "part")
    layer = layers.make_layer(Output("split", str(path), "Blocks", {}))
    assert [category.value() for category in layer.renderer().categories()] == ["test", "train"]


@pytest.mark.parametrize("reverse", [False, True])
def test_group_of_a_run_lies_on_top_with_polygons_above_rasters(project, make_raster, make_polygons, reverse):
    project.addMapLayer(QgsRasterLayer(str(make_raster(np.zeros((1, 2, 2), "uint8"), "under.tif")), "under"))
    change = make_raster(np.ones((1, 2, 2), "uint8"), "change.tif")
    magnitude = make_raster(np.ones((1, 2, 2), "float32"), "magnitude.tif")
    outputs = [
        Output("change", str(change), "Change", {}),
        Output("magnitude", str(magnitude), "Magnitude", {}),
        Output("change_polygons", str(make_polygons([(0, 0, 1, 1)])), "Outlines", {}),
        Output("model", str(change.with_suffix(".safetensors")), "Model", {}),
    ]
    group = layers.add_outputs(project, "My run", outputs[::-1] if reverse else outputs)
    assert project.layerTreeRoot().children()[0] == group
    assert group.name() == "My run"
    assert [node.name() for node in group.findLayers()] == ["Outlines", "Change", "Magnitude"]
    assert [node.itemVisibilityChecked() for node in group.findLayers()] == [True, True, False]


def test_run_without_layers_adds_no_group(project, tmp_path):
    assert layers.add_outputs(project, "Run", [Output("model", str(tmp_path / "m.safetensors"), "Model", {})]) is None
    assert not project.layerTreeRoot().children()


def test_unknown_kind_is_shown_as_qgis_shows_it(qgis_app, make_raster):
    path = make_raster(np.ones((1, 2, 2), "float32"))
    assert layers.make_layer(Output("heat", str(path), "Heat", {})).isValid()


def test_file_that_is_gone_makes_no_layer(qgis_app, tmp_path):
    assert layers.make_layer(Output("classes", str(tmp_path / "gone.tif"), "Map", {"classes": CLASSES})) is None


def test_layer_remembers_where_it_came_from(qgis_app, make_raster):
    path = make_raster(np.ones((1, 2, 2), "uint8"))
    layer = layers.make_layer(Output("change", str(path), "Change", {}), "RSFM 0.1.0, detect_change")
    assert layer.metadata().history() == ["RSFM 0.1.0, detect_change"]


def test_change_has_a_colour_that_no_class_is_given():
    assert painting.CHANGED not in painting.OKABE_ITO


def test_similarity_goes_from_the_lowest_to_the_highest_shown(qgis_app, make_raster):
    path = make_raster(np.array([[[0.25, 0.875, np.nan]]], "float32"), nodata=float("nan"))
    layer = layers.make_layer(Output("similarity", str(path), "Similarity", {"minimum": 0.25, "maximum": 0.875}))
    dark, light, nothing = pixels(layer)[0]
    assert dark[:3].tolist() == [0x44, 0x01, 0x54]
    assert light[:3].tolist() == [0xFD, 0xE7, 0x25]
    assert nothing[3] == 0


def test_picture_of_an_embedding_is_not_stretched(qgis_app, make_raster):
    path = make_raster(np.array([[[10, 200, 0]], [[20, 30, 0]], [[90, 80, 0]]], "uint8"), nodata=0)
    layer = layers.make_layer(Output("embedding_picture", str(path), "Colours", {}))
    assert pixels(layer)[0].tolist() == [[10, 20, 90, 255], [200, 30, 80, 255], [0, 0, 0, 0]]


def test_index_is_on_the_map_but_not_looked_at(project, make_raster):
    outputs = [
        Output("search_index", str(make_raster(np.zeros((4, 2, 2), "float32"), "index.tif")), "Index", {}),
        Output("embedding", str(make_raster(np.zeros((3, 2, 2), "float32"), "embedding.tif")), "Embedding", {}),
    ]
    group = layers.add_outputs(project, "Run", outputs)
    assert [(node.name(), node.itemVisibilityChecked()) for node in group.findLayers()] == [
        ("Embedding", True),
        ("Index", False),
    ]


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_embedding_of_fewer_bits_shows_its_true_values(qgis_app, tmp_path, storage):
    """The file is one that the backend's own writer made."""
    path = tmp_path / "embedding.tif"
    subprocess.run([os.environ["RSFM_PYTHON"], "-E", "-s", "-c", WRITE_CODED, str(path), storage], check=True)
    layer = layers.make_layer(
        Output("embedding", str(path), "Embedding", {"bands": [1, 2, 3], "ranges": [[-1, 1]] * 3})
    )
    for band in range(3):
        block = layer.dataProvider().block(band + 1, layer.extent(), 8, 8)
        found = [block.value(0, column) for column in range(8)]
        true = [(band + 1) * (column - 3.3) for column in range(8)]
        step = 0.0 if storage == "float16" else (band + 1) * 4.7 * 1.1 / 127
        assert found == pytest.approx(true, rel=2**-11, abs=step / 2)
        assert block.isNoData(1, 0)
        assert not block.isNoData(0, 0)


WRITE_CODED = """
import sys
from pathlib import Path
import os
import subprocess

import numpy as np
from affine import Affine
from rsfm.outputs.embedding import Embedding
from rsfm.raster.coding import stored_as
from rsfm.raster.grid import Grid
from rsfm.raster.writer import RasterWriter

values_KHW = (np.arange(8) - 3.3)[None, None] * np.arange(1, 4)[:, None, None] * np.ones((1, 8, 1))
coding = stored_as(Embedding, sys.argv[2], np.abs(values_KHW).max((1, 2)))
valid_HW = np.ones((8, 8), bool)
valid_HW[1] = False
grid = Grid(None, Affine(10, 0, 500000, 0, -10, 5100000), 8, 8)
with RasterWriter(Path(sys.argv[1]), coding.kind, grid, 3, scaling=coding.scaling) as writer:
    writer.write(coding.encode(values_KHW.astype(np.float32), valid_HW))
"""
