"""A copy of labels as they are drawn now, edits that are not saved among them, for the backend to read.

GeoJSON, because it is written in one go and replaced as a whole; the class's colour goes along.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsFeature,
    QgsFeatureRequest,
    QgsRenderContext,
    QgsVectorLayer,
)

DIGITS = 10
COLOUR = "color"
FEATURES_A_STEP = 20


def write_copy(layer: QgsVectorLayer, field: str, path: Path) -> Iterator[None]:
    """Write the labels of a layer, some at each step; the file stands at its path after the last."""
    colours = _Colours(layer)
    parts: list[str] = []
    fields = layer.fields()
    index = fields.indexFromName(field)
    request = QgsFeatureRequest()
    for number, feature in enumerate(layer.getFeatures(request)):
        if index >= 0 and feature.hasGeometry():
            value = _plain(feature.attribute(index))
            properties = {field: value}
            if field.lower() not in {"color", "colour"} and value is not None:
                properties[COLOUR] = colours.of(value, feature)
            geometry = feature.geometry().asJson(DIGITS)
            parts.append(f'{{"type":"Feature","properties":{json.dumps(properties)},"geometry":{geometry}}}')
        if number % FEATURES_A_STEP == FEATURES_A_STEP - 1:
            yield
    plain = colours.shared()
    crs = layer.crs()
    name = crs.authid() if crs.authid().startswith("EPSG:") else crs.toWkt()
    head = {"type": "name", "properties": {"name": name}}
    text = f'{{"type":"FeatureCollection","crs":{json.dumps(head)},"features":[\n' + ",\n".join(parts) + "\n]}"
    for colour in plain:  # one colour for several classes tells nothing
        text = text.replace(f'"{COLOUR}": "{colour}"', f'"{COLOUR}": null')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    yield


class _Colours:
    """The colour of each class, as the layer draws the first feature of it."""

    def __init__(self, layer: QgsVectorLayer) -> None:
        self._found: dict[Any, str] = {}
        self._renderer = layer.renderer().clone() if layer.renderer() is not None else None
        self._context = QgsRenderContext()
        self._context.setExpressionContext(
            QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
        )
        if self._renderer is not None:
            self._fields = layer.fields()
            self._renderer.startRender(self._context, self._fields)

    def of(self, value: Any, feature: QgsFeature) -> str | None:
        """Return the colour of a class; None where it has none."""
        if value not in self._found and self._renderer is not None:
            self._context.expressionContext().setFeature(feature)
            symbol = self._renderer.symbolForFeature(feature, self._context)
            if symbol is not None:
                self._found[value] = str(symbol.color().name())
        return self._found.get(value)

    def shared(self) -> set[str]:
        """Return the colours of several classes, and end."""
        if self._renderer is not None:
            self._renderer.stopRender(self._context)
        colours = list(self._found.values())
        return {colour for colour in colours if colours.count(colour) > 1}


def _plain(value: Any) -> Any:
    """Return a value that JSON has; None for what is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float)):
        return value
    if value is None or not hasattr(value, "toString"):
        return None  # NULL
    return str(value.toString())
