"""What the plugin costs QGIS at its start: loading it, and the first form, in a real off-screen QGIS.

    python benchmarks/plugin_startup.py [--quick]

The floor, in the same process, is an empty dock. At the first start after it was installed Python compiles the plugin,
and keeps what it compiled as QGIS lets it; the bound is for every later start. Needs QGIS's own Python; without it the
benchmark says so and ends.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(os.environ.get("RSFM_QGIS_PYTHON", ROOT / "build" / "venv-qgis" / "bin" / "python"))
BOUND_MILLISECONDS = 100

MEASURE = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from qgis.core import QgsApplication, QgsProject
from qgis.gui import QgsDockWidget, QgsMapCanvas, QgsMessageBar
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QMainWindow, QLabel
application = QgsApplication([], True)
application.initQgis()
window, canvas, bar = QMainWindow(), QgsMapCanvas(), QgsMessageBar()
window.setCentralWidget(canvas)
window.show()
clock = time.perf_counter
def show(dock):
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    dock.show()
    application.processEvents()
started = clock()
empty = QgsDockWidget("Empty")
empty.setWidget(QLabel("nothing"))
show(empty)
floor = clock() - started
started = clock()
from rsfm_qgis.client import BackendClient
from rsfm_qgis.gui.dock import Dock
from rsfm_qgis.collection_list import CollectionList
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.runs import RunList
from rsfm_qgis.toolbox.provider import Provider
imported = clock() - started
started = clock()
QgsApplication.processingRegistry().addProvider(Provider())
toolbox = clock() - started
started = clock()
client = BackendClient()
project = QgsProject.instance()
dock = Dock(Workspace(project, canvas, client, RunList(client, project), CollectionList(project)), bar, print)
show(dock)
shown = clock() - started
client.close()
print(json.dumps({"empty dock": floor, "imports": imported, "toolbox": toolbox, "dock with its first form": shown}))
sys.stdout.flush()
import os
os._exit(0)
"""


def measure(plugins: str) -> dict[str, float]:
    """Start a fresh QGIS with the plugin of a folder and return milliseconds."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "RSFM_PYTHON": ""}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [str(PYTHON), "-c", MEASURE, plugins]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {name: seconds * 1000 for name, seconds in json.loads(done.stdout.splitlines()[-1]).items()}


def total_of(found: dict[str, float]) -> float:
    """Add up what the plugin costs."""
    return sum(value for name, value in found.items() if name != "empty dock")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    repeats = 3 if parser.parse_args().quick else 10
    if not PYTHON.is_file():
        print(f"skipped: there is no QGIS Python at {PYTHON} (make setup, or set RSFM_QGIS_PYTHON)")
        return 0
    first, later = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as plugins:
            shutil.copytree(
                ROOT / "rsfm_qgis", Path(plugins) / "rsfm_qgis", ignore=shutil.ignore_patterns("__pycache__")
            )
            first.append(total_of(measure(plugins)))
            later.append(measure(plugins))
    medians = {name: statistics.median(run[name] for run in later) for name in later[0]}
    for name, value in medians.items():
        print(f"{name:28} {value:8.1f} ms")
    print(f"{'first start, all together':28} {statistics.median(first):8.1f} ms")
    total = total_of(medians)
    state = "ok" if total <= BOUND_MILLISECONDS else "short"
    print(f"CLAIM plugin_startup_ms {total:.0f} {BOUND_MILLISECONDS} {state}")
    return 0 if total <= BOUND_MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
