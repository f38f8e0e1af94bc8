"""Samples a second of our training, end to end from GeoTIFFs, beside the same method in its authors' style.

    python benchmarks/training.py [--quick] [--device cpu] [--rounds 5] [--methods mae dino moco_v2]

Both sides learn from windows of the same files with the same encoder, views and batch, and take turns on the same two
cores, each turn in a process of its own; the first steps warm up. The plain side (`benchmarks/plain/`) makes its views
of PIL images in a DataLoader of two workers, computes in float32 with attention written out, and steps with torch's own
optimizer and threads as they come. MAE takes the batch of its preset *quick*. A line tells the median of the rounds,
and CPU seconds with all processes counted. On a GPU the encoders are those of the papers, the loader has a worker for
each core, and our share of the bf16 products that the device was measured to do is told.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import rasterio
import torch
from lightning_fabric import Fabric
from plain.images import DINOViews, MAEView, MoCoViews, load
from plain.learners import PlainDINO, PlainMAE, PlainMoCo, unfuse
from rasterio.transform import from_origin
from rsfm import runs
from rsfm.allocator import keep_freed_memory
from rsfm.blocks.transformer import transformer_blocks
from rsfm.devices import precision
from rsfm.jobs.pretrain import PretrainConfig
from rsfm.model_file import build_encoder
from rsfm.runs import Run
from rsfm.training.loop import Budget, train
from rsfm.training.pretraining import build_method
from rsfm.training.window_source import open_windows
from scipy import ndimage
from torch.utils.flop_counter import FlopCounterMode

CORES, BANDS = 2, 3
BOUNDS = {"cpu": 1.3, "cuda": 5.0}
LEAST_USE = 0.45
METHODS = ("moco_v2", "dino", "mae")
HEAD = {"prototypes": 4096, "hidden": 512, "bottleneck": 64}


class Case(NamedTuple):
    """What both sides train: the side of a window, windows a step, the encoder and the method's numbers."""

    window: int
    batch: int
    encoder: dict[str, Any]
    method: dict[str, Any]
    training: dict[str, Any]


class Speed(NamedTuple):
    """Samples a second, CPU seconds a sample, and on a GPU the FLOP a second of our products."""

    rate: float
    cpu: float
    flops: float = 0.0


def make_case(name: str, device: str) -> Case:
    """Return a small case for a CPU, or the published sizes for a GPU."""
    large = device == "cuda"
    side, small = (224, 96) if large else (112, 48)
    vit = {"size": "base" if large else "tiny", "patch_size": 16, "window": side}
    adamw = {"optimizer": "adamw", "learning_rate": 1e-4, "decay_all": False}
    if name == "mae":
        decoder = {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16} if large else {}
        method = {"name": name, "mask_ratio": 0.75, "views": "published", **decoder}
        return Case(side, 256 if large else 64, {"name": "vit", **vit}, method, {**adamw, "clip_norm": 0})
    if name == "dino":
        views = {"large_size": side, "small_size": small, "small_views": 8 if large else 4, "drop_path": 0}
        method = {"name": name, **views, **HEAD, "norm_last_layer": False, "freeze": 0}
        return Case(
            side * 8 // 7, 64 if large else 16, {"name": "vit_learned", **vit}, method, {**adamw, "clip_norm": 0}
        )
    method = {"name": name, "views": "published", "view_size": side, "queue": 4096, "dimension": 128, "momentum": 0.999}
    sgd = {"optimizer": "sgd", "learning_rate": 0.03, "weight_decay": 1e-4, "clip_norm": 0}
    return Case(side, 128 if large else 32, {"name": "resnet", "depth": "50" if large else "18"}, method, sgd)


def write_rasters(folder: Path, count: int, side: int) -> list[Path]:
    """Write tiled, compressed rasters of 8 bits with the texture of land."""
    generator, paths = np.random.default_rng(0), []
    for number in range(count):
        fields = ndimage.gaussian_filter(generator.normal(size=(BANDS, side, side)), (0, 3, 3))
        pixels_CHW = (fields / fields.std() * 50 + 110 + generator.normal(size=fields.shape) * 6).clip(1, 255)
        profile = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
        where = {"crs": "EPSG:32633", "transform": from_origin(500000 + number * side, 5100000, 1, 1)}
        path = folder / f"{number}.tif"
        with rasterio.open(
            path, "w", width=side, height=side, count=BANDS, dtype="uint8", nodata=0, **profile, **where
        ) as file:
            file.write(pixels_CHW.astype(np.uint8))
        paths.append(path)
    return paths


class Enough(Exception):
    """All steps that are measured are done."""


class TimedRun(Run):
    """A run that looks at the clock after each step."""

    def __init__(self, folder: Path, mark: Callable[[], None]) -> None:
        super().__init__(folder)
        self._mark = mark

    def check(self) -> None:
        self._mark()


class Clock:
    """Measures the steps after those that warm up."""

    def __init__(self, warm: int, device: str) -> None:
        self.steps, self._warm, self._device = 0, warm, device

    def mark(self) -> None:
        """Note that a step has ended."""
        self.steps += 1
        if self.steps == self._warm:
            self._started, self._cpu = self._now(), cpu_seconds()

    def speed(self, samples_a_step: int) -> Speed:
        samples = (self.steps - self._warm) * samples_a_step
        return Speed(samples / (self._now() - self._started), (cpu_seconds() - self._cpu) / samples)

    def _now(self) -> float:
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def cpu_seconds() -> float:
    """Return the processor's seconds of this process and of its workers."""
    process = psutil.Process()
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def ours(case: Case, paths: list[Path], folder: Path, steps: int, warm: int, device: str) -> Speed:
    """Train as the job does, from the config to the last step."""
    keep_freed_memory()
    training = {"minutes": 0, "epochs": 1, "batch_size": case.batch, "warmup": 0, **case.training}
    training["readers"] = 1 if device == "cpu" else max(1, (os.cpu_count() or 2) - 1)
    config = PretrainConfig.model_validate(
        {
            "rasters": [str(path) for path in paths],
            "window": case.window,
            "encoder": case.encoder,
            "method": case.method,
            "training": training,
        }
    )
    clock, speed = Clock(warm, device), list[Speed]()

    def mark() -> None:
        clock.mark()
        if clock.steps == warm + steps:
            speed.append(clock.speed(case.batch))
            raise Enough

    run = TimedRun(runs.create(folder, "pretrain", "benchmark", {}), mark)
    fabric = Fabric(accelerator=device, devices=1, precision=precision(device))
    with ExitStack() as stack:
        source = open_windows(config, stack)
        method = build_method(config.method, config.encoder, BANDS)
        batches = source.batches(method, run)
        clock.steps, all_steps = 0, warm + steps + 1  # what `batches` looked at was no step
        with suppress(Enough):
            train(method, batches.learn, config.training, Budget(0, all_steps, all_steps), fabric, run)
        if device == "cuda":
            sample = fabric.to_device(batches.learn(0))
            with FlopCounterMode(display=False) as counter, fabric.autocast():
                method.loss(sample, 0.5).total.backward()
            return speed[0]._replace(flops=counter.get_total_flops() / case.batch * speed[0].rate)
    return speed[0]


def matmul_rate() -> float:
    """Return the FLOP a second of large bf16 products on the GPU."""
    side, times = 8192, []
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(20):
        torch.cuda.synchronize()
        started = time.perf_counter()
        left @ right
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * side**3 / statistics.median(times)


def theirs(case: Case, paths: list[Path], steps: int, warm: int, device: str) -> Speed:
    """Train as the authors' scripts do."""
    name, numbers = case.method["name"], case.method
    encoder: Any = unfuse(build_encoder(case.encoder, BANDS))
    if name == "mae":
        make: Any = MAEView(case.window)
        width = numbers.get("decoder_width", 96)
        blocks = transformer_blocks(width, numbers.get("decoder_depth", 2), numbers.get("decoder_heads", 3))
        learner: Any = PlainMAE(encoder, list(unfuse(blocks).children()), width)
    elif name == "dino":
        make = DINOViews(numbers["large_size"], numbers["small_size"], numbers["small_views"])
        learner = PlainDINO(encoder, **HEAD)
    else:
        make, learner = MoCoViews(numbers["view_size"]), PlainMoCo(encoder, numbers["queue"])
    learner.to(device).train()
    optimizer, clock = learner.optimizer(), Clock(warm, device)
    workers = CORES if device == "cpu" else os.cpu_count() or CORES
    for views in load(paths, case.window, case.batch, warm + steps, make, workers):
        loss = learner.loss([view.to(device, non_blocking=True) for view in views])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.after_step()
        loss.item()
        clock.mark()
        if clock.steps == warm + steps:
            return clock.speed(case.batch)  # while the workers are there, so that their seconds count
    raise RuntimeError("the loader ended too early")


def apart(side: str, name: str, folder: Path, options: argparse.Namespace) -> Speed:
    """Measure one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--methods", name, "--folder", str(folder)]
    command += ["--device", options.device, "--steps", str(steps_of(name, options))]
    environment = dict(os.environ)
    if side == "theirs":  # whose threads wait as torch has them wait; importing rsfm has told ours
        for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
            environment.pop(name, None)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return Speed(*json.loads(done.stdout.splitlines()[-1]))


def compare(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Let both sides take turns and print what they did."""
    found: dict[str, list[Speed]] = {"theirs": [], "ours": []}
    for _ in range(options.rounds):
        for side, speeds in found.items():
            speeds.append(apart(side, name, folder, options))
    for side, speeds in found.items():
        rate, cpu = (statistics.median(getattr(speed, key) for speed in speeds) for key in ("rate", "cpu"))
        print(f"{name:8s} {side:7s} {rate:8.1f} samples/s  {cpu * 1e3:8.2f} CPU ms a sample")
    pairs = list(zip(found["ours"], found["theirs"], strict=True))
    print(f"{name:8s} ratio of CPU seconds {statistics.median(b.cpu / a.cpu for a, b in pairs):.2f}")
    claim(f"training_{name}_times_plain", statistics.median(a.rate / b.rate for a, b in pairs), BOUNDS[options.device])
    if options.device == "cuda":
        use = statistics.median(speed.flops for speed in found["ours"]) / matmul_rate()
        claim(f"training_{name}_share_of_matmul_rate", use, LEAST_USE)


def claim(name: str, value: float, bound: float) -> None:
    print(f"CLAIM {name} {value:.2f} {bound:g} {'ok' if value >= bound else 'short'}", flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few steps")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="that are measured; 0 takes about ten seconds' worth")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--side", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    return options


def steps_of(name: str, options: argparse.Namespace) -> int:
    """Return how many steps are measured: more of MAE, whose steps are short."""
    usual = 60 if options.device == "cuda" else 4 if options.quick else 12
    return options.steps or usual * (4 if name == "mae" else 1)


def measure(options: argparse.Namespace) -> None:
    """Measure one side in this process and print it."""
    torch.manual_seed(0)
    (name,), warm = options.methods, 2 if options.device == "cpu" else 15
    case, paths = make_case(name, options.device), sorted(options.folder.glob("*.tif"))
    if options.side == "theirs":
        speed = theirs(case, paths, steps_of(name, options), warm, options.device)
    else:
        with tempfile.TemporaryDirectory() as folder:
            speed = ours(case, paths, Path(folder), steps_of(name, options), warm, options.device)
    print(json.dumps(speed))


def main() -> None:
    options = read_options()
    if options.device == "cpu":
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        torch.set_num_threads(CORES)
    if options.side:
        return measure(options)
    steps = ", ".join(f"{name} {steps_of(name, options)}" for name in options.methods)
    print(f"{options.device}, {options.rounds} round(s), steps a round: {steps}")
    with tempfile.TemporaryDirectory() as folder:
        write_rasters(Path(folder), 4, 1024 if options.device == "cpu" else 4096)
        for name in options.methods:
            compare(name, Path(folder), options)
    return None


if __name__ == "__main__":
    main()
