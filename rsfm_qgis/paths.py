"""Where things are: the backend's Python, the folder of runs, the plugin's own files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QProcessEnvironment, QStandardPaths

from rsfm_qgis import settings

PLUGIN = Path(__file__).parent
FOREIGN_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA")


def backend_python() -> Path | None:
    """Find the Python that has the backend: the setting, RSFM_PYTHON, or the environment of a checkout."""
    said = settings.read(settings.PYTHON) or os.environ.get("RSFM_PYTHON", "")
    if said:
        return Path(said) if Path(said).is_file() else None
    environment = PLUGIN.parent / "backend" / ".venv"
    candidates = (environment / "bin" / "python", environment / "Scripts" / "python.exe")
    return next((python for python in candidates if python.is_file()), None)


def backend_arguments(*arguments: str) -> list[str]:
    """Make the arguments of the backend's Python; -E and -s keep QGIS's own module path out."""
    return ["-E", "-s", "-m", "rsfm", *arguments]


def backend_environment() -> QProcessEnvironment:
    """Make the environment of the backend: this one without what QGIS set for its own libraries."""
    environment = QProcessEnvironment.systemEnvironment()
    for name in FOREIGN_VARIABLES:
        environment.remove(name)
    return environment


def runs_folder(project: Any) -> Path:
    """Find where runs go: the setting, beside the saved project, or among the user's documents."""
    said = settings.read(settings.RUNS_FOLDER)
    if said:
        return Path(said)
    if project is not None and project.homePath() and project.fileName():
        return Path(project.homePath()) / "rsfm" / "runs"
    return _documents() / "rsfm" / "runs"


def collections_folder(project: Any) -> Path:
    """Find where collections go: beside the saved project, or among the user's documents."""
    if project is not None and project.homePath() and project.fileName():
        return Path(project.homePath()) / "rsfm" / "collections"
    return _documents() / "rsfm" / "collections"


def clicks_folder(project: Any) -> Path:
    """Find where the marks of changes go: beside the runs."""
    return runs_folder(project).parent / "clicks"


def live_runs() -> Path:
    """Find the list of the runs that go on: in the profile."""
    return Path(QgsApplication.qgisSettingsDirPath()) / "rsfm" / "live_runs.json"


def icon(name: str) -> str:
    """Find an icon: in the plugin as installed, or in a checkout."""
    own = PLUGIN / "icons" / f"{name}.svg"
    return str(own if own.is_file() else PLUGIN.parent / "resources" / "icons" / f"{name}.svg")


def _documents() -> Path:
    documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
    return Path(documents or Path.home())
