"""10,000 rasters of 1 GB each: the collection is made, opened and looked through in little time and memory."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.transform import from_origin

RASTERS = 10_000
GATHERED = 1_000
"""Files that are described one by one; the others repeat what was found, each with its own place and date."""
CODE = """
import json, sys, time
from pathlib import Path
from rsfm.raster.band_names import band_numbers, shared_bands
from rsfm.raster.collection import load, save
from rsfm.raster.gather import gather
from rsfm.raster.overlap import groups

folder, total = Path(sys.argv[1]), int(sys.argv[2])
target = folder / "x.collection.json"
clock = time.process_time()
gathered = gather([str(folder / "rasters")], "x", target).collection
seconds = {"gather": time.process_time() - clock, "gathered": len(gathered.imagery)}
first = gathered.entries
entries = tuple(first[n % len(first)].model_copy(update={
    "path": str(folder / f"rasters/copy_{n}.tif"), "date": f"{2000 + n % 20}-06-15T10:00:00+00:00",
    "footprint": (n % 300 - 150.0, n // 300 - 40.0, n % 300 - 148.9, n // 300 - 38.9)}) for n in range(total))
save(target, gathered.model_copy(update={"entries": entries}))
clock = time.process_time()
collection = load(str(target))
seconds["load"] = time.process_time() - clock
clock = time.process_time()
shared = shared_bands(collection.imagery)
assert [band_numbers(entry, shared) for entry in collection.imagery] == [[1, 2, 3, 4]] * total
seconds["bands"] = time.process_time() - clock
clock = time.process_time()
seconds["places"] = len(groups(collection.imagery))
seconds["groups"] = time.process_time() - clock
seconds["peak_kb"] = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(seconds))
"""


def write_sparse(folder: Path, count: int) -> None:
    """Write rasters of 10980 x 10980 pixels in four bands that take 1 GB by their size and a few kB on the disk."""
    folder.mkdir()
    first = folder / "first.tif"
    corner = (500000.0, 5100000.0)
    layout: dict[str, Any] = {"tiled": True, "blockxsize": 1024, "blockysize": 1024, "SPARSE_OK": True}
    grid = {"height": 10980, "width": 10980, "crs": "EPSG:32633", "transform": from_origin(*corner, 10, 10)}
    with rasterio.open(
        first, "w", driver="GTiff", count=4, dtype="uint16", interleave="band", **grid, **layout
    ) as file:
        file.descriptions = ("blue", "green", "red", "nir")
    header = first.read_bytes()
    first.unlink()
    at = header.index(struct.pack("<dd", *corner))
    for number in range(count):
        place = struct.pack("<dd", 300000.0 + number % 100 * 1000, 5000000.0 - number // 100 * 1000)
        path = folder / f"scene_{number:05}_{2010 + number % 10}0615.tif"
        path.write_bytes(header[:at] + place + header[at + 16 :])
        os.truncate(path, 10**9)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_ten_thousand_rasters_of_a_gigabyte_are_opened_in_seconds_and_little_memory(tmp_path):
    write_sparse(tmp_path / "rasters", GATHERED)
    command = [sys.executable, "-c", CODE, str(tmp_path), str(RASTERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["gathered"] == GATHERED
    assert found["load"] < 5
    assert found["bands"] < 2
    assert found["groups"] < 10
    assert found["places"] >= 1
    assert found["gather"] / GATHERED < 0.1
    assert found["peak_kb"] < 1_000_000
