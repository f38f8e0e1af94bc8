"""Paints layers: palettes, colour ramps, fills. Colours are Okabe and Ito's and viridis, for every eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from qgis.core import (
    QgsBasicNumericFormat,
    QgsCategorizedSymbolRenderer,
    QgsColorRampLegendNodeSettings,
    QgsColorRampShader,
    QgsFillSymbol,
    QgsGradientColorRamp,
    QgsGradientStop,
    QgsPalettedRasterRenderer,
    QgsRasterLayer,
    QgsRasterShader,
    QgsRasterTransparency,
    QgsRendererCategory,
    QgsSingleBandPseudoColorRenderer,
    QgsSingleSymbolRenderer,
    QgsTextBufferSettings,
    QgsTextFormat,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")
VIRIDIS = ("#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90d743", "#fde725")
CHANGED = "#e6007e"  # of no class: not one of Okabe and Ito's
LEGEND_STEPS, LEGEND_DIGITS = 5, 3
LOWEST = -3.5e38  # below what a float32 can be


class Class(NamedTuple):
    """A value on the map, what it is called and its colour."""

    value: Any
    name: str
    colour: str


def read_classes(style: dict[str, Any]) -> list[Class]:
    """Read the classes of a style; one without a colour gets the next of Okabe and Ito's."""
    return [
        Class(entry["value"], str(entry["name"]), entry.get("colour") or OKABE_ITO[index % len(OKABE_ITO)])
        for index, entry in enumerate(style.get("classes") or [])
    ]


def paint_classes(layer: QgsRasterLayer, classes: Sequence[Class]) -> None:
    """Show one band as classes; values that are none stay transparent."""
    entries = [QgsPalettedRasterRenderer.Class(each.value, QColor(each.colour), each.name) for each in classes]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))


def paint_ramp(layer: QgsRasterLayer, low: float, high: float, band: int = 1) -> None:
    """Show one band in viridis; the legend gives the ends in three significant digits."""
    stops = [
        QgsGradientStop(index / (len(VIRIDIS) - 1), QColor(VIRIDIS[index])) for index in range(1, len(VIRIDIS) - 1)
    ]
    ramp = QgsGradientColorRamp(QColor(VIRIDIS[0]), QColor(VIRIDIS[-1]), False, stops)
    colours = QgsColorRampShader(low, high, ramp)
    colours.classifyColorRamp(LEGEND_STEPS)
    colours.setLegendSettings(_legend_settings())
    shader = QgsRasterShader()
    shader.setRasterShaderFunction(colours)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), band, shader)
    renderer.setClassificationMin(low)
    renderer.setClassificationMax(high)
    layer.setRenderer(renderer)


def _legend_settings() -> QgsColorRampLegendNodeSettings:
    numbers = QgsBasicNumericFormat()
    numbers.setRoundingType(QgsBasicNumericFormat.RoundingType.SignificantFigures)
    numbers.setNumberDecimalPlaces(LEGEND_DIGITS)
    settings = QgsColorRampLegendNodeSettings()
    settings.setNumericFormat(numbers)
    return settings


def hide_up_to(layer: QgsRasterLayer, cut: float | None) -> None:
    """Hide the values of a layer of one band up to a cut; None shows all.

    Colours and legend stay, and with the legend the widgets in it: the renderer is not a new one.
    """
    hidden = QgsRasterTransparency.TransparentSingleValuePixel()
    hidden.min, hidden.max = LOWEST, LOWEST if cut is None else cut
    hidden.percentTransparent, hidden.opacity = 100.0, 0.0  # its name until QGIS 3.36, and since
    old = layer.renderer().rasterTransparency()
    others = [] if old is None else [each for each in old.transparentSingleValuePixelList() if each.min != LOWEST]
    transparency = QgsRasterTransparency()
    transparency.setTransparentSingleValuePixelList(others if cut is None else [hidden, *others])
    layer.renderer().setRasterTransparency(transparency)


def paint_polygons(layer: QgsVectorLayer, field: str, classes: Sequence[Class], opacity: float = 0.35) -> None:
    """Show polygons by the value of an attribute, as a thin outline around a light fill."""
    categories = [QgsRendererCategory(each.value, outline(each.colour, opacity), each.name) for each in classes]
    layer.setRenderer(QgsCategorizedSymbolRenderer(field, categories))


def paint_outlines(layer: QgsVectorLayer, colour: str) -> None:
    """Show all polygons as outlines."""
    layer.setRenderer(QgsSingleSymbolRenderer(outline(colour, 0.0)))


def label_format() -> QgsTextFormat:
    """Return small dark letters with a light rim, which can be read on any imagery."""
    rim = QgsTextBufferSettings()
    rim.setEnabled(True)
    rim.setColor(QColor("#ffffff"))
    rim.setSize(0.8)
    letters = QgsTextFormat()
    letters.setSize(8)
    letters.setColor(QColor("#000000"))
    letters.setBuffer(rim)
    return letters


def outline(colour: str, opacity: float) -> QgsFillSymbol:
    """Make an outline of half a millimetre around a fill of that opacity."""
    fill = QColor(colour)
    fill.setAlphaF(opacity)
    channels = f"{fill.red()},{fill.green()},{fill.blue()},{fill.alpha()}"
    return QgsFillSymbol.createSimple({"color": channels, "outline_color": colour, "outline_width": "0.5"})


def paint_likeness(layer: QgsRasterLayer, kinds: Sequence[Class], cut: float) -> None:
    """Show where a kind is likelier than the cut, in its colour: kind 1 between 0 and 1, kind 2 between 1 and 2 ..."""
    colours = QgsColorRampShader(0.0, float(len(kinds)), None, QgsColorRampShader.Type.Discrete)
    clear = QColor(0, 0, 0, 0)
    steps = []
    for place, kind in enumerate(kinds):
        steps.append(QgsColorRampShader.ColorRampItem(place + cut, clear, ""))
        steps.append(QgsColorRampShader.ColorRampItem(float(place + 1), QColor(kind.colour), kind.name))
    colours.setColorRampItemList(steps)
    shader = QgsRasterShader()
    shader.setRasterShaderFunction(colours)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), 1, shader)
    renderer.setClassificationMin(0.0)
    renderer.setClassificationMax(float(len(kinds)))
    layer.setRenderer(renderer)
