"""Runs inside a real QGIS window: shows the dock, clicks what it is told, writes down what the run strip shows."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import qgis.utils
from qgis.PyQt.QtCore import QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest

SEEN, WISH = Path(os.environ["RSFM_SEEN"]), Path(os.environ["RSFM_WISH"])
BUTTONS = ("stop", "cancel", "resume", "show_button", "report", "log", "discard")
exceptions: list[str] = []


def remember_exception(type: Any, value: Any, trace: Any, *_more: Any, **_named: Any) -> None:
    exceptions.append("".join(traceback.format_exception(type, value, trace)))
    print(exceptions[-1], file=sys.stderr, flush=True)


qgis.utils.showException = remember_exception


def click(widget: Any) -> None:
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(widget.width() // 2, 8))


def start() -> Any:
    qgis.utils.updateAvailablePlugins()
    if "rsfm_qgis" not in qgis.utils.plugins:
        qgis.utils.loadPlugin("rsfm_qgis")
        qgis.utils.startPlugin("rsfm_qgis")
    from rsfm_qgis import settings

    settings.write(settings.RUNS_FOLDER, os.environ["RSFM_RUNS_HERE"])
    settings.write(settings.QUEUE, "never")
    plugin = qgis.utils.plugins["rsfm_qgis"]
    plugin.dock.setUserVisible(True)
    return plugin


def look() -> None:
    try:
        obey()
        rows = [describe(run) for run in plugin.runs.all() if run.folder in plugin.dock.strip.rows]
    except Exception:
        remember_exception(*sys.exc_info())
        rows = []
    partial = SEEN.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), "rows": rows, "exceptions": exceptions}))
    os.replace(partial, SEEN)


def describe(run: Any) -> dict[str, Any]:
    row = plugin.dock.strip.rows[run.folder]
    buttons = [name for name in BUTTONS if not getattr(row, name).isHidden()]
    facts = row.facts(run)
    return {"folder": run.folder, "state": run.state, "fraction": run.fraction, "facts": facts, "buttons": buttons}


def obey() -> None:
    if not WISH.exists():
        return
    wish = WISH.read_text()
    WISH.unlink()
    if wish == "run":
        panel = plugin.dock.open_job("pretrain")
        panel.form.set_values(json.loads(Path(os.environ["RSFM_CONFIG"]).read_text()))
        QTimer.singleShot(500, lambda: click(panel.run_button))
    else:
        newest = plugin.runs.all()[0].folder
        click(getattr(plugin.dock.strip.rows[newest], wish))


plugin = start()
clock = QTimer()
clock.timeout.connect(look)
clock.start(100)
