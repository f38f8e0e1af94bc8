"""Clicks on the map: what you mean and what not. After each the layer of what is on the screen follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsCsException, QgsGeometry, QgsPointXY
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtGui import QColor, QHideEvent, QIcon, QPixmap
from qgis.PyQt.QtWidgets import QComboBox, QHBoxLayout, QLabel, QToolButton, QVBoxLayout

from rsfm_qgis import likeness_layers
from rsfm_qgis.click_store import NOTHING, ClickStore
from rsfm_qgis.gui.card import Card
from rsfm_qgis.gui.editor import InputError, Workspace, shrinkable
from rsfm_qgis.gui.form import Form
from rsfm_qgis.gui.hint import Hint
from rsfm_qgis.gui.mark_tool import MarkTool
from rsfm_qgis.gui.refitter import Refitter
from rsfm_qgis.gui.share_slider import ShareSlider
from rsfm_qgis.looks import screen

ENOUGH = 3
MOVED_MILLISECONDS = 400
USUAL_KIND = "this"
SHARE = "show"


class ClickCard(Card):
    """Marks places of the pair that the form names, and shows what the backend makes of them."""

    def __init__(self, form: Form, workspace: Workspace) -> None:
        super().__init__(form, workspace)
        self.run_text = self.tr("Run on the Whole Raster")
        self.store = ClickStore(workspace.project, self)
        self.refitter = Refitter(workspace.client, self)
        self.kind = shrinkable(QComboBox())
        self.this = _toggle(self.tr("+ this"), self.tr("Click places that show this kind of change"))
        self.not_this = _toggle(self.tr("\u2212 not this"), self.tr("Click places that do not"))
        self.undo = QToolButton()
        self.count = QLabel()
        self.slider = ShareSlider(float(form.editor(SHARE).value()))
        self.status = Hint()
        self._tool = MarkTool(workspace.canvas)
        self._is_filling = False
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(MOVED_MILLISECONDS)
        self._lay_out()
        self._connect()
        self._take_pair()

    def hideEvent(self, event: QHideEvent) -> None:
        self._press(None)
        super().hideEvent(event)

    def mark(self, shape: QgsGeometry) -> None:
        """Add a mark of the kind that is chosen, in the CRS of the map."""
        crs = self._crs()
        moved = QgsGeometry(shape)
        try:
            moved.transform(self._transform(crs))
        except QgsCsException:
            self.status.setText(self.tr("The raster's CRS has no such place."))
            return
        kind = self.kind_chosen() if self.this.isChecked() else NOTHING
        self.status.setText(self.store.add(kind, moved, crs, self._group_title()))
        self.refit()

    def remove(self, place: QgsPointXY, reach: float) -> None:
        """Remove the mark at a place of the map."""
        transform = self._transform(self._crs())
        try:
            there, beside = (transform.transform(QgsPointXY(place.x() + step, place.y())) for step in (0, reach))
        except QgsCsException:
            return
        if self.store.remove_at(there, there.distance(beside)):
            self.refit()

    def kind_chosen(self) -> str:
        """Return the kind that is marked, as it is written."""
        return str(self.kind.currentText().strip() or USUAL_KIND)

    def refit(self) -> None:
        """Ask for the layer anew; says what is missing where there are too few marks."""
        missing = self._missing()
        if missing or not self.isVisible():
            self.refitter.forget()
            self.status.setText(missing)
            return
        try:
            config = self.form.values()
        except InputError as error:
            self.status.setText(str(error))
            return
        path = self.store.path()
        shown = screen(self.workspace)
        if path is not None and shown is not None and shown["bounds"] is not None:
            config = {**config, **self.store.sources(), "area": None}
            self.refitter.ask(config, shown, str(path.with_name(f"{path.stem}-view")))

    def _lay_out(self) -> None:
        self.kind.setEditable(True)
        self.kind.addItem(USUAL_KIND)
        self.kind.setToolTip(self.tr("Kind of change; write another name to tell several kinds apart"))
        self.undo.setText("\u21b6")
        self.undo.setToolTip(self.tr("Take back the last mark"))
        kinds, buttons, share = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        kinds.addWidget(QLabel(self.tr("Mark")))
        kinds.addWidget(self.kind, 1)
        for button in (self.this, self.not_this, self.undo):
            buttons.addWidget(button)
        buttons.addStretch()
        buttons.addWidget(self.count)
        share.addWidget(QLabel(self.tr("Show the top")))
        share.addWidget(self.slider, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.setSpacing(4)
        for row in (kinds, buttons, share):
            layout.addLayout(row)
        layout.addWidget(self.status)

    def _connect(self) -> None:
        self.this.clicked.connect(self._press_this)
        self.not_this.clicked.connect(self._press_not_this)
        self.undo.clicked.connect(self._take_back)
        self._tool.marked.connect(self.mark)
        self._tool.removed.connect(self.remove)
        self._tool.deactivated.connect(self._release)
        self.kind.currentTextChanged.connect(self._colour)
        self.slider.moved.connect(self._show_share)
        self.store.changed.connect(self._show_marks)
        self.refitter.asked.connect(self._show_asked)
        self.refitter.answered.connect(self._show_answer)
        self.refitter.failed.connect(self._show_failure)
        self.form.changed.connect(self._take_pair)
        self.workspace.canvas.extentsChanged.connect(self._moved.start)
        self._moved.timeout.connect(self._look_again)

    def _press_this(self, on: bool) -> None:
        self._press(self.this if on else None)

    def _press_not_this(self, on: bool) -> None:
        self._press(self.not_this if on else None)

    def _press(self, pressed: QToolButton | None) -> None:
        """Give the map the tool that marks, or take it back."""
        if pressed is not None and self._problem():
            self.status.setText(self._problem())
            pressed = None
        for button in (self.this, self.not_this):
            button.setChecked(button is pressed)
        canvas = self.workspace.canvas
        if pressed is not None:
            self._colour()
            if canvas.mapTool() is not self._tool:  # QGIS deactivates a tool that is set once more
                canvas.setMapTool(self._tool)
            self._show_marks()
        elif canvas.mapTool() is self._tool:
            canvas.unsetMapTool(self._tool)

    def _release(self) -> None:
        """Another tool was taken."""
        for button in (self.this, self.not_this):
            button.setChecked(False)

    def _colour(self, _text: str = "") -> None:
        self._tool.colour = QColor(self.store.colour(self.kind_chosen() if self.this.isChecked() else NOTHING))

    def _take_back(self) -> None:
        if self.store.undo():
            self.refit()

    def _problem(self) -> str:
        before, after = (self.form.editor(name).value() for name in ("before", "after"))
        if before and after:
            return ""
        return str(self.tr("Choose two rasters above first."))

    def _take_pair(self) -> None:
        """Take the marks of the pair that the form names now."""
        if self._is_filling:
            return
        self.store.choose(*(str(self.form.editor(name).value() or "") for name in ("before", "after")))
        percent = float(self.form.editor(SHARE).value())
        if percent != self.slider.percent():
            self.slider.set_percent(percent)
        self.refit()

    def _show_marks(self) -> None:
        """Show how many marks there are, and let the form take them."""
        places = self.store.places()
        meant = [count for kind, count in places.items() if kind != NOTHING]
        self.count.setText(" + ".join(str(count) for count in [*(meant or [0]), places[NOTHING]]))
        names = [*places, NOTHING]
        self.count.setToolTip("\n".join(f"{name}: {places[name]}" for name in dict.fromkeys(names)))
        kinds = self.store.kinds()
        chosen = self.kind_chosen()
        self.kind.blockSignals(True)
        self.kind.clear()
        for kind in dict.fromkeys([*kinds, chosen]):
            self.kind.addItem(_square(self.store.colour(kind)), kind)
        self.kind.setCurrentText(chosen)
        self.kind.blockSignals(False)
        self._is_filling = True
        self.form.set_values(dict(self.store.sources()))
        self._is_filling = False
        if not self.refitter.is_busy():
            self.status.setText(self._missing())

    def _missing(self) -> str:
        """Say which marks are still missing; empty where there are enough."""
        if self._problem():
            return self._problem()
        places = self.store.places()
        wanted = [kind for kind in places if kind != NOTHING] or [self.kind_chosen()]
        few = [(kind, ENOUGH - places.get(kind, 0)) for kind in [*wanted, NOTHING] if places.get(kind, 0) < ENOUGH]
        if not few:
            return ""
        said = " \u00b7 ".join(self.tr("{0} more of \u201c{1}\u201d").format(count, kind) for kind, count in few)
        return str(self.tr("Click typical places, or drag around them; right click removes. {0}").format(said))

    def _look_again(self) -> None:
        """Follow the map where it was moved to, as long as the layer is on it."""
        if self.isVisible() and likeness_layers.find_live(self.store.group()) is not None:
            self.refit()

    def _show_share(self, percent: float) -> None:
        likeness_layers.repaint(self.workspace.project, percent)
        self._is_filling = True
        self.form.set_values({SHARE: percent})
        self._is_filling = False

    def _show_asked(self) -> None:
        self.status.setText(self.tr("Learning\u2026"))

    def _show_answer(self, answer: dict[str, Any]) -> None:
        group = self.store.group()
        path = self.store.path()
        if group is None or path is None or not Path(answer["path"]).name.startswith(path.stem):
            return  # the pair was changed meanwhile
        title = self.tr("Like your clicks, on the screen")
        likeness_layers.show_live(self.workspace.project, group, title, answer, self.slider.percent())
        seconds = sum(answer["seconds"].values())
        parts = [self.tr("Learned in {0:.1f} s.").format(max(seconds, 0.1))]
        if not answer["whole"]:
            parts.append(self.tr("The middle of the map is shown: zoom in, or run on the whole raster."))
        self.status.setText(" ".join([*parts, *answer["notes"]]))

    def _show_failure(self, field: str, sentence: str) -> None:
        self.status.setText(sentence)
        if field and field not in {"clicks", "areas"}:
            self.form.mark(field, sentence)

    def _crs(self) -> QgsCoordinateReferenceSystem:
        """Return the CRS of the marks: that of the earlier raster."""
        crs = self.store.crs()
        return crs if crs.isValid() else self.form.editor("before").crs()

    def _transform(self, crs: QgsCoordinateReferenceSystem) -> QgsCoordinateTransform:
        own = self.workspace.canvas.mapSettings().destinationCrs()
        return QgsCoordinateTransform(own, crs if crs.isValid() else own, self.workspace.project)

    def _group_title(self) -> str:
        names = [Path(str(self.form.editor(name).value())).stem for name in ("before", "after")]
        return str(self.tr("Clicks \u00b7 {0} \u2192 {1}").format(*names))


def _toggle(text: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setCheckable(True)
    return button


def _square(colour: str) -> QIcon:
    pixels = QPixmap(12, 12)
    pixels.fill(QColor(colour))
    return QIcon(pixels)
