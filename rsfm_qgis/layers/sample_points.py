"""Points whose true class is to be looked up: those without one stand out, with their numbers.

What the map says of them is not shown: who labels must not know.
"""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsEditorWidgetSetup,
    QgsMapLayer,
    QgsMarkerSymbol,
    QgsPalLayerSettings,
    QgsRuleBasedRenderer,
    QgsVectorLayerSimpleLabeling,
)
from qgis.PyQt.QtCore import QCoreApplication

from rsfm_qgis import painting
from rsfm_qgis.layer_kind import LayerKind

OPEN, DONE = "#e6007e", "#0072b2"


class SamplePoints(LayerKind):
    order = 5
    is_unfolded = True

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        root = QgsRuleBasedRenderer.Rule(None)
        done = '"class" IS NOT NULL AND "class" <> \'\''
        for rule, label, colour in (
            (f"NOT ({done})", QCoreApplication.translate("SamplePoints", "Class to be looked up"), OPEN),
            (done, QCoreApplication.translate("SamplePoints", "Class is known"), DONE),
        ):
            root.appendChild(QgsRuleBasedRenderer.Rule(_cross(colour), filterExp=rule, label=label))
        layer.setRenderer(QgsRuleBasedRenderer(root))
        _label(layer)
        _offer_classes(layer, painting.read_classes(style))


def _cross(colour: str) -> QgsMarkerSymbol:
    """Make a cross whose middle is free, so that the pixel can be seen."""
    return QgsMarkerSymbol.createSimple(
        {"name": "cross", "color": colour, "outline_color": colour, "outline_width": "0.6", "size": "5"}
    )


def _label(layer: Any) -> None:
    settings = QgsPalLayerSettings()
    settings.fieldName = "number"
    settings.setFormat(painting.label_format())
    layer.setLabeling(QgsVectorLayerSimpleLabeling(settings))
    layer.setLabelsEnabled(True)


def _offer_classes(layer: Any, classes: list[painting.Class]) -> None:
    """Let the class be chosen from those of the map, and hide what the map says."""
    fields = layer.fields()
    index = fields.indexFromName("class")
    if index >= 0 and classes:
        choices = [{each.name: each.name} for each in classes]
        layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup("ValueMap", {"map": choices}))
    hidden = fields.indexFromName("mapped")
    if hidden >= 0:
        layer.setEditorWidgetSetup(hidden, QgsEditorWidgetSetup("Hidden", {}))
