"""Rasters, labels and servers for the tests; everything is made in the test's own folder."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import settings
from rasterio.transform import from_origin

from tests.backend.pitfalls import table

# where nobody is there to look at a new failing example, the examples are always the same ones
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

# no test waits in the queue of another process of tests, or of the user's own runs
OWN_DATA = tempfile.TemporaryDirectory(prefix="rsfm-test-data-")
os.environ["RSFM_DATA"] = OWN_DATA.name
os.environ["RSFM_KEEP_AWAKE"] = "no"

DATA = Path(os.environ.get("RSFM_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def data() -> Path:
    """The folder of real rasters; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"the test rasters are not there: {DATA} (set RSFM_TEST_DATA)")
    return DATA


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Write pixels_CHW as a GeoTIFF and return its path."""

    def make(pixels_CHW: Any, name: str = "raster.tif", crs: str | None = "EPSG:32633", **profile: Any) -> Path:
        pixels_CHW = np.asarray(pixels_CHW)
        profile = {"transform": from_origin(500000, 5100000, 10, 10), "crs": crs, **profile}
        count, height, width = pixels_CHW.shape
        path = tmp_path / name
        shape = {"count": count, "height": height, "width": width, "dtype": pixels_CHW.dtype}
        with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as target:
            target.write(pixels_CHW)
        return path

    return make


@pytest.fixture
def noise_raster(make_raster: Callable[..., Path]) -> Path:
    """96 x 96 pixels of 4 bands of noise."""
    return make_raster(np.random.default_rng(0).integers(100, 3000, (4, 96, 96)).astype("uint16"), "noise.tif")


class ServerProcess:
    """A real server, with the client's end of the pipe."""

    def __init__(self, code: str | None = None) -> None:
        command = ["-c", code] if code else ["-m", "rsfm", "serve"]
        self.process = subprocess.Popen(
            [sys.executable, "-E", "-s", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # nobody reads it, and a full pipe would stop the server
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.events: list[dict[str, Any]] = []
        self.number = 0
        self.hello = self.read()

    def read(self) -> dict[str, Any]:
        line = self.stdout.readline()
        assert line, "the server ended"
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, line: bytes) -> None:
        self.stdin.write(line)
        self.stdin.flush()

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.send(json.dumps(message).encode() + b"\n")
        return self.answer(self.number)

    def answer(self, number: int | None) -> dict[str, Any]:
        while True:
            message = self.read()
            if "id" in message and message["id"] == number:
                return message
            self.events.append(message)

    def wait(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 90) -> dict[str, Any]:
        """Read until an event that is wanted."""
        deadline = time.monotonic() + seconds
        for message in self.events:
            if message.get("method") == "event" and wanted(message["params"]["event"]):
                return message["params"]["event"]  # type: ignore[no-any-return]
        while time.monotonic() < deadline:
            message = self.read()
            self.events.append(message)
            if message.get("method") == "event" and wanted(message["params"]["event"]):
                return message["params"]["event"]  # type: ignore[no-any-return]
        raise AssertionError(f"not seen in {seconds} s")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    made = ServerProcess()
    yield made
    made.kill()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which pitfalls have a test and why others have none, and what every method learned, where that was run."""
    reports = (report for key in ("passed", "failed") for report in terminalreporter.getreports(key))
    if any("test_pitfalls.py" in report.nodeid for report in reports):
        terminalreporter.section("numbered pitfalls of the specifications")
        for line in table(Path(__file__).parent):
            terminalreporter.write_line(line)
    learned = [
        line
        for report in terminalreporter.getreports("passed")
        for key, line in report.user_properties
        if key == "learned"
    ]
    if learned:
        terminalreporter.section("what every method learned in 60 steps")
        terminalreporter.write_line("deviation of the embeddings' dimensions over windows: least, median, greatest;")
        terminalreporter.write_line("0 where all windows are the same, 1 where they lie all over the sphere")
        for line in sorted(learned):
            terminalreporter.write_line(line)
