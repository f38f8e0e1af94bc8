"""A disk of its own fills up in mid-run, while the run is halted, and is then made free again."""

import random
import subprocess
import sys
from pathlib import Path

from rsfm import runs

from tests.faults.run_under_fault import Bench, broken

FILL = """
mount -t tmpfs -o size=60m tmpfs "$1" || exit 77
"$2" -E -s -m rsfm run pretrain "$3" --run "$1/run" 2>> "$1/../errors" &
run=$!
until [ "$(ls "$1"/run/checkpoints 2> /dev/null)" ]; do
  sleep 0.1
  kill -0 $run 2> /dev/null || exit 78
done
sleep "$4"
kill -STOP $run || exit 78
cat /dev/zero > "$1/filler" 2> /dev/null
kill -CONT $run
wait $run
echo $? > "$1/../code"
cp -r "$1/run" "$1/../full"
rm "$1/filler"
"$2" -E -s -m rsfm resume "$1/run" 2>> "$1/../errors"
cp -r "$1/run" "$1/../resumed"
"""


def disk_full(bench: Bench, folder: Path, moments: random.Random) -> tuple[str, list[str]]:
    """Fill a small disk while a run writes to it; the run must say so, and go on when there is space."""
    disk, after = folder / "disk", moments.uniform(0, 1.5)
    disk.mkdir()
    script = ["unshare", "-rm", "sh", "-c", FILL, "sh", str(disk), sys.executable]
    command = [*script, str(bench.write_config(folder)), f"{after:.2f}"]
    done = subprocess.run(command, env=bench.environment, capture_output=True, text=True, timeout=1200)
    if done.returncode in (1, 77):
        return "skipped: no disk may be mounted here", []
    if done.returncode == 78:
        return "the run was over before the disk was full", ["nothing was tried"]
    full, resumed = runs.read(folder / "full"), runs.read(folder / "resumed")
    problems = []
    if full["state"] == "failed" and "space" not in full["error"]:
        problems.append(f"it does not say what was wrong: {full['error']}")
    if full["state"] not in {"failed", "done"}:
        problems.append(f"it ended as {full['state']}")
    if resumed["state"] != "done":
        problems.append(f"it was not resumed: {resumed['state']}, {resumed.get('error')}")
    problems += broken_copy(folder / "full") + broken_copy(folder / "resumed")
    return f"{after:.1f} s after the first checkpoint", problems + bench.differs(folder / "resumed")


def broken_copy(folder: Path) -> list[str]:
    """Check a copy of a run, whose events name files where they were."""
    events = folder / "events.jsonl"
    events.write_text(events.read_text().replace(f"{folder.parent}/disk/run/", f"{folder}/"))
    return broken(folder)
