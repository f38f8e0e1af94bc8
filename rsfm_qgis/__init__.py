"""RSFM: pretrain an encoder on your own rasters, teach it classes, map and compare, without leaving QGIS."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """Give QGIS the plugin; `iface` is None in qgis_process."""
    from rsfm_qgis.plugin import Plugin

    return Plugin(iface)
