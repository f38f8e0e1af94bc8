"""An editor is the widget of one parameter; a member of `editors/` is one kind, found by the kind's name."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QWidget

from rsfm_qgis.client import BackendClient
from rsfm_qgis.collection_list import CollectionList
from rsfm_qgis.runs import RunList
from rsfm_qgis.schema import Field

SHORTEST_COMBO = 6


class InputError(Exception):
    """A value cannot be given; the sentence says why and what to do."""


class Workspace(NamedTuple):
    """What editors look at: the project, the map canvas, the backend, its runs, the collections, the layer panel."""

    project: Any
    canvas: Any
    client: BackendClient
    runs: RunList
    collections: CollectionList
    layer_tree: Any = None


class Editor(QWidget):
    """The widget of one parameter.

    Signals:
        changed: the value is another one.

    Attributes:
        says_its_label: it shows the parameter's title itself, as a check box does.
    """

    changed = pyqtSignal()
    says_its_label = False

    def __init__(self, field: Field, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.field, self.workspace = field, workspace

    def value(self) -> Any:
        """Return the value as the config takes it; None where nothing is chosen.

        Raises:
            InputError: what is chosen cannot be given to the backend.
        """
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Show a value."""
        raise NotImplementedError

    def connect_to(self, siblings: dict[str, Any]) -> None:
        """Get to know the form's other editors, once all are made."""

    def missing(self) -> str:
        """Say what to choose where a required value is absent; empty where it is not."""
        if self.field.required and self.value() in (None, "", []):
            return str(self.tr("Choose: {0}").format(self.field.help[:1].lower() + self.field.help[1:]))
        return ""


def make_editor(field: Field, workspace: Workspace) -> Editor:
    """Make the editor of a parameter."""
    module = import_module(f"rsfm_qgis.gui.editors.{field.kind}")
    member = next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Editor) and value.__module__ == module.__name__
    )
    editor: Editor = member(field, workspace)
    editor.setToolTip(field.help)
    return editor


def shrinkable(combo: QComboBox) -> QComboBox:
    """Let a combo box with long texts fit into a narrow dock."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(SHORTEST_COMBO)
    combo.setSizePolicy(combo.sizePolicy().Policy.Expanding, combo.sizePolicy().Policy.Fixed)
    return combo
