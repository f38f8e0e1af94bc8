"""A date where another one lies: shown as QGIS shows it."""

from __future__ import annotations

from rsfm_qgis.layer_kind import LayerKind


class Aligned(LayerKind):
    order = 42
