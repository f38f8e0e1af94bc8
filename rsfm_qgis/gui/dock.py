"""The dock: the device on top, pages along the work, the runs below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from qgis.gui import QgsDockWidget
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtGui import QShowEvent
from qgis.PyQt.QtWidgets import QComboBox, QSplitter, QStackedWidget, QTabWidget, QVBoxLayout, QWidget

from rsfm_qgis.gui.chart_card import ChartCard
from rsfm_qgis.gui.chart_place import ChartPlace
from rsfm_qgis.gui.device_chip import DeviceChip
from rsfm_qgis.gui.editor import Workspace, shrinkable
from rsfm_qgis.gui.imagery.page import ImageryPage
from rsfm_qgis.gui.job_panel import JobPanel
from rsfm_qgis.gui.results import Results
from rsfm_qgis.gui.run_strip import RunStrip
from rsfm_qgis.looks import look
from rsfm_qgis.schema import Job, jobs, words

if TYPE_CHECKING:
    from rsfm_qgis.gui.labelling_bar import LabellingBar
    from rsfm_qgis.gui.swipe_action import SwipeAction

IMAGERY = "imagery"
LABELLED = "finetune"
PAGES = (IMAGERY, "pretrain", "fine_tune", "map", "change", "explore")
NARROWEST = 280
SHORT_PAGE = 90
CHART_LINES, STRIP_LINES = 10, 8
TAB_STYLE = "QTabBar::tab { padding: 4px 5px; }"  # so that all tabs fit a narrow dock


class Dock(QgsDockWidget):
    """The whole panel. It starts the backend when it is shown for the first time."""

    def __init__(self, workspace: Workspace, message_bar: Any, open_options: Callable[[], None]) -> None:
        super().__init__("RSFM")
        self.setObjectName("RsfmDock")
        self._workspace = workspace
        self._of_run: dict[str, str] = {}
        self.labelling: LabellingBar | None = None
        self._swipe: SwipeAction | None = None
        self.results = Results(workspace, message_bar, self)
        self.chip = DeviceChip(workspace.client, open_options)
        self.tabs = QTabWidget()
        self.strip = RunStrip(workspace.runs)
        self.chart = ChartCard()
        self.panels: dict[str, JobPanel] = {}
        self._pages: dict[str, JobPage] = {}
        self.imagery = ImageryPage(workspace)
        self.imagery.warned.connect(self.results.warn)
        self._add_pages()
        self._lay_out()
        self.charts = ChartPlace(self.chart, workspace.runs, self._page, self)
        self.tabs.currentChanged.connect(self.charts.choose)
        self.strip.wants_chart.connect(self.charts.open)
        self.strip.wants_show.connect(self.results.show)
        self.strip.wants_report.connect(self.results.open_report)
        self.strip.wants_log.connect(self.results.open_log)
        workspace.runs.ended.connect(self._mark_error)

    def open_job(self, name: str) -> JobPanel:
        """Show the page of a job and return its panel."""
        page = self._pages[jobs()[name].page]
        page.choose(name)
        self.tabs.setCurrentWidget(page)
        self.setUserVisible(True)
        return self.panels[name]

    def compare(self, before: str, after: str) -> None:
        """Detect the change between two rasters at once, with the settings that the form has."""
        panel = self.open_job("detect_change")
        panel.form.set_values({"before": before, "after": after})
        panel.run()

    def offer_swipe(self, swipe: SwipeAction) -> None:
        """Let the forms that name two dates compare them by swiping."""
        self._swipe = swipe
        for panel in self.panels.values():
            self._add_swipe(panel)

    def open_imagery(self) -> ImageryPage:
        """Show the page of the collections."""
        self.tabs.setCurrentWidget(self.imagery)
        self.setUserVisible(True)
        return self.imagery

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._workspace.runs.watch(True)
        self._workspace.client.start()

    def _add_pages(self) -> None:
        self.tabs.addTab(self.imagery, words(IMAGERY))
        for page in PAGES[1:]:
            found = [job for job in jobs().values() if job.page == page]
            if not found:
                continue
            self._pages[page] = JobPage(found, self._make_panel)
            self.tabs.addTab(self._pages[page], words(page).replace(" ", "-"))

    def _make_panel(self, job: Job) -> JobPanel:
        panel = JobPanel(job, self._workspace)
        panel.wants_run.connect(self._start)
        self.panels[job.name] = panel
        if job.name == LABELLED:
            from rsfm_qgis.gui.labelling_bar import LabellingBar  # QGIS starts without it

            self.labelling = LabellingBar(panel, self._workspace, self.results)
            panel.add_bar(self.labelling)
        self._add_swipe(panel)
        return panel

    def _add_swipe(self, panel: JobPanel) -> None:
        if self._swipe is None:
            return
        from rsfm_qgis.gui.swipe_bar import SwipeBar, names_two_dates  # QGIS starts without it

        if names_two_dates(panel.form):
            panel.add_bar(SwipeBar(panel.form, self._swipe))

    def _lay_out(self) -> None:
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setStyleSheet(TAB_STYLE)
        self.tabs.setUsesScrollButtons(True)
        self.tabs.tabBar().setExpanding(False)
        self.tabs.setMinimumHeight(SHORT_PAGE)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.tabs)
        splitter.addWidget(self.chart)
        splitter.addWidget(self.strip)
        splitter.setStretchFactor(0, 1)
        splitter.setChildrenCollapsible(False)
        line = self.fontMetrics().height()
        splitter.setSizes([1000, line * CHART_LINES, line * STRIP_LINES])
        content = QWidget()
        content.setMinimumWidth(NARROWEST)
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.chip)
        layout.addWidget(splitter, 1)
        self.setWidget(content)

    def _page(self) -> str:
        """Name the page that is open."""
        shown = self.tabs.currentWidget()
        return next((name for name, page in self._pages.items() if page is shown), IMAGERY)

    def _start(self, job: str, config: dict[str, Any], title: str) -> None:
        panel = self.panels[job]
        panel.show_starting()

        def started(result: Any, error: dict[str, Any] | None) -> None:
            if error is not None:
                panel.mark(error.get("data", {}).get("field") or "", error["message"])
                self.results.warn(error["message"])
                return
            self._of_run[result["run"]] = job
            self.results.expect(result["run"])
            panel.show_started()

        self._workspace.runs.start(job, config, title, started, look(self._workspace))

    def _mark_error(self, folder: str) -> None:
        run = self._workspace.runs.get(folder)
        job = self._of_run.pop(folder, "")
        if run is None or not job:
            return
        if run.state == "failed":
            self.panels[job].mark(run.error_field, run.error)
        else:
            self.panels[job].reason.setText("")


class JobPage(QWidget):
    """The jobs of a page; where there are several, a combo box chooses one. A form is made when it is first shown."""

    def __init__(self, jobs: list[Job], make_panel: Callable[[Job], JobPanel]) -> None:
        super().__init__()
        self._jobs, self._make_panel = jobs, make_panel
        self._made: dict[str, JobPanel] = {}
        self._stack = QStackedWidget()
        self._combo = shrinkable(QComboBox())
        for job in jobs:
            self._combo.addItem(job.title, job.name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(2)
        if len(jobs) > 1:
            layout.addWidget(self._combo)
        layout.addWidget(self._stack)
        self._combo.currentIndexChanged.connect(self._show_chosen)

    def choose(self, job: str) -> None:
        """Show a job."""
        self._combo.setCurrentIndex(self._combo.findData(job))
        self._show_chosen()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self._show_chosen)  # the tab first, then its form

    def _show_chosen(self, _index: int = 0) -> None:
        job = self._jobs[self._combo.currentIndex()]
        if job.name not in self._made:
            self._made[job.name] = self._make_panel(job)
        QTimer.singleShot(0, self._place_chosen)  # made in one turn of the event loop, laid out in the next

    def _place_chosen(self) -> None:
        panel = self._made[self._jobs[self._combo.currentIndex()].name]
        if self._stack.indexOf(panel) < 0:
            self._stack.addWidget(panel)
            panel.ensurePolished()
            QTimer.singleShot(0, self._bring_chosen)
        else:
            self._bring_chosen()

    def _bring_chosen(self) -> None:
        self._stack.setCurrentWidget(self._made[self._jobs[self._combo.currentIndex()].name])
