"""Which runs go on, kept in the profile, so that the next QGIS finds them whatever project it has open."""

from __future__ import annotations

import json
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from qgis.core import QgsMessageLog


class LiveRuns:
    """The folders of the runs that go on, in a file that is never waited for.

    Qt writes its settings through to the disk in the main thread, which held QGIS for a quarter of a second
    on a busy disk; this list changes whenever a run begins or ends.

    Args:
        path: A JSON file; its folder is made when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = ThreadPoolExecutor(1, "rsfm-live-runs")
        self._kept: Set[str] = self.read()

    def read(self) -> set[str]:
        """Read what the file names; nothing where there is none or it is not a list of names."""
        try:
            names = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return set()
        return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()

    def keep(self, folders: Set[str]) -> None:
        """Keep these folders from now on; returns before the file is written."""
        if folders != self._kept:
            self._kept = set(folders)
            self._writer.submit(self._write, json.dumps(sorted(folders)))

    def _write(self, text: str) -> None:
        part = self._path.with_name(self._path.name + ".part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text, encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            QgsMessageLog.logMessage(f"The list of live runs cannot be written to {self._path}: {error}", "RSFM")
