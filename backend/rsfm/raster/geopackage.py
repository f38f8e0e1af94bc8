"""How GeoPackages are written, so that the oldest QGIS we serve reads them without a warning."""

from typing import Any

GEOPACKAGE: dict[str, Any] = {"driver": "GPKG", "dataset_options": {"VERSION": "1.3"}}
"""Options of pyogrio's `write`."""
