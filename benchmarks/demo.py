"""How long the demo takes, phase by phase: every job on the sample scene, and the project in QGIS.

python benchmarks/demo.py [--quick]
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOUND_SECONDS = 15 * 60


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="pretrain for 10 seconds, no comparison, no window")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--out", str(Path(folder) / "demo")]
        command += ["--minutes", "0.17", "--no-window", "--no-comparison"] if quick else []
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    for phase, taken in re.findall(r"^(\w+): (\d+) s$", done.stdout, re.MULTILINE):
        print(f"{phase:16} {taken:>5} s")
    print(f"CLAIM demo_s {seconds:.0f} {BOUND_SECONDS} {'ok' if seconds <= BOUND_SECONDS else 'short'}")


if __name__ == "__main__":
    main()
