"""The form of a job with its presets and Run. Shows state; decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from rsfm_qgis.collection import SUFFIX, title
from rsfm_qgis.gui.card import make_card
from rsfm_qgis.gui.cost_line import CostLine
from rsfm_qgis.gui.editor import InputError, Workspace, shrinkable
from rsfm_qgis.gui.form import Form
from rsfm_qgis.schema import DATA_KINDS, Job, Preset, complete


class JobPanel(QWidget):
    """A page of the dock for one job.

    Signals:
        wants_run: the job's name, the config, the title of the run.
    """

    wants_run = pyqtSignal(str, dict, str)

    def __init__(self, job: Job, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.job, self._workspace = job, workspace
        self.form = Form(job.fields, workspace)
        self.presets = shrinkable(QComboBox())
        self._preset_chosen = False
        self.card = make_card(job.name, self.form, workspace)
        self.run_button = QPushButton((self.card.run_text if self.card else "") or self.tr("Run"))
        self.run_button.setObjectName(f"run_{job.name}")
        self.cost = CostLine(job.name, self.form, workspace)
        self.reason = QLabel()
        self.reason.setWordWrap(True)
        self._scroll = QScrollArea()
        self._lay_out()
        self._fill_presets()
        self.run_button.clicked.connect(self.run)
        self.form.changed.connect(self._show_form)

    def mark(self, path: str, sentence: str) -> None:
        """Mark the wrong parameter and bring it into view; a sentence without a place stands beside Run."""
        if self.form.mark(path, sentence):
            mark = self.form.first_mark()
            if mark is not None:
                self._scroll.ensureWidgetVisible(mark)
            self.reason.setText(self.tr("See the marked parameter."))
        else:
            self.reason.setText(sentence)

    def add_bar(self, bar: QWidget) -> None:
        """Put a bar between the form and the line before Run."""
        layout: Any = self.layout()
        layout.insertWidget(1, bar)

    def show_starting(self) -> None:
        """Say that the run is being started."""
        self.reason.setText(self.tr("Starting\u2026"))

    def show_started(self) -> None:
        """Say that the run goes on below."""
        self.reason.setText(self.tr("Started; it goes on in the list below."))

    def _lay_out(self) -> None:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(6, 6, 6, 6)
        summary = QLabel(self.job.summary)
        summary.setWordWrap(True)
        summary.setToolTip(self.job.help)
        column.addWidget(summary)
        if self.job.presets:
            row = QFormLayout()
            row.addRow(self.tr("Preset"), self.presets)
            column.addLayout(row)
        column.addWidget(self.form)
        if self.card is not None:
            column.addWidget(self.card)
        column.addStretch()
        self._scroll.setWidget(page)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        bottom = QHBoxLayout()
        bottom.setContentsMargins(6, 0, 6, 4)
        bottom.addWidget(self.reason, 1)
        bottom.addWidget(self.run_button)
        self.cost.setContentsMargins(6, 2, 6, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(self.cost)
        layout.addLayout(bottom)

    def _fill_presets(self) -> None:
        for preset in self.job.presets:
            self.presets.addItem(preset.title, preset)
            self.presets.setItemData(self.presets.count() - 1, preset.help, Qt.ItemDataRole.ToolTipRole)
        self.presets.currentIndexChanged.connect(self._take_preset)
        self.presets.activated.connect(self._remember_choice)
        if self.job.presets:
            self._take_preset()
            if any(preset.for_gpu for preset in self.job.presets):
                self._workspace.client.hello.connect(self._begin_with_gpu)
                self._begin_with_gpu()

    def _remember_choice(self, _index: int) -> None:
        self._preset_chosen = True

    def _begin_with_gpu(self, _hello: Any = None) -> None:
        """Take the first preset that is made for a GPU where there is one, unless the user chose or changed one."""
        devices = self._workspace.client.devices
        if not devices or devices[0]["name"] == "cpu" or self._preset_chosen or self.presets.currentIndex() > 0:
            return
        try:
            changed = self.form.some_values(self._taken) != self._taken
        except InputError:
            return
        if not changed:
            first = next(number for number, preset in enumerate(self.job.presets) if preset.for_gpu)
            self.presets.setCurrentIndex(first)

    def _take_preset(self, _index: int = 0) -> None:
        """Fill in the preset; the rasters, labels and models that were chosen stay."""
        preset: Preset = self.presets.currentData()
        settings = tuple(field for field in self.job.fields if field.kind not in DATA_KINDS)
        self.form.set_values(complete(settings, preset.values))
        self._taken = self.form.some_values(preset.values)
        self.presets.setToolTip(preset.help)

    def _show_form(self) -> None:
        self.form.clear_marks()
        self.reason.setText("")

    def run(self, _checked: bool = False) -> None:
        """Ask for a run with what the form says; marks what is wrong with it."""
        self.form.clear_marks()
        self.reason.setText("")
        problem = self._problem()
        if problem:
            return
        try:
            values = self.form.values()
        except InputError as error:
            self.reason.setText(str(error))
            return
        self.wants_run.emit(self.job.name, values, self._title(values))

    def _problem(self) -> bool:
        problem = self.form.problem()
        if problem is not None:
            self.mark(problem.field, problem.sentence)
        return problem is not None

    def _title(self, values: dict[str, Any]) -> str:
        """Name the run after its job and its first raster."""
        for field in self.job.fields:
            if field.kind in {"raster", "rasters"} and values.get(field.name):
                value = values[field.name]
                return f"{self.job.title} \u00b7 {self._subject(value if isinstance(value, str) else value[0])}"
        return self.job.title

    def _subject(self, source: str) -> str:
        if source.endswith(SUFFIX):
            return title(source)
        layers = self._workspace.project.mapLayers().values()
        return next((layer.name() for layer in layers if layer.source() == source), Path(source).stem)
