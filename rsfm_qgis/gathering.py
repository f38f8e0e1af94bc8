"""Rasters come into a collection by the backend's job `collect`, which opens them; nothing is opened here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.PyQt.QtCore import QObject, pyqtSignal

from rsfm_qgis.collection import title
from rsfm_qgis.records import read_record
from rsfm_qgis.runs import RunList

JOB, KIND = "collect", "collection"


class Gathering(QObject):
    """Starts `collect` for a collection and tells what it made.

    Signals:
        gathered: path of the collection, path of the file with what was found.
        failed: path of the collection, why.
    """

    gathered = pyqtSignal(str, str)
    failed = pyqtSignal(str, str)

    def __init__(self, runs: RunList, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._runs = runs
        self._targets: dict[str, str] = {}
        runs.ended.connect(self._end)

    def start(self, collection: str, rasters: list[str]) -> None:
        """Look at rasters, files or folders, for a collection."""
        name = title(collection)

        def started(result: Any, error: dict[str, Any] | None) -> None:
            if error is not None:
                self.failed.emit(collection, error["message"])
            else:
                self._targets[result["run"]] = collection

        count = self.tr("%n raster(s)", "", len(rasters))
        self._runs.start(JOB, {"name": name, "rasters": rasters}, f"{name} \u00b7 {count}", started)

    def is_busy(self, collection: str) -> bool:
        """Tell whether rasters are being looked at for a collection."""
        return collection in self._targets.values()

    def _end(self, folder: str) -> None:
        collection = self._targets.pop(folder, "")
        if not collection:
            return
        made = [output.path for output in read_record(Path(folder)).outputs if output.kind == KIND]
        run = self._runs.get(folder)
        if made:
            self.gathered.emit(collection, str(Path(folder) / made[-1]))
        else:
            self.failed.emit(collection, run.error if run is not None else "")
