"""With which method does pretraining pay? Every method with its quick preset, on one scene, beside the baselines.

    python scripts/learn.py [--minutes 15] [--methods mae dino] [--out build/learn]
    python scripts/learn.py --scene SCENE.tif --labels L.gpkg --field NAME [--minutes 5] [--learn-from DATE.tif ...]

With a truth of every pixel: mean IoU over 5 split seeds, 1000 labelled pixels, the same logistic regression on every
kind of feature (benchmarks/pretraining.py). With polygons: the scores of fine-tuning. A method that was measured with
the same settings is not measured again, so that the campaign may be broken off and taken up. Deviation is that of the
embeddings' dimensions over windows of what was learned from, the median of them: 0 where all windows are the same, 1
where they lie all over the sphere.

Shape letters: N windows, D features.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TEXTURE = Path(os.environ.get("RSFM_TEST_DATA", ROOT.parent / "shared" / "data")) / "texture_scene"
sys.path.insert(0, str(ROOT / "benchmarks"))

PRESETS = {
    "moco_v2": "quick",
    "dino": "dino_quick",
    "mae": "mae_quick",
    "satmae": "satmae_quick",
    "gassl": "gassl_quick",
    "satdino": "satdino_quick",
    "pera": "pera_quick",
    "data2vec": "data2vec_quick",
}


def learn(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Pretrain with a method and score it; returns mean IoU by feature source, with steps, seconds and warnings."""
    folder = options.out / method
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    command = [sys.executable, "-m", "rsfm", "pretrain", "--preset", PRESETS[method]]
    rasters = [str(path) for path in options.learn_from or [options.scene]]
    command += ["--rasters", json.dumps(rasters), "--training.minutes", str(options.minutes)]
    started, used = time.monotonic(), os.times().children_user + os.times().children_system
    said = subprocess.run([*command, "--run", str(folder)], check=True, capture_output=True, text=True).stderr
    minutes = (time.monotonic() - started) / 60
    spent = os.times().children_user + os.times().children_system - used
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    done = next(event["result"] for event in events if event["type"] == "done")
    model = folder / "outputs" / "encoder.safetensors"
    return {
        "scores": _from_polygons(model, options) if options.labels else _from_truth(model, options),
        "steps": done["steps"],
        "minutes": round(minutes, 1),
        "cpu_minutes": round(spent / 60, 1),
        "deviation": deviation(model, options.learn_from or [options.scene]),
        "warnings": [event["text"] for event in events if event["type"] == "warning"]
        + [line for line in said.splitlines() if "Warning" in line],
    }


def deviation(model: Path, rasters: Sequence[Path]) -> float:
    """Return the median deviation of the dimensions of 256 windows' embeddings of length 1, times the root of D.

    The windows are from all rasters, the dates of a collection included.
    """
    import torch
    from rsfm import model_file
    from rsfm.blocks.normalisation import Normalisation
    from rsfm.raster.collection_source import open_source
    from rsfm.raster.grid import Window
    from rsfm.raster.in_units import in_units

    file = model_file.load(str(model))
    normalise = Normalisation.from_statistics(file.card.statistics)
    side, random = file.card.window // 8 * 8, np.random.default_rng(0)
    paths, read = _each(rasters), []
    for number in range(256):
        with open_source(paths[number % len(paths)]) as opened:
            raster = in_units(opened, file.card.band_names) if file.card.units else opened
            corner = [int(random.integers(edge - side + 1)) for edge in (raster.grid.height, raster.grid.width)]
            read.append(raster.read_native(Window(*corner, side, side)))
    pixels, valid = (torch.from_numpy(np.stack(part)) for part in zip(*read, strict=True))
    with torch.inference_mode():
        unit_ND = torch.nn.functional.normalize(file.encoder().embedding(normalise(pixels, valid)).float(), dim=1)
    return round(float(unit_ND.std(0).median() * unit_ND.shape[1] ** 0.5), 3)


def _each(rasters: Sequence[Path]) -> list[str]:
    """Return the paths of rasters and of those that collections hold."""
    from rsfm.raster import collection

    found = []
    for path in map(str, rasters):
        if collection.is_collection(path):
            found += [entry.path for entry in collection.load(path).imagery]
        else:
            found.append(path)
    return found


def _from_truth(model: Path, options: argparse.Namespace) -> dict[str, float]:
    import pretraining

    found = pretraining.compare(options.scene, options.truth, model)
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def _from_polygons(model: Path, options: argparse.Namespace) -> dict[str, float]:
    config = {
        "raster": str(options.scene),
        "labels": str(options.labels),
        "class_field": options.field,
        "model": str(model),
    }
    values = model.parents[1] / "finetune.json"
    values.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "rsfm", "run", "finetune", str(values), "--json"]
    folder = model.parents[1] / "finetune"
    process = subprocess.run([*command, "--run", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    events = [json.loads(line) for line in process.stdout.splitlines()]
    scores = next(event["result"] for event in events if event["type"] == "done")["mean_iou_polygons"]
    return {name: value for name, value in scores.items() if value is not None}


def table(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table, the best method first."""
    lines = ["| features | mean IoU | minus pixels | minus texture | minus untrained |", "|---|---|---|---|---|"]
    any_scores = next(iter(results.values()))["scores"]
    lines += [f"| {name} | {any_scores[name]:.3f} | | | |" for name in ("pixels", "texture") if name in any_scores]
    for method, found in sorted(results.items(), key=lambda entry: -entry[1]["scores"]["pretrained"]):
        scores = found["scores"]
        gains = [f"{scores['pretrained'] - scores[name]:+.3f}" for name in ("pixels", "texture", "untrained")]
        told = f"{found['steps']} steps, deviation {found['deviation']:.2f}"
        lines.append(f"| {method}, {told} | {scores['pretrained']:.3f} | {' | '.join(gains)} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15, help="time to pretrain; 15 on two cores are 30 of a CPU")
    parser.add_argument("--methods", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--scene", type=Path, default=TEXTURE / "scene.tif")
    parser.add_argument("--truth", type=Path, default=TEXTURE / "truth.tif", help="raster of the class of every pixel")
    parser.add_argument("--labels", type=Path, help="polygons in place of the truth")
    parser.add_argument("--field", default="class", help="attribute that holds the class")
    parser.add_argument("--learn-from", type=Path, nargs="+", help="rasters or a collection to learn from; the scene")
    parser.add_argument("--out", type=Path, default=Path("build/learn"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if not options.scene.exists():
        raise SystemExit(f"There is no scene at {options.scene}. Name one with --scene, or set RSFM_TEST_DATA.")
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "results.json"
    learned = [str(path) for path in options.learn_from or []]
    settings = {"scene": str(options.scene), "labels": str(options.labels), "minutes": options.minutes, "from": learned}
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    results = known.get("results", {}) if known.get("settings") == settings else {}
    for method in options.methods:
        if method not in results:
            results[method] = learn(method, options)
            kept.write_text(json.dumps({"settings": settings, "results": results}, indent=1), encoding="utf-8")
        print(method, json.dumps(results[method]), flush=True)
    print(table({method: results[method] for method in options.methods}))


if __name__ == "__main__":
    main()
