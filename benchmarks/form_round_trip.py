"""How long the forms take: to be drawn from the schema, to be filled in and to be read, for every job.

    python benchmarks/form_round_trip.py [--quick]

The floor is reading and writing the same values as JSON. Needs QGIS's own Python; without it the benchmark says so.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = Path(os.environ.get("RSFM_QGIS_PYTHON", ROOT / "build" / "venv-qgis" / "bin" / "python"))
BOUND_MILLISECONDS = 10
"""For filling in and reading the largest form."""

MEASURE = """
import json, os, statistics, sys, time
sys.path.insert(0, sys.argv[1])
repeats = int(sys.argv[2])
from qgis.core import QgsApplication, QgsProject
from qgis.gui import QgsMapCanvas
application = QgsApplication([], True)
application.initQgis()
from rsfm_qgis import schema
from rsfm_qgis.client import BackendClient
from rsfm_qgis.collection_list import CollectionList
from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.form import Form
from rsfm_qgis.runs import RunList
client = BackendClient()
project = QgsProject.instance()
workspace = Workspace(project, QgsMapCanvas(), client, RunList(client, project), CollectionList(project))
def median(work):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000
found = {}
for job in schema.jobs().values():
    form = Form(job.fields, workspace)
    values = form.values()
    text = json.dumps(values)
    found[job.name] = {
        "draw": median(lambda: Form(job.fields, workspace)),
        "fill in and read": median(lambda: (form.set_values(values), form.values())),
        "json": median(lambda: json.loads(json.dumps(values))),
    }
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    repeats = 5 if parser.parse_args().quick else 30
    if not PYTHON.is_file():
        print(f"skipped: there is no QGIS Python at {PYTHON} (make setup, or set RSFM_QGIS_PYTHON)")
        return 0
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "RSFM_PYTHON": "", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(PYTHON), "-c", MEASURE, str(ROOT), str(repeats)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    for job, times in found.items():
        print(f"{job:16}" + "".join(f"{name}: {value:7.3f} ms   " for name, value in times.items()))
    worst = max(times["fill in and read"] for times in found.values())
    state = "ok" if worst <= BOUND_MILLISECONDS else "short"
    print(f"CLAIM form_round_trip_ms {worst:.2f} {BOUND_MILLISECONDS} {state}")
    return 0 if worst <= BOUND_MILLISECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
