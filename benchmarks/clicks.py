"""What a click costs on a view of 2,000 x 2,000 pixels, and the map of a whole raster, beside reading both dates once.

    python benchmarks/clicks.py [--quick] [--side 8000]

Ten clicks are made one after the other on a pair of 4 bands of uint8. Each line that starts with CLAIM gives a name,
the value, the bound and whether it holds.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyogrio
import shapely
from change import write_pair
from rsfm import runs
from rsfm.differences.refining import refine_change
from rsfm.jobs.refine_change import RefineChangeConfig
from rsfm.raster.pair import open_pair
from rsfm.refit_process import RefitProcess

VIEW, CLICKS = 2000, 10
CLICK_BOUND_SECONDS = 2.0


def write_clicks(path: Path, count: int, side: int) -> str:
    """Write so many clicks of each of two kinds, at places that all data of the pair cover."""
    random = np.random.default_rng(0)
    places = random.integers(0, side, (2 * count, 2)) + 0.5
    points = shapely.to_wkb([shapely.Point(500000 + column, 5100000 - row) for row, column in places])
    kinds = np.array(["this", "not this"] * count, object)
    path.unlink(missing_ok=True)
    pyogrio.raw.write(path, points, [kinds], ["kind"], layer="clicks", geometry_type="Point", crs="EPSG:32633")
    return str(path)


def floor(pair: list[Path]) -> float:
    """Return the processor's seconds that reading both dates once takes."""
    began = time.process_time()
    with open_pair(*map(str, pair)) as opened:
        for strip in opened.strips(opened.window):
            opened.read(strip)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--side", type=int, default=8000)
    options = parser.parse_args()
    side = 2048 if options.quick else options.side
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair = write_pair(folder, side)
        said = {"before": str(pair[0]), "after": str(pair[1])}
        process, slowest = RefitProcess(), 0.0
        screen = {"bounds": [500000, 5100000 - VIEW, 500000 + VIEW, 5100000], "crs": "EPSG:32633"}
        for count in range(5, 5 + CLICKS):
            config = {**said, "clicks": write_clicks(folder / "clicks.gpkg", count, VIEW)}
            began = time.perf_counter()
            answer = process.refit(config, screen, str(folder / "view"))
            spent = time.perf_counter() - began
            parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in answer["seconds"].items())
            print(f"click {count - 4}: {spent:.2f} s ({parts})", flush=True)
            slowest = max(slowest, spent) if count > 5 else 0.0
        process.close()
        claim("seconds_of_a_click", slowest, CLICK_BOUND_SECONDS)
        run = runs.Run(runs.create(folder / "runs", "refine_change", "benchmark", {}))
        began = time.process_time()
        refine_change(RefineChangeConfig(**config, show=5), run)
        megapixels = side * side / 1e6
        whole, reading = (time.process_time() - began) / megapixels, floor(pair) / megapixels
        print(json.dumps({"side": side, "s_per_megapixel": round(whole, 3), "reading": round(reading, 3)}))


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.3f} <= {bound} {'holds' if value <= bound else 'FAILS'}")


if __name__ == "__main__":
    main()
