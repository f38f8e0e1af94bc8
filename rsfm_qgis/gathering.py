"""Rasters come into a collection by the backend's job `collect`, which opens them; nothing is opened here."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from qgis.PyQt.QtCore import QObject, pyqtSignal

from rsfm_qgis.collection import SUFFIX, title
from rsfm_qgis.records import read_record
from rsfm_qgis.runs import RunList

JOB, KIND = "collect", "collection"
LONGEST_NAME = 80
FOUND = "found"


class Gathering(QObject):
    """Starts `collect` for a collection and tells what it made.

    Signals:
        gathered: path of the collection, path of the file with what was found.
        failed: path of the collection; the message bar tells why a run failed.
        refused: path of the collection, why no run was started.
    """

    gathered = pyqtSignal(str, str)
    failed = pyqtSignal(str)
    refused = pyqtSignal(str, str)

    def __init__(self, runs: RunList, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._runs = runs
        self._targets: dict[str, str] = {}
        self._starting: list[str] = []
        runs.ended.connect(self._end)

    def start(self, collection: str, rasters: list[str]) -> None:
        """Look at rasters, files or folders, for a collection."""
        name = title(collection)

        def started(result: Any, error: dict[str, Any] | None) -> None:
            self._starting.remove(collection)
            if error is not None:
                self.refused.emit(collection, error["message"])
            else:
                self._targets[result["run"]] = collection

        self._starting.append(collection)
        config = {
            "name": name[:LONGEST_NAME],
            "rasters": rasters,
            "output": str(_found_file(collection)),
            "refuse_useless": False,
        }
        self._runs.start(JOB, config, self.tr("Look at rasters \u00b7 {0}").format(name), started)

    def is_busy(self, collection: str) -> bool:
        """Tell whether rasters are being looked at for a collection."""
        return collection in self._targets.values() or collection in self._starting

    def _end(self, folder: str) -> None:
        collection = self._targets.pop(folder, "")
        if not collection:
            return
        made = [output.path for output in read_record(Path(folder)).outputs if output.kind == KIND]
        if made:
            self.gathered.emit(collection, str(Path(folder) / made[-1]))
        else:
            self.failed.emit(collection)


def _found_file(collection: str) -> Path:
    """Choose where the backend writes what it found: beside the collection, because VRTs that it makes of bands in a
    file each lie beside that file, and have to stay when the run is thrown away.
    """
    folder = Path(collection).parent / FOUND
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{title(collection)} {datetime.now():%Y%m%d-%H%M%S-%f}{SUFFIX}"
