"""The collections of the project: the files beside it, and which of them it works with."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from qgis.PyQt.QtCore import QObject, pyqtSignal

from rsfm_qgis import paths
from rsfm_qgis.collection import FORMAT, SUFFIX

SCOPE = "rsfm"
CURRENT, KNOWN = "collection", "collections"
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')


class CollectionList(QObject):
    """Files by path, and the current one.

    Signals:
        listed: there are other collections than before, or another one is current.
        edited: path of a collection whose file was written.
    """

    listed = pyqtSignal()
    edited = pyqtSignal(str)

    def __init__(self, project: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._project = project
        for signal in (project.readProject, project.cleared, project.projectSaved):
            signal.connect(self._tell)

    def all(self) -> list[str]:
        """Return the collections of the project's folder and those the project knows, by name."""
        known, _ = self._project.readListEntry(SCOPE, KNOWN)
        found = {str(path) for path in paths.collections_folder(self._project).glob(f"*{SUFFIX}")}
        return sorted(
            found | {path for path in known if os.path.isfile(path)}, key=lambda path: Path(path).name.lower()
        )

    def current(self) -> str:
        """Return the collection the project works with; empty where there is none."""
        path, _ = self._project.readEntry(SCOPE, CURRENT)
        return str(path) if path and os.path.isfile(path) else next(iter(self.all()), "")

    def choose(self, path: str) -> None:
        """Work with a collection, and remember it in the project."""
        known, _ = self._project.readListEntry(SCOPE, KNOWN)
        if self._project.readEntry(SCOPE, CURRENT)[0] != path or path not in known:
            self._project.writeEntry(SCOPE, CURRENT, path)
            self._project.writeEntry(SCOPE, KNOWN, list(dict.fromkeys([*known, path])))
        self.listed.emit()

    def create(self, name: str) -> str:
        """Make an empty collection and work with it; one of that name is taken as it is.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = paths.collections_folder(self._project)
        folder.mkdir(parents=True, exist_ok=True)
        name = FORBIDDEN.sub("-", name).strip(" .") or "imagery"
        path = folder / f"{name}{SUFFIX}"
        if not path.exists():
            empty = {"format": FORMAT, "name": name, "entries": []}
            path.write_text(json.dumps(empty, ensure_ascii=False), encoding="utf-8")
        self.choose(str(path))
        return str(path)

    def suggest(self) -> str:
        """Suggest a name that is free: the project's, or its first words."""
        base = self._project.title() or self._project.baseName() or "imagery"
        taken = {Path(path).name for path in self.all()}
        names = [base, *(f"{base} {number}" for number in range(2, len(taken) + 3))]
        return next(name for name in names if f"{name}{SUFFIX}" not in taken)

    def _tell(self, *_what: Any) -> None:
        self.listed.emit()
