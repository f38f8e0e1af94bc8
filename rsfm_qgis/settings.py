"""The machine's settings of this plugin; each is named once, here."""

from __future__ import annotations

from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QSettings

PYTHON = "rsfm/python"
RUNS_FOLDER = "rsfm/runs_folder"
DEVICE = "rsfm/device"
DOCK_SHOWN = "rsfm/dock_shown"
PREVIEWS = "rsfm/previews"
QUEUE = "rsfm/queue"
KEEP_AWAKE = "rsfm/keep_awake"


def read(key: str) -> str:
    """Read a setting; empty where it was never set."""
    return str(QgsSettings().value(key, "") or "")


def write(key: str, value: str) -> None:
    """Keep a setting; an empty one is removed. What stays the same is not written: Qt waits for the disk."""
    if value == read(key):
        return
    settings: QSettings = QgsSettings()
    if value:
        settings.setValue(key, value)
    else:
        settings.remove(key)


def run_flags() -> list[str]:
    """Return the flags of the backend's command line that say how a run behaves beside others."""
    queue = read(QUEUE)
    return [*(["--queue", queue] if queue else []), *(["--no-awake"] if read(KEEP_AWAKE) == "no" else [])]
