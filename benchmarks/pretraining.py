"""Does pretraining pay? The same head on raw pixels, pixels with texture, the untrained and the pretrained encoder.

Measured where the truth is known everywhere: half of the blocks train, half test, 8 px dropped at their borders, 1000
labelled pixels in 40 blobs, class-balanced logistic regression with C by cross-validation over blobs, mean IoU.

    python benchmarks/pretraining.py [--quick] [--minutes 3] [--scene SCENE.tif --truth TRUTH.tif]

Without a scene it makes the sample scene. Shape letters: N pixels, D features, H rows, W columns.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rsfm import model_file
from rsfm.raster.reader import open_raster
from rsfm.training.candidates import features_at, make_candidates
from rsfm.training.linear_fit import cross_validate, fit
from rsfm.training.scores import confusion, mean_iou
from scipy import ndimage

BLOBS, BLOB_PIXELS, TESTED_PIXELS, BORDER = 40, 25, 20_000, 8
BOUNDS = {"pixels": 0.18, "texture": 0.08, "untrained": 0.20}
"""Least gain of the pretrained encoder over each baseline, measured on a texture scene after 100 CPU seconds."""


def draw_labels(truth_HW: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Draw blobs from the training blocks and pixels from the test blocks.

    Returns:
        train_N, test_N: flat indices of pixels; blob_N: the blob of each training pixel.
    """
    random = np.random.default_rng(seed)
    block = 128 if min(truth_HW.shape) >= 1024 else 64 if min(truth_HW.shape) >= 512 else 25
    rows, columns = -(-truth_HW.shape[0] // block), -(-truth_HW.shape[1] // block)
    train_BB = np.arange(rows * columns).reshape(rows, columns) % 2 == 0
    train_BB = random.permutation(train_BB.ravel()).reshape(rows, columns)
    train_HW = np.kron(train_BB, np.ones((block, block), bool))[: truth_HW.shape[0], : truth_HW.shape[1]]
    border = BORDER if block > 25 else 1
    inside_train = ndimage.binary_erosion(train_HW, iterations=border, border_value=1) & (truth_HW > 0)
    inside_test = ndimage.binary_erosion(~train_HW, iterations=border, border_value=1) & (truth_HW > 0)
    classes = np.unique(truth_HW[truth_HW > 0])
    train, blob = [], []
    for number in range(BLOBS):
        label = classes[number % len(classes)]
        found = np.flatnonzero(inside_train & (truth_HW == label))
        if len(found) == 0:
            continue
        centre = random.choice(found)
        distance = np.hypot(
            *(
                a - b
                for a, b in zip(np.divmod(found, truth_HW.shape[1]), divmod(centre, truth_HW.shape[1]), strict=True)
            )
        )
        train.append(found[np.argsort(distance, kind="stable")[:BLOB_PIXELS]])
        blob.append(np.full(len(train[-1]), number))
    test = random.permutation(np.flatnonzero(inside_test))[:TESTED_PIXELS]
    return np.concatenate(train), test, np.concatenate(blob)


def compare(scene: Path, truth: Path, model: Path, seeds: int = 5) -> dict[str, list[float]]:
    """Return the mean IoU of each feature source for each seed."""
    with rasterio.open(truth) as file:
        truth_HW = file.read(1)
    truth_HW = np.where(truth_HW == 255, 0, truth_HW)
    draws = [draw_labels(truth_HW, seed) for seed in range(seeds)]
    wanted = np.unique(np.concatenate([np.concatenate([train, test]) for train, test, _ in draws]))
    rows, columns = np.divmod(wanted, truth_HW.shape[1])
    pretrained = model_file.load(str(model))
    classes = int(truth_HW.max()) + 1
    results: dict[str, list[float]] = {}
    with open_raster(str(scene)) as raster:
        statistics = pretrained.card.statistics
        for name, source in make_candidates(raster, statistics, pretrained, seed=0).items():
            features_ND = features_at(source, statistics, raster, rows, columns, "cpu", lambda: None)
            results[name] = [_score(features_ND, wanted, truth_HW.ravel(), classes, *draw) for draw in draws]
    return results


def _score(
    features_ND: NDArray[Any],
    wanted_N: NDArray[Any],
    truth_N: NDArray[Any],
    classes: int,
    train: NDArray[Any],
    test: NDArray[Any],
    blob: NDArray[Any],
) -> float:
    train_ND, test_ND = features_ND[np.searchsorted(wanted_N, train)], features_ND[np.searchsorted(wanted_N, test)]
    fold = blob // len(np.unique(truth_N[train])) % 3  # whole blobs, every class in every fold
    penalty = cross_validate(train_ND, truth_N[train], fold, classes).penalty
    predicted = fit(train_ND, truth_N[train], classes, penalty).predict(test_ND)
    return mean_iou(confusion(truth_N[test], predicted, classes))


def report(title: str, results: dict[str, list[float]], bounds: dict[str, float]) -> None:
    """Print the table, and a line a claim."""
    print(f"{title}: mean IoU over {len(results['pixels'])} split seeds, 1000 labelled pixels, same head")
    for name, values in results.items():
        print(f"  {name:12s} {np.mean(values):.3f}   " + " ".join(f"{value:.3f}" for value in values))
    for name, bound in bounds.items():
        gain = float(np.mean(results["pretrained"]) - np.mean(results[name]))
        state = "ok" if gain >= bound else "short"
        print(f"CLAIM {title.replace(' ', '_')}_pretrained_minus_{name} {gain:+.3f} {bound:+.2f} {state}", flush=True)


def pretrain(scene: Path, minutes: float, folder: Path) -> Path:
    """Pretrain with the quick preset, as a user would, and return the model."""
    command = [sys.executable, "-m", "rsfm", "pretrain", "--preset", "quick", "--rasters", json.dumps([str(scene)])]
    command += ["--training.minutes", str(minutes), "--run", str(folder)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return folder / "outputs" / "encoder.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a small scene, one minute, two seeds")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--truth", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene, truth = options.scene, options.truth
        if scene is None:
            size = "512" if options.quick else "1024"
            subprocess.run([sys.executable, "-m", "rsfm", "sample", folder, "--size", size], check=True)
            scene = Path(folder) / "scene_2023-07-15.tif"
            truth = Path(folder) / "truth_classes_2023-07-15.tif"
        model = pretrain(scene, 1 if options.quick else options.minutes, Path(folder) / "run")
        bounds = dict.fromkeys(BOUNDS, 0.0) if options.quick else BOUNDS
        report(
            scene.parent.name if options.scene else "sample scene",
            compare(scene, truth, model, 2 if options.quick else 5),
            bounds,
        )


if __name__ == "__main__":
    main()
