"""The whole path in one go: a raster, an encoder pretrained on it, polygons, and three layers in a QGIS project.

    python scripts/demo.py --out build/demo [--raster R --labels L --field F --before B --after A] [--minutes 3]

Without a raster it makes the sample scene, and prints the scores against its truth. Every step is the command a user
would type.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

ROOT = Path(__file__).resolve().parents[1]
TEXTURE = Path(os.environ.get("RSFM_TEST_DATA", ROOT.parent / "shared" / "data")) / "texture_scene"
sys.path.insert(0, str(ROOT / "benchmarks"))


class Demo:
    """The steps, each timed, with what they made."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.out, self.minutes = out, minutes
        self.seconds: dict[str, float] = {}
        self.outputs: list[dict[str, Any]] = []

    def job(self, phase: str, name: str, **config: Any) -> tuple[Path, dict[str, Any]]:
        """Run a job as a user would, and return its folder and its result."""
        folder = self.out / "runs" / phase
        preset = config.pop("preset", None)
        values = self.out / f"{phase}.json"
        values.write_text(json.dumps({**(preset or {}), **config}), encoding="utf-8")
        started = time.monotonic()
        command = [sys.executable, "-m", "rsfm", "run", name, str(values), "--run", str(folder), "--json"]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        self.seconds[phase] = time.monotonic() - started
        events = [json.loads(line) for line in process.stdout.splitlines()]
        if process.returncode:
            raise SystemExit("\n".join(event["text"] for event in events if event["type"] == "error"))
        for event in events:
            if event["type"] == "output":
                self.outputs.append({**event, "run": folder.name})
            elif event["type"] in {"note", "warning"}:
                print(f"  {event['text']}")
        result = next(event["result"] for event in events if event["type"] == "done")
        print(f"{phase}: {self.seconds[phase]:.0f} s", flush=True)
        return folder, result

    def publish(self, folder: Path, file: str, name: str) -> None:
        """Copy an output to its place in the demo's folder."""
        shutil.copy2(folder / "outputs" / file, self.out / name)


def mean_iou(predicted: Path, truth: Path) -> float:
    """Score a segmentation against the truth, everywhere that both are known."""
    from rsfm.training.scores import confusion
    from rsfm.training.scores import mean_iou as score

    with rasterio.open(predicted) as a, rasterio.open(truth) as b:
        map_HW, truth_HW = a.read(1).astype(int), b.read(1).astype(int)
        names = _names(a.tags()["RSFM_CLASSES"])
        known = {int(key[6:]): name for key, name in b.tags().items() if key[:6] == "CLASS_" and key[6:].isdigit()}
    same = {value: next(k for k, other in known.items() if other == name) for value, name in names.items()}
    labelled = np.isin(truth_HW, list(same.values())) & (map_HW != 255)
    table = np.zeros(256, int)
    table[list(same)] = list(same.values())
    return score(confusion(truth_HW[labelled], table[map_HW[labelled]], max(known) + 1))


def f1(mask: Path, truth: Path) -> float:
    """Score a change mask against the truth."""
    with rasterio.open(mask) as a, rasterio.open(truth) as b:
        found_HW, truth_HW, valid_HW = a.read(1) == 1, b.read(1) == 1, a.read(1) != 255
    hits = (found_HW & truth_HW & valid_HW).sum()
    return float(2 * hits / max((found_HW & valid_HW).sum() + (truth_HW & valid_HW).sum(), 1))


def _names(text: str) -> dict[int, str]:
    return {int(part.split(" ", 1)[0]): part.split(" ", 1)[1] for part in text.split("; ")}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    parser.add_argument("--raster", help="raster to learn from and to map")
    parser.add_argument("--labels", help="polygons with a class")
    parser.add_argument("--field", default="class", help="attribute that holds the class")
    parser.add_argument("--before", help="earlier raster of a pair")
    parser.add_argument("--after", help="later raster of a pair")
    parser.add_argument("--truth-change", type=Path, help="raster of 0 and 1 to score the change with")
    parser.add_argument("--minutes", type=float, default=3, help="time to pretrain")
    parser.add_argument("--no-comparison", action="store_true", help="leave the comparison of features out")
    parser.add_argument("--no-window", action="store_true", help="leave QGIS out")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    out = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    demo, started = Demo(out, options.minutes), time.monotonic()
    sample = options.raster is None
    if sample:
        scene = _sample(out)
        options.raster, options.labels = str(scene / "scene_2023-07-15.tif"), str(scene / "labels.gpkg")
        options.before, options.after = options.raster, str(scene / "scene_2024-07-12.tif")
        options.truth_change = scene / "truth_change.tif"
    model, chosen = run_jobs(demo, options)
    if sample:
        score = mean_iou(out / "segmentation.tif", scene / "truth_classes_2023-07-15.tif")
        print(f"\nSegmentation against the truth of every pixel: mean IoU {score:.3f} ({chosen})")
    if options.truth_change and (out / "change.tif").exists():
        print(f"Change against the truth: F1 {f1(out / 'change.tif', options.truth_change):.3f}")
    if not options.no_window:
        show(demo, options.raster)
    if sample and not options.no_comparison:
        compare(demo, model, scene)
    phases = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in demo.seconds.items())
    print(f"\nWall time {time.monotonic() - started:.0f} s: {phases}")
    print(f"Open {out / 'project.qgz'} in QGIS, or look at {out / 'map.png'}.")


def run_jobs(demo: Demo, options: argparse.Namespace) -> tuple[Path, str]:
    """Run every job on the user's files; what lacks its inputs is left out, and said."""
    from rsfm.jobs.pretrain import Pretrain

    preset = next(preset for preset in Pretrain.presets() if preset.name == "quick").values
    preset = {**preset, "training": {**preset["training"], "minutes": demo.minutes}}
    folder, result = demo.job("pretrain", "pretrain", preset=preset, rasters=[options.raster])
    model, chosen = folder / "outputs" / "encoder.safetensors", ""
    print(f"  {result['steps']} steps, {result['windows']} windows")
    if options.labels:
        tuned, result = demo.job(
            "finetune",
            "finetune",
            raster=options.raster,
            labels=options.labels,
            class_field=options.field,
            model=str(model),
        )
        chosen = result["chosen"]
        for name, score in result["mean_iou_blocks"].items():
            print(f"  held-out blocks, {name:12s} mean IoU {'-' if score is None else f'{score:.3f}'}")
        tuned_model = str(tuned / "outputs" / "model.safetensors")
        folder, _ = demo.job("segment", "segment", raster=options.raster, model=tuned_model, polygons=True)
        demo.publish(folder, "segmentation.tif", "segmentation.tif")
    else:
        print("No polygons were given (LABELS=): fine-tuning and segmentation are left out.")
    if options.before and options.after:
        pair = {"before": options.before, "after": options.after, "model": str(model)}
        folder, _ = demo.job("detect_change", "detect_change", **pair)
        demo.publish(folder, "change.tif", "change.tif")
    else:
        print("No pair was given (BEFORE= AFTER=): change is left out.")
    folder, _ = demo.job("embed", "embed", raster=options.raster, model=str(model))
    demo.publish(folder, "embedding.tif", "embedding.tif")
    return model, chosen


def natural_colours(raster: str) -> list[int | None]:
    """Return the numbers of the bands an eye would see as red, green and blue; None for one the raster lacks."""
    from rsfm.raster.band_names import band_numbers
    from rsfm.raster.describing import describe_raster

    return band_numbers(describe_raster(raster), ["B4", "B3", "B2"])


def show(demo: Demo, raster: str) -> None:
    """Put the layers into a QGIS project, in a real window, and take its picture."""
    started = time.monotonic()
    (demo.out / "layers.json").write_text(
        json.dumps(
            {"raster": str(Path(raster).resolve()), "colours": natural_colours(raster), "outputs": demo.outputs}
        ),
        encoding="utf-8",
    )
    command = ["qgis", "--nologo", "--noversioncheck", "--profiles-path", str(demo.out / "profile")]
    command += ["--code", str(ROOT / "scripts" / "demo_qgis.py")]
    if not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", *command]
    environment = {**os.environ, "RSFM_DEMO": str(demo.out), "RSFM_CODE": str(ROOT)}
    environment.pop("VIRTUAL_ENV", None)
    with open(demo.out / "qgis.log", "wb") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=300)
    if not (demo.out / "map.png").exists() or not (demo.out / "project.qgz").exists():
        raise SystemExit(f"QGIS made no map. Its log: {demo.out / 'qgis.log'}")
    demo.seconds["qgis"] = time.monotonic() - started
    print(f"qgis: {demo.seconds['qgis']:.0f} s")


def compare(demo: Demo, model: Path, scene: Path) -> None:
    """Say what pretraining is worth where the truth is known everywhere."""
    import pretraining as benchmark

    print()
    started = time.monotonic()
    truth = scene / "truth_classes_2023-07-15.tif"
    results = benchmark.compare(scene / "scene_2023-07-15.tif", truth, model)
    benchmark.report("sample scene", results, {})
    if TEXTURE.is_dir():
        model = benchmark.pretrain(TEXTURE / "scene.tif", demo.minutes, demo.out / "runs" / "texture")
        results = benchmark.compare(TEXTURE / "scene.tif", TEXTURE / "truth.tif", model)
        benchmark.report("texture scene", results, benchmark.BOUNDS)
    else:
        print(f"The texture scene is not at {TEXTURE}: not compared (set RSFM_TEST_DATA).")
    demo.seconds["comparison"] = time.monotonic() - started


def _sample(out: Path) -> Path:
    subprocess.run([sys.executable, "-m", "rsfm", "sample", str(out / "scene")], check=True)
    return out / "scene"


if __name__ == "__main__":
    main()
