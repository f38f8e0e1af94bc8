"""Polygons as the text of an area: WKT in the CRS of a raster, or in a numbered one for rasters of several."""

from __future__ import annotations

from collections.abc import Iterable

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsCoordinateTransformContext, QgsGeometry

NUMBERED = "EPSG:"
DIGITS = 9


def polygons_text(
    shapes: Iterable[QgsGeometry],
    source: QgsCoordinateReferenceSystem,
    target: QgsCoordinateReferenceSystem | None,
    transforms: QgsCoordinateTransformContext,
) -> str:
    """Express polygons of one CRS in that of a raster.

    Args:
        target: the CRS of the raster; None names a CRS in the text, as rasters of several CRSs need it.

    Raises:
        QgsCsException: a polygon cannot be expressed in that CRS.
    """
    crs = target if target is not None else numbered(source)
    transform = QgsCoordinateTransform(source, crs, transforms)
    text = QgsGeometry.collectGeometry([_flat(shape, transform) for shape in shapes]).asWkt(DIGITS)
    return str(text) if target is not None else f"SRID={number(crs)};{text}"


def numbered(crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """Return a CRS that has a number to be named by."""
    return crs if crs.authid().startswith(NUMBERED) else QgsCoordinateReferenceSystem("EPSG:4326")


def number(crs: QgsCoordinateReferenceSystem) -> str:
    """Return the number of a numbered CRS."""
    return str(crs.authid()[len(NUMBERED) :])


def _flat(shape: QgsGeometry, transform: QgsCoordinateTransform) -> QgsGeometry:
    """Return a polygon of straight lines, without heights, in another CRS."""
    flat = QgsGeometry(shape.constGet().segmentize())
    flat.get().dropZValue()
    flat.get().dropMValue()
    flat.transform(transform)
    return flat
