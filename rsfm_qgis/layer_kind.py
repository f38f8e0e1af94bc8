"""How a kind of output looks on the map; a member of `layers/` is one kind, the twin of the backend's `outputs/`."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsMapLayer


class LayerKind:
    """How a kind of output looks.

    Attributes:
        order: in its group; the lowest is on top.
        is_unfolded: its legend is shown.
    """

    order = 50
    is_unfolded = False

    def style(self, layer: QgsMapLayer, style: dict[str, Any]) -> None:
        """Give the layer its look; `style` is what the backend said beyond the file itself."""

    def is_shown(self, kinds: set[str]) -> bool:
        """Tell whether the layer is visible at first, in a group of these kinds."""
        return True
