"""The table of rasters: two lines a cell, so that it fits a narrow dock; rasters can be dropped into it."""

from __future__ import annotations

from typing import Any

from qgis.PyQt.QtCore import QModelIndex, QRect, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent, QPainter, QPaintEvent, QPalette
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QHeaderView,
    QLineEdit,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from rsfm_qgis.gui.hint import OPACITY
from rsfm_qgis.gui.imagery.model import DATE, PATH, RASTER, ROLE, SECOND_LINE, CollectionModel
from rsfm_qgis.gui.imagery.sources import can_take

MARGIN = 3
ROWS_SHOWN = 3
WIDEST_DATE, WIDEST_ROLE, WIDEST_EDITED = "2015-07-11", "Imagery", "2015-07-11 10:23 MM"


class CollectionTable(QTableView):
    """Rows of a collection.

    Signals:
        dropped: what was dropped, as mime data.
        wants_removal: the selected rasters are to be taken out.
    """

    dropped = pyqtSignal(object)
    wants_removal = pyqtSignal()

    def __init__(self, model: CollectionModel) -> None:
        super().__init__()
        self.setModel(model)
        self.hint = self.tr("Drag raster layers here,\nor add files with the buttons below.")
        self.setItemDelegate(TwoLines(self))
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setCornerButtonEnabled(False)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.verticalHeader().setDefaultSectionSize(self.itemDelegate().height())
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        triggers = QAbstractItemView.EditTrigger
        self.setEditTriggers(triggers.DoubleClicked | triggers.EditKeyPressed | triggers.SelectedClicked)
        self.setTabKeyNavigation(False)
        self.setAcceptDrops(True)
        self.setDropIndicatorShown(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName(self.tr("Rasters of the collection"))
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.setSortingEnabled(True)
        self._set_widths()
        self.setMinimumHeight(
            self.horizontalHeader().sizeHint().height() + ROWS_SHOWN * self.itemDelegate().height() + 4
        )

    def selected_paths(self) -> list[str]:
        """Return the paths of the selected rasters."""
        return [index.data(PATH) for index in self.selectionModel().selectedRows(RASTER)]

    def sizeHint(self) -> QSize:
        return QSize(super().sizeHint().width(), self.minimumHeight())  # the page gives it the room that is left

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        self._offer(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:
        self._offer(event)

    def dropEvent(self, event: QDropEvent) -> None:
        event.acceptProposedAction()
        self.dropped.emit(event.mimeData())

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.model().rowCount() == 0:
            painter = QPainter(self.viewport())
            painter.setOpacity(OPACITY)
            painter.drawText(self.viewport().rect(), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self.hint)
            painter.end()

    def keyPressEvent(self, event: Any) -> None:
        """Let the space bar check and uncheck the current raster from any column, and Delete take rasters out."""
        current = self.currentIndex()
        if event.key() == Qt.Key.Key_Delete:
            self.wants_removal.emit()
            return
        if event.key() == Qt.Key.Key_Space and current.isValid() and not event.modifiers():
            first = current.siblingAtColumn(RASTER)
            checked = first.data(Qt.ItemDataRole.CheckStateRole) == Qt.CheckState.Checked
            state = Qt.CheckState.Unchecked if checked else Qt.CheckState.Checked
            self.model().setData(first, state, Qt.ItemDataRole.CheckStateRole)
            return
        super().keyPressEvent(event)

    def _offer(self, event: Any) -> None:
        if can_take(event.mimeData()):
            event.acceptProposedAction()
        else:
            event.ignore()

    def _set_widths(self) -> None:
        header = self.horizontalHeader()
        header.setMinimumSectionSize(self.fontMetrics().averageCharWidth() * 6)
        header.setSectionResizeMode(RASTER, QHeaderView.ResizeMode.Stretch)
        for column, text in ((DATE, WIDEST_DATE), (ROLE, WIDEST_ROLE)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            header.resizeSection(column, self.fontMetrics().horizontalAdvance(text) + 4 * MARGIN)


class TwoLines(QStyledItemDelegate):
    """Paints a cell's second line below the first, quieter; edits dates as text and roles as a choice."""

    def height(self) -> int:
        """Return the height of a row in pixels."""
        return int(2 * self.parent().fontMetrics().height() + 2 * MARGIN)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:
        return QSize(super().sizeHint(option, index).width(), self.height())

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        cell = QStyleOptionViewItem(option)
        self.initStyleOption(cell, index)
        style = cell.widget.style() if cell.widget is not None else QApplication.style()
        place = style.subElementRect(QStyle.SubElement.SE_ItemViewItemText, cell, cell.widget)
        first, second = cell.text, index.data(SECOND_LINE)
        cell.text = ""
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, cell, painter, cell.widget)
        selected = bool(cell.state & QStyle.StateFlag.State_Selected)
        role = QPalette.ColorRole.HighlightedText if selected else QPalette.ColorRole.Text
        group = (
            QPalette.ColorGroup.Active if cell.state & QStyle.StateFlag.State_Active else QPalette.ColorGroup.Inactive
        )
        wrong = index.data(Qt.ItemDataRole.ForegroundRole)
        painter.save()
        painter.setFont(cell.font)
        painter.setPen(wrong if wrong is not None and not selected else option.palette.color(group, role))
        text = place.adjusted(MARGIN, MARGIN, 0, -MARGIN)
        self._draw(painter, cell, QRect(text.left(), text.top(), text.width(), text.height() // 2), first, True)
        painter.setOpacity(1.0 if wrong is not None else OPACITY)
        self._draw(painter, cell, QRect(text.left(), text.center().y() + 1, text.width(), text.height() // 2), second)
        painter.restore()

    def createEditor(self, parent: QWidget, _option: QStyleOptionViewItem, index: QModelIndex) -> QWidget:
        if index.column() == ROLE:
            combo = QComboBox(parent)
            for role, word in index.model().role_words().items():
                combo.addItem(word, role)
            combo.activated.connect(self._commit)
            return combo
        line = QLineEdit(parent)
        line.setPlaceholderText("2015-07-11")
        return line

    def setEditorData(self, editor: QWidget, index: QModelIndex) -> None:
        value = index.data(Qt.ItemDataRole.EditRole)
        if isinstance(editor, QComboBox):
            editor.setCurrentIndex(editor.findData(value))
        elif isinstance(editor, QLineEdit):
            editor.setText(value)
            editor.selectAll()

    def setModelData(self, editor: QWidget, model: Any, index: QModelIndex) -> None:
        value = editor.currentData() if isinstance(editor, QComboBox) else editor.text()
        model.setData(index, value)

    def updateEditorGeometry(self, editor: QWidget, option: QStyleOptionViewItem, _index: QModelIndex) -> None:
        cell = option.rect
        width = max(cell.width(), editor.fontMetrics().horizontalAdvance(WIDEST_EDITED))
        height = min(cell.height(), editor.sizeHint().height())
        place = QRect(0, 0, width, height)
        place.moveCenter(cell.center())
        place.moveRight(cell.right())
        editor.setGeometry(place)

    def _commit(self, _row: int) -> None:
        editor = self.sender()
        self.commitData.emit(editor)
        self.closeEditor.emit(editor)

    def _draw(
        self, painter: QPainter, cell: QStyleOptionViewItem, place: QRect, text: str, is_name: bool = False
    ) -> None:
        """Draw a line; a name too long is shortened in its middle, because its end tells rasters apart."""
        mode = Qt.TextElideMode.ElideMiddle if is_name else Qt.TextElideMode.ElideRight
        fitting = cell.fontMetrics.elidedText(text or "", mode, place.width())
        painter.drawText(place, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, fitting)
