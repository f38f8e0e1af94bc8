"""What is on the screen, as a run is told that shows its map while it makes it; `look.json` in the run's folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rsfm_qgis import settings
from rsfm_qgis.gui.editor import Workspace

LOOK = "look.json"


def look(workspace: Workspace) -> dict[str, Any] | None:
    """Return what the canvas shows, and for which project; None where the user wants no previews."""
    if settings.read(settings.PREVIEWS) == "no":
        return None
    shown = screen(workspace)
    return None if shown is None else {**shown, "project": workspace.project.fileName()}


def screen(workspace: Workspace) -> dict[str, Any] | None:
    """Return what the canvas shows; None where there is none."""
    if workspace.canvas is None:
        return None
    return view(workspace)


def view(workspace: Workspace) -> dict[str, Any]:
    """Return what the canvas shows, and for which project."""
    box, crs = workspace.canvas.extent(), workspace.canvas.mapSettings().destinationCrs()
    bounds = [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
    return {"bounds": None if box.isEmpty() else bounds, "crs": crs.authid() or crs.toWkt()}


def keep(folder: str, workspace: Workspace) -> None:
    """Tell a run that goes on what is on the screen now, where it was told before."""
    now = look(workspace)
    if now is not None:
        write(folder, now)


def write(folder: str, now: dict[str, Any]) -> None:
    """Tell a run that goes on what is on the screen, where it was told before."""
    path = Path(folder) / LOOK
    if now["bounds"] is None or not path.is_file():
        return
    partial = path.with_name(f".{LOOK}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(now), encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)


def is_looked_at(folder: str, project: Any) -> bool:
    """Tell whether a run was started from this project, to be seen while it goes on."""
    try:
        found = json.loads((Path(folder) / LOOK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(found.get("project") == project.fileName())
