"""Plans for the server: at once from what is remembered, else by a process of its own that tries a few steps.

One process at a time: whoever asks anew no longer wants the answer to the question before.
"""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from rsfm.errors import UserError

PATIENCE_SECONDS = 300


class PlanProcess:
    """Answers what jobs will cost. Several threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = 0
        self._process: subprocess.Popen[bytes] | None = None

    def plan(self, job: str, config: dict[str, Any], runs_folder: str, measure: bool = True) -> dict[str, Any] | None:
        """Return the plan of a job; None where there is none, it is not to be measured, or a newer question came.

        Raises:
            UserError: the job would refuse the config, or its counts are absurd.
        """
        from rsfm import plan  # with pydantic, which the server can start without

        asked = self.close()
        if job not in plan.TRAINED | plan.MAPPED:
            return None
        facts = plan.recall(job, config)
        if facts is not None:
            return plan.make_plan(job, config, facts, Path(runs_folder))._asdict()
        return self._ask(asked, job, config, runs_folder) if measure else None

    def close(self) -> int:
        """End the process, if there is one, and return how often that was asked for."""
        with self._lock:
            self._asked += 1
            if self._process is not None:
                self._process.kill()
            self._process = None
            return self._asked

    def _ask(self, asked: int, job: str, config: dict[str, Any], runs_folder: str) -> dict[str, Any] | None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "config.json"
            file.write_text(json.dumps(config), encoding="utf-8")
            command = [
                sys.executable,
                "-E",
                "-s",
                "-m",
                "rsfm",
                "plan",
                job,
                str(file),
                "--json",
                "--runs",
                runs_folder,
            ]
            with self._lock:
                if asked != self._asked:
                    return None
                process = self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            try:
                said, _ = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                said = b""
        newer = asked != self._asked
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError as error:
            if newer:
                return None
            raise UserError("What the job will cost could not be measured.") from error
        if "error" in found:
            raise UserError(found["error"], found["field"])
        return found
