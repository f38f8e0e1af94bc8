"""What can be added to a collection: layers of the project, files and folders, dragged or chosen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from qgis.core import Qgis, QgsMimeDataUtils, QgsRasterLayer
from qgis.PyQt.QtCore import QDateTime, QMimeData, QTimeZone

from rsfm_qgis.collection import Entry
from rsfm_qgis.dates import Moment, middle

ONLINE = frozenset({"wms", "wcs", "arcgismapserver"})


class Sources(NamedTuple):
    """What was found among the things to add.

    Attributes:
        entries: rasters that GDAL opens, with the date of their layer.
        folders: folders, STAC items and collections, which the backend looks into.
        online: layers of which an area has to be fetched first.
        refused: names of what is no raster.
    """

    entries: list[Entry]
    folders: list[str]
    online: list[QgsRasterLayer]
    refused: list[str]


def from_layers(layers: Iterable[Any]) -> Sources:
    """Find the rasters among layers."""
    found = Sources([], [], [], [])
    for layer in layers:
        if not isinstance(layer, QgsRasterLayer):
            found.refused.append(layer.name())
        elif layer.providerType() == "gdal":
            found.entries.append(_entry(layer.source(), layer_date(layer)))
        elif layer.providerType() in ONLINE:
            found.online.append(layer)
        else:
            found.refused.append(layer.name())
    return found


def from_files(paths: Iterable[str]) -> Sources:
    """Tell files from folders; what a file holds is the backend's to say."""
    found = Sources([], [], [], [])
    for path in paths:
        if Path(path).is_dir() or path.endswith(".json"):
            found.folders.append(path)
        else:
            found.entries.append(_entry(path, None))
    return found


def can_take(data: QMimeData) -> bool:
    """Tell whether something dragged may be rasters."""
    return bool(QgsMimeDataUtils.isUriList(data) or any(url.isLocalFile() for url in data.urls()))


def from_drop(data: QMimeData, project: Any) -> Sources:
    """Find what was dropped: layers of the layer panel, entries of the browser, files."""
    if not QgsMimeDataUtils.isUriList(data):
        return from_files(url.toLocalFile() for url in data.urls() if url.isLocalFile())
    layers = list(project.mapLayers().values())
    found = Sources([], [], [], [])
    for uri in QgsMimeDataUtils.decodeUriList(data):
        layer = next((each for each in layers if each.source() == uri.uri and each.name() == uri.name), None)
        if layer is None and uri.layerType == "raster":
            layer = QgsRasterLayer(uri.uri, uri.name, uri.providerKey)
        part = from_layers([layer]) if layer is not None else Sources([], [], [], [uri.name])
        found = Sources(
            found.entries + part.entries,
            found.folders + part.folders,
            found.online + part.online,
            found.refused + part.refused,
        )
    return found


def layer_date(layer: QgsRasterLayer) -> Moment | None:
    """Return the date that the user gave to a layer under Temporal, as a fixed range; None where there is none."""
    properties = layer.temporalProperties()
    if not properties.isActive() or properties.mode() != Qgis.RasterTemporalMode.FixedTemporalRange:
        return None
    period = properties.fixedTemporalRange()
    if period.isInfinite() or not period.begin().isValid():
        return None
    begin = _in_utc(period.begin())
    return middle(begin, _in_utc(period.end()) if period.end().isValid() else begin)


def _in_utc(moment: QDateTime) -> datetime:
    utc = moment.toTimeZone(QTimeZone.utc())
    date, clock = utc.date(), utc.time()
    return datetime(date.year(), date.month(), date.day(), clock.hour(), clock.minute(), clock.second())


def _entry(path: str, moment: Moment | None) -> Entry:
    date = {"date": moment.date, "hour_known": moment.hour_known, "date_source": "layer"} if moment else {}
    return {"path": path, **date}
