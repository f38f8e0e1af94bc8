"""A real QGIS window is killed in mid-run; the next one must show what is true, resume what died, and lose nothing."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rsfm import runs

from tests.faults.run_under_fault import Bench, broken, fraction, kill, wait_for_moment, wait_until

ROOT = Path(__file__).parents[2]
BUTTONS = {"running": {"stop", "cancel"}, "lost": {"resume", "log", "discard"}, "done": {"discard"}}


class Window:
    """A QGIS window with the plugin, which writes down ten times a second what its run strip shows."""

    def __init__(self, bench: Bench, folder: Path, number: int) -> None:
        self._seen, self._wish = folder / f"seen{number}.json", folder / f"wish{number}"
        plugins = folder / "profiles" / "profiles" / "faults" / "python" / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        if not (plugins / "rsfm_qgis").exists():
            (plugins / "rsfm_qgis").symlink_to(ROOT / "rsfm_qgis")
        environment = {
            **bench.environment, "RSFM_PYTHON": sys.executable, "RSFM_SEEN": str(self._seen),
            "RSFM_WISH": str(self._wish), "RSFM_RUNS_HERE": str(folder / "runs"),
            "RSFM_CONFIG": str(bench.write_config(folder)), "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        environment.pop("QT_QPA_PLATFORM", None)
        options = ["--nologo", "--noversioncheck", "--profiles-path", str(folder / "profiles"), "--profile", "faults"]
        script = ["--code", str(Path(__file__).with_name("in_qgis.py"))]
        with open(folder / "qgis.log", "ab") as log:
            self._process = subprocess.Popen(
                ["xvfb-run", "-a", "-s", "-screen 0 1366x768x24", "qgis.bin", *options, *script],
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._seen.exists)
        self.pid = int(self.look()["pid"])

    def look(self) -> dict[str, Any]:
        """Return what the window shows now."""
        seen: dict[str, Any] = json.loads(self._seen.read_text())
        return seen

    def row(self) -> dict[str, Any]:
        """Return the row of the newest run; empty where there is none."""
        rows = self.look()["rows"]
        return dict(rows[0]) if rows else {}

    def ask(self, wish: str) -> None:
        """Click a button: "run", or one of the newest run's."""
        self._wish.write_text(wish)

    def kill(self) -> None:
        """Kill the window, and let its screen go."""
        kill(self.pid)
        self._process.wait(20)


def qgis_killed(bench: Bench, folder: Path, moments: random.Random) -> tuple[str, list[str]]:
    """Start a run by a click, kill QGIS, look with a second one, kill the run as well, and resume it by a click."""
    if not (shutil.which("xvfb-run") and shutil.which("qgis.bin")):
        return "skipped: QGIS is not installed", []
    first = Window(bench, folder, 1)
    first.ask("run")
    wait_until(lambda: first.row().get("state") in {"starting", "running"})
    run = Path(first.row()["folder"])
    moment = wait_for_moment(run, moments)
    first.kill()
    problems, reached = broken(run), fraction(run)
    second = Window(bench, folder, 2)
    try:
        wait_until(lambda: second.row() and second.row()["state"] == runs.read(run)["state"], 60)
        if runs.read(run)["state"] == "running":
            wait_until(lambda: second.row()["fraction"] > reached or second.row()["state"] == "done")
        if runs.read(run)["state"] != "done":
            kill(runs.read(run)["pid"])
            wait_until(lambda: runs.read(run)["state"] in runs.ENDED)
            wait_until(lambda: second.row()["state"] == runs.read(run)["state"], 30)
            problems += shows_wrong(second.row())
            if second.row()["state"] == "lost":
                second.ask("resume")
        wait_until(lambda: second.row()["state"] == "done")
        problems += shows_wrong(second.row()) + second.look()["exceptions"]
    finally:
        second.kill()
    return moment, problems + broken(run) + bench.differs(run)


def shows_wrong(row: dict[str, Any]) -> list[str]:
    """Say which buttons a row lacks or has too many."""
    missing = BUTTONS[row["state"]] - set(row["buttons"])
    return [f"a {row['state']} run lacks {', '.join(missing)}: {row['facts']}"] if missing else []
