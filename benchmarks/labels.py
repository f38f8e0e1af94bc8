"""From labels to a map on real rasters: what each kind of feature is worth, and whether the choice finds the best one.

    python benchmarks/labels.py [--quick] [--sets NAME,NAME] [--draws 20] [--polygons 6] [--minutes 2] [--teach 2]

For each set an encoder is pretrained with the preset quick for some minutes, once, and kept under build/labels; on a
busy machine `--windows` makes the encoders of all sets see as much. The first table is made of runs of the job itself:
all labels, its spatial split by some seeds, the linear head on every feature source and UPerNet taught for some minutes
on the pretrained encoder; mean IoU, and AP50 for boxes. The second one is of draws: a few polygons of each class are
learned from, of a half of the blocks (of three quarters of the polygons, where blocks would leave a class fewer than
three), and the rest is the truth. The choice sees the polygons that are learned from alone. It is right where it is
within 0.03 of the source that does best on the truth. Where truth is known everywhere, polygons are squares drawn in
it. Each line that starts with CLAIM gives a name, the value, the bound and whether it holds.

Shape letters: N labelled pixels, D features, P polygons, K classes.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from real.grounds import DATA, GROUNDS, Ground, prepare
from rsfm import model_file, runs
from rsfm.jobs.finetune import QUICK
from rsfm.jobs.finetune_boxes import QUICK as BOXES
from rsfm.jobs.pretrain import Pretrain
from rsfm.raster.blocks import FEWEST_POLYGONS, GAP, Split, polygon_folds, split_blocks
from rsfm.raster.grid import Grid
from rsfm.raster.label_file import Parameters, read_outlines
from rsfm.raster.labels import Labels, read_labels
from rsfm.raster.reader import Raster, open_raster
from rsfm.runs import Run
from rsfm.training.candidates import features_at, make_candidates
from rsfm.training.finetuning import FOLDS, MOST_PIXELS_PER_CLASS, TITLES, choose, judge
from rsfm.training.holding_out import HeldOut, only
from rsfm.training.linear_fit import thin
from rsfm.training.scores import confusion, mean_iou
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[1]
NEAR = 0.03
"""The choice may be so much below the best source, and is right where it is no further below it."""
LEARNED = 200
"""Pixels of a class that are learned from in a draw, at most; the product takes ten times as many."""
PARTS = 4
"""Of so many parts of the polygons one is held out, where blocks cannot be."""
TREES = ("HARV_022", "HARV_024", "HARV_035", "OSBS_029")


class Draw(NamedTuple):
    """What one draw of labels gives.

    Attributes:
        scores: mean IoU on the truth, by source.
        chosen: the source that the product chooses; empty where it says that it cannot be judged.
        in_blocks: whether blocks were held out, or else polygons.
    """

    scores: dict[str, float]
    chosen: str
    in_blocks: bool

    @property
    def lead(self) -> float:
        """Mean IoU of the chosen source minus that of the best one."""
        return self.scores[self.chosen] - max(self.scores.values())


def do(job: str, folder: Path, **config: Any) -> dict[str, Any]:
    """Run a job as a user would, and return its result."""
    shutil.rmtree(folder, ignore_errors=True)
    values = folder.with_suffix(".json")
    values.write_text(json.dumps(config))
    command = [sys.executable, "-m", "rsfm", "run", job, str(values), "--run", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return result_of(folder)


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = runs.read(folder)["result"]
    return found


def pretrain(rasters: list[Path], options: argparse.Namespace, folder: Path) -> Path:
    """Pretrain with the preset quick, unless it was done before, and say how far it came."""
    preset = next(preset.values for preset in Pretrain.presets() if preset.name == "quick")
    if options.windows:
        budget, run = {"minutes": 0, "samples": options.windows}, folder / f"encoder_{options.windows}_samples"
    else:
        budget, run = {"minutes": options.minutes}, folder / f"encoder_{options.minutes:g}_minutes"
    model = run / "outputs" / "encoder.safetensors"
    if not model.exists():
        values = {**preset, "training": {**preset["training"], **budget}}
        do("pretrain", run, **values, rasters=[str(path) for path in rasters])
    print(f"{folder.name}: {result_of(run)['steps']} steps of pretraining", flush=True)
    return model


def teach(ground: Ground, model: Path, options: argparse.Namespace, folder: Path) -> dict[str, float | None]:
    """Teach UPerNet by all labels; return the mean IoU on held-out blocks, also of the linear head on every source."""
    config = {"raster": str(ground.raster), "labels": str(ground.labels), "class_field": ground.field}
    config |= {"model": str(model), "head": {"name": "upernet"}, "training": {**QUICK, "minutes": options.teach}}
    found: list[dict[str, float | None]] = []
    for seed in range(options.splits):
        result = do("finetune", folder / f"upernet_{seed}", **config, seed=seed)
        print(f"{folder.name}: {result['sentence']}", flush=True)
        found.append(result["mean_iou_blocks"])
    known = {key: [scores[key] for scores in found if scores[key] is not None] for key in found[0]}
    return {key: float(np.mean(values)) if values else None for key, values in known.items()}


def draw_all(ground: Ground, model: Path, options: argparse.Namespace, run: Run) -> list[Draw]:
    """Compute the features of every source at every labelled pixel once, and draw labels again and again."""
    pretrained = model_file.load(str(model))
    statistics = pretrained.card.statistics
    with open_raster(str(ground.raster)) as raster:
        labels = labels_to_draw(ground, raster)
        if len(labels.names) < 2:
            return []
        at, device = (labels.rows_N, labels.columns_N), "cpu"
        features = {
            name: features_at(source, statistics, raster, *at, device, run.check)
            for name, source in make_candidates(raster, statistics, pretrained, 0).items()
        }
        return [draw(labels, raster.grid, features, options.polygons, seed, run) for seed in range(options.draws)]


def labels_to_draw(ground: Ground, raster: Raster) -> Labels:
    """Read the labels, and leave out classes of which too few polygons would be left to learn from."""
    labels = read_labels(str(ground.labels), ground.field, raster)
    labels = only(labels, thin(labels.class_N, labels.polygon_N, MOST_PIXELS_PER_CLASS, 0))
    kept = [at for at, count in enumerate(labels.polygons) if count > FEWEST_POLYGONS]
    for at in set(range(len(labels.names))) - set(kept):
        print(f"  '{labels.names[at]}' is left out of the draws: it has {labels.polygons[at]} polygon(s)")
    labels = only(labels, np.flatnonzero(np.isin(labels.class_N, kept)))
    return labels._replace(
        names=tuple(labels.names[at] for at in kept),
        colours=tuple(labels.colours[at] for at in kept),
        polygons=tuple(labels.polygons[at] for at in kept),
        class_N=np.searchsorted(kept, labels.class_N),
        polygon_N=np.unique(labels.polygon_N, return_inverse=True)[1],
    )


def draw(labels: Labels, grid: Grid, features: dict[str, NDArray[np.float32]], most: int, seed: int, run: Run) -> Draw:
    """Draw polygons to learn from, let the product choose a source by them, and judge all sources by the rest."""
    split, in_blocks = hold_out(labels, grid, seed)
    random = np.random.default_rng(seed)
    class_P = labels.class_N[np.unique(labels.polygon_N, return_index=True)[1]]
    learned = np.unique(labels.polygon_N[split.train_N])
    drawn = [random.permutation(learned[class_P[learned] == value])[:most] for value in range(len(labels.names))]
    train = np.flatnonzero(np.isin(labels.polygon_N, np.concatenate(drawn)))
    train = train[thin(labels.class_N[train], labels.polygon_N[train], LEARNED, seed)]
    part = only(labels, train)
    folds = polygon_folds(part, FOLDS, seed)
    all_N = np.ones(len(train), bool)
    none = HeldOut(part, all_N, (Split(all_N, ~all_N, 0, 0, (), ()),))
    results = {name: judge(each[train], none, folds.fold_N, True, run) for name, each in features.items()}
    chosen, sentence = choose(results, "best")
    if seed == 0:
        print(f"  {' '.join([sentence, *folds.sentences])}")
    test, classes = np.flatnonzero(split.test_N), len(labels.names)
    scores = {
        name: mean_iou(confusion(labels.class_N[test], results[name].fitted.predict(each[test]), classes))
        for name, each in features.items()
    }
    return Draw(scores, chosen if folds.fold_N is not None else "", in_blocks)


def hold_out(labels: Labels, grid: Grid, seed: int) -> tuple[Split, bool]:
    """Hold out blocks; or polygons, where that would leave a class fewer than three to learn from."""
    split = split_blocks(labels, grid, 0, seed)
    class_P = labels.class_N[np.unique(labels.polygon_N, return_index=True)[1]]
    counts = np.bincount(class_P[np.unique(labels.polygon_N[split.train_N])], minlength=len(labels.names))
    if counts.min() >= FEWEST_POLYGONS:
        return split, True
    held_N = polygon_folds(labels, PARTS, seed).fold_N == 0
    points_N2 = np.stack([labels.rows_N, labels.columns_N], 1)
    far_N = cKDTree(points_N2[~held_N]).query(points_N2)[0] > GAP
    alone_K = np.bincount(labels.class_N[held_N & far_N], minlength=len(labels.names)) == 0
    return Split(~held_N, held_N & (far_N | alone_K[labels.class_N]), 0, GAP, (), ()), False


def teach_boxes(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Teach Faster R-CNN trees by boxes, on an untrained and a pretrained encoder; return AP50 on held-out blocks."""
    rasters = [DATA / "neon_trees" / f"{name}.tif" for name in TREES]
    world = CRS.from_epsg(4326)
    boxes = [
        shape
        for path in rasters
        for shape in read_outlines(str(path.with_name(f"{path.stem}_boxes.gpkg")), world, Parameters())
    ]
    labels = folder / "boxes.gpkg"
    labels.unlink(missing_ok=True)
    pyogrio.raw.write(labels, shapely.to_wkb(boxes), [], [], geometry_type="Polygon", crs="EPSG:4326")
    model, found = pretrain(rasters, options, folder), {}
    config = {"rasters": [str(path) for path in rasters], "boxes": str(labels)}
    config["training"] = {**BOXES, "minutes": options.teach}
    for name, more in (("untrained", {}), ("pretrained", {"model": str(model)})):
        result = do("finetune_boxes", folder / f"boxes_{name}", **config, **more)
        print(f"{folder.name}, {name}: {result['sentence']} {result['split']}", flush=True)
        found |= {name: result["ap50"], "template": result["ap50_template"]}
    return found


def print_taught(found: dict[str, dict[str, float | None]], options: argparse.Namespace) -> None:
    """Print the first table."""
    print(f"\nMean IoU on held-out blocks, {options.splits} split(s); UPerNet was taught for {options.teach:g} minutes")
    print("| set | pixels | texture | untrained, linear | pretrained, linear | pretrained, UPerNet |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, scores in found.items():
        order = ("pixels", "texture", "untrained", "pretrained", "upernet")
        print(f"| {name} | {' | '.join(write(scores.get(key)) for key in order)} |")


def print_drawn(found: dict[str, list[Draw]]) -> None:
    """Print the second table, and a claim for each set."""
    print("\nMean IoU on what was not learned from, mean over the draws")
    print("| set | draws | pixels | texture | untrained | pretrained | the choice | choice minus best | right | best |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    claims = []
    for name, draws in found.items():
        judged = [each for each in draws if each.chosen]
        if not judged:
            print(f"| {name} | 0 | {'| ' * 7}| it cannot be judged")
            continue
        means = {key: float(np.mean([each.scores[key] for each in judged])) for key in TITLES}
        choice = float(np.mean([each.scores[each.chosen] for each in judged]))
        right = float(np.mean([each.lead >= -NEAR for each in judged]))
        best = float(np.mean([each.lead == 0 for each in judged]))
        difference = choice - max(means.values())
        cells = [write(means[key]) for key in TITLES]
        print(
            f"| {name} | {len(judged)} | {' | '.join(cells)} | {write(choice)} | {difference:+.3f} | {right:.0%} | "
            f"{best:.0%} |"
        )
        blocks = sum(each.in_blocks for each in judged)
        claims.append((name, difference, f"blocks in {blocks}, cannot be judged in {len(draws) - len(judged)}"))
    for name, difference, told in claims:
        print(f"{name}: {told} of {len(found[name])} draws")
        state = "ok" if difference >= -NEAR else "short"
        print(f"CLAIM labels_choice_minus_best_{name} {difference:+.3f} {-NEAR:+.2f} {state}")


def write(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one set, 2 draws, seconds of pretraining")
    parser.add_argument("--sets", default=",".join([*GROUNDS, "neon_trees"]), help="names, separated by commas")
    parser.add_argument("--draws", type=int, default=20, help="of labels, a set; 0 leaves them out")
    parser.add_argument("--polygons", type=int, default=6, help="of a class that are learned from, at most")
    parser.add_argument("--minutes", type=float, default=2, help="of pretraining, a set")
    parser.add_argument("--windows", type=int, default=0, help="to pretrain with, in place of minutes")
    parser.add_argument(
        "--teach", type=float, default=2, help="minutes for UPerNet and Faster R-CNN; 0 leaves them out"
    )
    parser.add_argument("--splits", type=int, default=3, help="of the labels, that UPerNet is taught on and judged by")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "labels", help="folder where runs are kept")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.draws, options.minutes, options.teach = "s2_carolina", 2, 0.05, 0
    return options


def main() -> None:
    options, started = read_arguments(), time.monotonic()
    taught: dict[str, dict[str, float | None]] = {}
    drawn: dict[str, list[Draw]] = {}
    trees: dict[str, float] = {}
    for name in options.sets.split(","):
        source = DATA / "neon_trees" if name == "neon_trees" else GROUNDS[name].raster
        if not source.exists():
            print(f"{name} is skipped: {source} is not there (set RSFM_TEST_DATA)")
            continue
        folder = options.out.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        if name == "neon_trees":
            trees = teach_boxes(options, folder) if options.teach else {}
            continue
        ground = prepare(GROUNDS[name], folder)
        model = pretrain([ground.raster], options, folder)
        if options.draws:
            drawn[name] = draw_all(ground, model, options, Run(runs.create(folder / "draws", "finetune", name, {})))
            (folder / "draws.json").write_text(json.dumps([each._asdict() for each in drawn[name]]))
        if options.teach:
            taught[name] = teach(ground, model, options, folder)
    if taught:
        print_taught(taught, options)
    if drawn:
        print_drawn(drawn)
    if trees:
        cells = ", ".join(f"{key} {write(value)}" for key, value in trees.items())
        print(f"\nneon_trees, AP50 on held-out blocks: {cells}")
    print(f"\n{(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
