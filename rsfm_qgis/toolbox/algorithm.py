"""A job in the toolbox: one class serves every job, in the QGIS window, in models and in qgis_process."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qgis.core import (
    QgsBlockingProcess,
    QgsFeedback,
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingParameterFolderDestination,
    QgsProject,
)
from qgis.PyQt.QtCore import QByteArray, QCoreApplication, QTimer
from qgis.PyQt.QtGui import QIcon

from rsfm_qgis import layers, paths, settings
from rsfm_qgis.records import Output, read_output
from rsfm_qgis.schema import Job
from rsfm_qgis.toolbox.parameters import make_parameter, named_fields, read_values

RUN = "RUN"
GRACE_MILLISECONDS = 1800


class JobAlgorithm(QgsProcessingAlgorithm):
    """Parameters come from the schema; a choice's own fields are named CHOICE.FIELD."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def createInstance(self) -> JobAlgorithm:
        return JobAlgorithm(self._job)

    def name(self) -> str:
        return self._job.name

    def displayName(self) -> str:
        return self._job.title

    def shortDescription(self) -> str:
        return self._job.summary

    def shortHelpString(self) -> str:
        return self._job.help

    def icon(self) -> QIcon:
        return QIcon(paths.icon(self._job.page))

    def tr(self, text: str) -> str:
        """Translate a text."""
        return str(QCoreApplication.translate("JobAlgorithm", text))

    def initAlgorithm(self, _configuration: dict[str, Any] | None = None) -> None:
        for named in named_fields(self._job.fields):
            self.addParameter(make_parameter(named, self._job.fields))
        folder = QgsProcessingParameterFolderDestination(RUN, self.tr("Folder of the run"), None, True, False)
        folder.setHelp(self.tr("Where the run is kept; by default a new folder among your runs."))
        self.addParameter(folder)

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        python = paths.backend_python()
        if python is None:
            raise QgsProcessingException(
                self.tr("The backend is not installed. Choose its Python under Settings > Options > RSFM.")
            )
        folder = self._folder(parameters, context)
        values = read_values(self, self._job.fields, parameters, context)
        reader = EventReader(feedback)
        with TemporaryDirectory() as temporary:
            config = Path(temporary) / "config.json"
            config.write_text(json.dumps(values), encoding="utf-8")
            arguments = ["run", self._job.name, str(config), "--run", str(folder), "--json", *settings.run_flags()]
            code = run_backend(str(python), paths.backend_arguments(*arguments), folder, reader, feedback)
        if feedback.isCanceled():
            return {RUN: str(folder)}
        if code != 0:
            raise QgsProcessingException(reader.error or self.tr("The job failed. The log above says why."))
        self._load(reader.outputs, context)
        return {RUN: str(folder), **{output.kind.upper(): output.path for output in reader.outputs}}

    def _folder(self, parameters: dict[str, Any], context: QgsProcessingContext) -> Path:
        """Choose the run's folder; in one that is there already a new one is made."""
        said = self.parameterAsString(parameters, RUN, context)
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{self._job.name}-toolbox"
        runs = Path(said) if said else paths.runs_folder(context.project() or QgsProject.instance())
        folder = runs / name if not said or runs.exists() else runs
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def _load(self, outputs: list[Output], context: QgsProcessingContext) -> None:
        """Let QGIS load the layers on completion, where there is a project to load them into."""
        if context.project() is None:
            return
        for output in reversed(outputs):
            if Path(output.path).suffix.lower() not in layers.RASTER_SUFFIXES | layers.VECTOR_SUFFIXES:
                continue
            details = QgsProcessingContext.LayerDetails(output.title, context.project(), output.kind.upper())
            style = Style(output)
            details.setPostProcessor(style)
            context.addLayerToLoadOnCompletion(output.path, details)


class Style(QgsProcessingLayerPostProcessorInterface):
    """Gives a layer its look once QGIS has loaded it."""

    alive: list[Style] = []

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        Style.alive.append(self)  # the algorithm is gone before the layers are loaded

    def postProcessLayer(
        self, layer: QgsMapLayer, _context: QgsProcessingContext, _feedback: QgsProcessingFeedback
    ) -> None:
        layers.style_layer(layer, self._output, f"RSFM, {self._output.path}")
        layer.triggerRepaint()
        Style.alive.remove(self)


class EventReader:
    """Reads the events a job prints, one JSON line each, and passes them on."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._unread = b""
        self.outputs: list[Output] = []
        self.error = ""

    def read(self, data: bytes) -> None:
        """Take what the job printed; a line may come in pieces."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._take(line)

    def read_log(self, data: bytes) -> None:
        """Pass on what the job logged; an error before the run began stands there alone."""
        text = data.decode(errors="replace").rstrip()
        for line in text.splitlines():
            self._feedback.pushConsoleInfo(line)
            if line.startswith("Error: "):
                self.error = line[len("Error: ") :]

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            self._feedback.pushConsoleInfo(line.decode(errors="replace"))
            return
        if event["type"] == "progress":
            self._feedback.setProgress(event["fraction"] * 100)
            self._feedback.setProgressText(event.get("message", ""))
        elif event["type"] == "waiting":
            self._feedback.setProgressText(event["message"])
        elif event["type"] == "warning":
            self._feedback.pushWarning(event["text"])
        elif event["type"] == "error":
            self.error = event["text"]
        elif event["type"] == "output":
            self.outputs.append(read_output(event))
            self._feedback.pushInfo(f"{event['title']}: {event['path']}")


def run_backend(
    python: str, arguments: list[str], folder: Path, reader: EventReader, feedback: QgsProcessingFeedback
) -> int:
    """Run the backend until it ends and return its exit code; when the user cancels, ask first and then use force."""
    force = QgsFeedback()

    # Named functions, because QgsBlockingProcess does not keep its handlers alive: a lambda crashes QGIS 3.22.
    def read(data: QByteArray) -> None:
        reader.read(bytes(data))

    def read_log(data: QByteArray) -> None:
        reader.read_log(bytes(data))

    def cancel() -> None:
        if folder.is_dir():
            (folder / "control").write_text("cancel", encoding="utf-8")
        QTimer.singleShot(GRACE_MILLISECONDS, force.cancel)

    process = QgsBlockingProcess(python, arguments)
    process.setStdOutHandler(read)
    process.setStdErrHandler(read_log)
    feedback.canceled.connect(cancel)
    code = int(process.run(force))
    feedback.canceled.disconnect(cancel)
    return code
