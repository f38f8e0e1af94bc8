"""The widgets of the page Imagery and where they stand; they do nothing by themselves."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from rsfm_qgis.gui.editor import Workspace, shrinkable
from rsfm_qgis.gui.elided_label import ElidedLabel
from rsfm_qgis.gui.hint import Hint
from rsfm_qgis.gui.imagery.bands import BandsPanel
from rsfm_qgis.gui.imagery.fetch import FetchPanel
from rsfm_qgis.gui.imagery.model import CollectionModel
from rsfm_qgis.gui.imagery.table import CollectionTable


class Parts(QScrollArea):
    """All widgets of the page, from top to bottom."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.combo = shrinkable(QComboBox())
        self.new_button = _tool("/symbologyAdd.svg", self.tr("Make a new collection"))
        self.name = QLineEdit()
        self.create_button, self.keep_button = QPushButton(self.tr("Create")), QPushButton(self.tr("Cancel"))
        self.naming = _row(self.name, self.create_button, self.keep_button)
        self.model = CollectionModel(self)
        self.table = CollectionTable(self.model)
        self.details = Hint()
        self.add_layers = QPushButton(self.tr("Add Selected Layers"))
        self.add_layers.setToolTip(self.tr("Add the raster layers that are selected in the layer panel"))
        self.add_files = QToolButton()
        self.add_files.setText(self.tr("Add\u2026"))
        self.add_files.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.add_files.setToolTip(self.tr("Add files, or all rasters of a folder"))
        self.remove_button = _tool("/symbologyRemove.svg", self.tr("Take the selected rasters out of the collection"))
        self.bands, self.dates = ElidedLabel(), ElidedLabel()
        self.change_bands = _switch(self.tr("Change\u2026"), self.tr("Correct the names and wavelengths of bands"))
        self.check_dates = _switch(self.tr("Check\u2026"), self.tr("Show only the rasters whose date is not certain"))
        self.bands_panel = BandsPanel()
        self.dates_said, self.dates_right = Hint(), QPushButton(self.tr("These Are Right"))
        self.dates_panel = _row(self.dates_said, self.dates_right)
        self.warnings = QLabel()
        self.warnings.setWordWrap(True)
        self.warnings.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.read_button = QPushButton(self.tr("Look at Them"))
        self.fetch_panel = FetchPanel(workspace)
        self.status, self.undo_button = Hint(), QPushButton(self.tr("Undo"))
        self._lay_out()
        for widget in (self.naming, self.details, self.bands_panel, self.dates_panel, self.read_button):
            widget.hide()
        self.undo_button.hide()

    def _lay_out(self) -> None:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(6, 6, 6, 4)
        column.setSpacing(4)
        column.addLayout(_line(QLabel(self.tr("Collection")), self.combo, self.new_button, stretch=1))
        column.addWidget(self.naming)
        column.addWidget(self.table, 1)
        column.addWidget(self.details)
        column.addLayout(_line(self.add_layers, self.add_files, None, self.remove_button, stretch=2))
        facts = QFormLayout()
        facts.setVerticalSpacing(2)
        facts.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        facts.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        facts.addRow(self.tr("Bands"), _line(self.bands, self.change_bands, stretch=0))
        facts.addRow(self.bands_panel)
        facts.addRow(self.tr("Dates"), _line(self.dates, self.check_dates, stretch=0))
        facts.addRow(self.dates_panel)
        column.addLayout(facts)
        column.addWidget(self.warnings)
        column.addWidget(self.read_button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self.fetch_panel)
        column.addLayout(_line(self.status, self.undo_button, stretch=0))
        self.setWidget(page)
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)


def _line(*widgets: QWidget | None, stretch: int) -> QHBoxLayout:
    """Lay widgets side by side; the one of that place takes the room that is left, None is empty room."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    for place, widget in enumerate(widgets):
        if widget is None:
            layout.addStretch(1)
        else:
            layout.addWidget(widget, int(place == stretch))
    return layout


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    row.setLayout(_line(*widgets, stretch=0))
    return row


def _tool(icon: str, help: str) -> QToolButton:
    button = QToolButton()
    button.setIcon(QgsApplication.getThemeIcon(icon))
    button.setToolTip(help)
    button.setAccessibleName(help)
    return button


def _switch(text: str, help: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(help)
    button.setCheckable(True)
    return button
