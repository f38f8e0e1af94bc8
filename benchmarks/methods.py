"""What a training step of each method costs: images a second and peak memory, at equal encoder, input and batch.

    python benchmarks/methods.py [--quick] [--size tiny] [--window 224] [--batch 8] [--prototypes 65536] [--device cpu]

Every method trains the same transformer (patch 16, 3 bands) with the numbers of its published recipe. A step is all
that the training does with a batch: views, student and teacher, loss, gradients, AdamW, averages. The floor beside it
is the encoder alone, forward and backward once over the whole batch. Each method runs in a process of its own; on a CPU
the seconds are of the processor, one thread, and memory is what the process grows by from before the method is built.
PerA's bounds are those of its paper, for ViT-B and 448 px on GPUs. Each line that starts with CLAIM gives a name, the
value, the bound and whether it holds.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any, NamedTuple

import psutil
import torch
from rsfm import methods, registry
from rsfm.method import Method, Sample
from rsfm.model_file import build_encoder
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import clip_each, make_optimizer

BANDS, PATCH = 3, 16
ENCODERS = {"mae": "vit", "satmae": "vit_grouped", "data2vec": "vit_relative"}
"""The transformer that fits a method; `vit_learned` for all others."""
VIEWS = {"large_size": 1, "view_size": 1, "small_size": 3 / 7}
"""Sides of views as a share of the window's: 96 of 224 px for the small ones."""
THROUGHPUT, MEMORY = 3.3, 0.27
"""PerA beside DINO, of the PerA paper."""
KEEPS_UP = 0.7
"""Least images a second of SatDINO beside DINO, of 10 small views beside 8, and of GASSL beside MoCo v2."""


class Cost(NamedTuple):
    """Of one step."""

    seconds: float
    floor_seconds: float
    gigabytes: float
    weights: float


def build(name: str, arguments: argparse.Namespace) -> Method:
    """Build a method as published, but with the encoder, the window and the prototypes asked for."""
    member = registry.member(methods, name, Method)  # type: ignore[type-abstract]
    published = next(preset.values for preset in member.presets if preset.name.endswith("official"))
    known = member.Config.model_fields
    values = {key: value for key, value in published["method"].items() if key not in ("decoder_told", "clusters")}
    values |= {key: _side(arguments.window * share) for key, share in VIEWS.items() if key in known}
    values |= {"prototypes": arguments.prototypes} if "prototypes" in known else {}
    values |= {"learn_places": False} if name == "gassl" else {}
    encoder = {"name": ENCODERS.get(name, "vit_learned"), "size": arguments.size}
    encoder |= {"patch_size": PATCH, "window": arguments.window} | ({"gsd_token": True} if name == "satdino" else {})
    return member(member.Config.model_validate(values), build_encoder(encoder, BANDS)).train()


def measure(name: str, arguments: argparse.Namespace) -> Cost:
    """Measure the steps of one method in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, before = torch.device(arguments.device), psutil.Process().memory_info().rss
    method = build(name, arguments).to(device)
    training = TrainingConfig(learning_rate=1e-4, clip_norm=3)
    optimizer = make_optimizer(method, training)
    side = arguments.window if name == "mae" else arguments.window * 8 // 7  # MAE rebuilds the window as it comes
    pixels_BCHW = torch.randn(arguments.batch, BANDS, side, side, device=device)
    valid_BHW = torch.ones_like(pixels_BCHW[:, 0], dtype=torch.bool)
    sample = Sample(pixels_BCHW, valid_BHW, torch.full((arguments.batch,), 10.0, device=device))

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            total = method.loss(sample, 0.5).total
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        clip_each(method.parameters(), training.clip_norm)
        optimizer.step()
        method.after_step(0.5)

    def encode() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            total = method.encoder.embedding(window_BCHW).sum()
        torch.autograd.backward(total)

    window_BCHW = torch.randn(arguments.batch, BANDS, arguments.window, arguments.window, device=device)
    seconds = clock(step, arguments.steps, device)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak() - before
    floor = clock(encode, arguments.steps, device)
    weights = sum(value.numel() for value in method.parameters() if value.requires_grad)
    return Cost(seconds, floor, memory / 1e9, weights / 1e6)


def clock(work: Any, steps: int, device: torch.device) -> float:
    """Return the least seconds of `steps` runs after one to warm up: of the processor, or of the GPU's wall clock."""
    work()
    found = []
    for _ in range(steps):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            work()
            torch.cuda.synchronize(device)
            found.append(time.perf_counter() - start)
        else:
            start = time.process_time()
            work()
            found.append(time.process_time() - start)
    return min(found)


def _side(pixels: float) -> int:
    return max(round(pixels / PATCH), 1) * PATCH


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def apart(name: str) -> Cost:
    """Measure a method in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--method", name]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Cost(*json.loads(output.splitlines()[-1]))


def claim(name: str, value: float, bound: float, holds: bool) -> None:
    print(f"CLAIM {name} {value:.4g} {bound:g} {'ok' if holds else 'short'}")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="windows of 112 px, 4 a batch, 4096 prototypes, 1 step")
    parser.add_argument("--size", default="tiny", help="tiny, small, base or large")
    parser.add_argument("--window", type=int, default=224, help="side in px, a multiple of 112")
    parser.add_argument("--batch", type=int, default=8, help="windows a step")
    parser.add_argument("--prototypes", type=int, default=65536, help="of DINO, SatDINO and PerA")
    parser.add_argument("--steps", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; cuda computes in bfloat16")
    parser.add_argument("--method", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.window, arguments.batch, arguments.prototypes, arguments.steps = 112, 4, 4096, 1
    return arguments


def main() -> None:
    arguments = read_arguments()
    if arguments.method:
        return print(json.dumps(measure(arguments.method, arguments)))
    print(
        f"ViT {arguments.size}, {arguments.window} px, {arguments.batch} windows a step, {arguments.prototypes} "
        f"prototypes, {arguments.device}"
    )
    print(f"{'method':<10} {'images/s':>9} {'s/step':>8} {'x floor':>8} {'GB':>7} {'M trained':>10}")
    costs = {name: apart(name) for name in registry.names(methods)}
    for name, cost in sorted(costs.items(), key=lambda item: item[1].seconds):
        rate, floor = arguments.batch / cost.seconds, cost.seconds / cost.floor_seconds
        print(f"{name:<10} {rate:9.2f} {cost.seconds:8.2f} {floor:8.2f} {cost.gigabytes:7.2f} {cost.weights:10.1f}")
    faster, smaller = costs["dino"].seconds / costs["pera"].seconds, costs["pera"].gigabytes / costs["dino"].gigabytes
    claim("pera_images_per_second_times_dinos", faster, THROUGHPUT, faster >= THROUGHPUT)
    claim("pera_memory_share_of_dinos", smaller, MEMORY, smaller <= MEMORY)
    for name, plain in (("satdino", "dino"), ("gassl", "moco_v2")):
        share = costs[plain].seconds / costs[name].seconds
        claim(f"{name}_images_per_second_times_{plain}s", share, KEEPS_UP, share >= KEEPS_UP)
    return None


if __name__ == "__main__":
    main()
