"""Writes golden cases of DINO and SatDINO from slow plain formulas, which share nothing with our modules."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.backend.methods.mae_case import cut, linear, norm, run_blocks

Weights = dict[str, Tensor]
FIELDS = (
    "dim depth heads patch global_px local_px batch locals prototypes hidden bottleneck fixed_norm epoch warmup epochs "
    "freeze"
)


def write_distillation_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and weights.safetensors with the names of the authors'; with `gamma` it is SatDINO's."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(config["seed"])
    sat = "gamma" in config
    student = make_weights(config, sat, generator)
    teacher = {name: value + 0.03 * torch.randn(value.shape, generator=generator) for name, value in student.items()}
    if config["fixed_norm"]:
        student["head.last_layer.weight_g"] = torch.ones(config["prototypes"], 1)
    gsd_head = {
        "gsd_head.weight": 0.2 * torch.randn(1, config["dim"], generator=generator),
        "gsd_head.bias": torch.randn(1, generator=generator),
    }
    centre = 0.1 * torch.randn(1, config["prototypes"], generator=generator)
    named = {f"student.{name}": value for name, value in student.items()}
    named |= {f"teacher.{name}": value for name, value in teacher.items()} | {"dino_loss.center": centre}
    named |= {f"gsd_head.{name}": value for name, value in gsd_head.items()} if sat else {}
    save_file({name: value.clone() for name, value in named.items()}, folder / "weights.safetensors")
    sizes = [config["global_px"]] * 2 + [config["local_px"]] * config["locals"]
    shape = (config["batch"], config["bands"])
    views = [torch.randn(*shape, size, size, generator=generator) for size in sizes]
    state = {"student": student, "teacher": teacher, "centre": centre, "gsd": gsd_head if sat else {}}
    arrays: dict[str, Any] = {f"crop_{index}": view for index, view in enumerate(views)}
    floats = [config[name] for name in ("first_temp", "last_temp", "clip", "lr", "wd", "momentum", "temp", "keep")]
    if sat:
        arrays["gsd_target_cropmajor"] = 0.5 + 3 * torch.rand(len(views) * config["batch"], generator=generator)
        floats += [config["gamma"], 0.05, 0.25, 0.25, 1.0]
    arrays |= {"cfg": np.array([config[name] for name in FIELDS.split()]), "cfg_float": np.array(floats, np.float32)}
    wide, high = config["infer"]
    arrays |= inference(state, config, torch.randn(1, config["bands"], high, wide, generator=generator))
    arrays |= first_step(state, config, views, arrays)
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", **plain)


def make_weights(config: dict[str, Any], sat: bool, generator: torch.Generator) -> Weights:
    wide, inner, narrow = config["dim"], config["hidden"], config["bottleneck"]
    grid = config["global_px"] // config["patch"]
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.cls_token": (1, 1, wide),
        **({"backbone.gsd_register": (1, 1, wide)} if sat else {}),
        "backbone.pos_embed": (1, grid * grid + 1 + sat, wide),
        "backbone.patch_embed.proj.weight": (wide, config["bands"], config["patch"], config["patch"]),
        "backbone.patch_embed.proj.bias": (wide,),
        "backbone.norm.weight": (wide,),
        "backbone.norm.bias": (wide,),
        "head.last_layer.weight_g": (config["prototypes"], 1),
        "head.last_layer.weight_v": (config["prototypes"], narrow),
    }
    for block in range(config["depth"]):
        start = f"backbone.blocks.{block}."
        for part in ("norm1", "norm2"):
            shapes |= {f"{start}{part}.weight": (wide,), f"{start}{part}.bias": (wide,)}
        parts = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for part, (rows, columns) in parts.items():
            shapes |= {f"{start}{part}.weight": (rows * wide, columns * wide), f"{start}{part}.bias": (rows * wide,)}
    for index, (rows, columns) in enumerate(((inner, wide), (inner, inner), (narrow, inner))):
        shapes |= {f"head.mlp.{2 * index}.weight": (rows, columns), f"head.mlp.{2 * index}.bias": (rows,)}
    weights = {name: 0.15 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights |= {name: 1 + value for name, value in weights.items() if "norm" in name and name.endswith("weight")}
    weights["head.last_layer.weight_g"] = 1 + weights["head.last_layer.weight_g"].abs()
    return weights


def cubic_row(scale: float, place: int, cells: int) -> np.ndarray:
    """Weights of the stored cells for one wanted cell: cubic convolution with a = -0.75, edges repeated."""
    centre, row = (place + 0.5) / scale - 0.5, np.zeros(cells)
    for cell in range(math.floor(centre) - 1, math.floor(centre) + 3):
        far = abs(centre - cell)
        if far <= 1:
            value = 1.25 * far**3 - 2.25 * far**2 + 1
        else:
            value = -0.75 * far**3 + 3.75 * far**2 - 6 * far + 3
        row[min(max(cell, 0), cells - 1)] += value
    return row


def positions(table: Tensor, rows: int, columns: int, sat: bool) -> Tensor:
    """The table of another grid, row by row; each wanted cell is a sum over the stored ones."""
    stored = table.shape[1] - 1 - sat
    side = math.isqrt(stored)
    if rows == columns == side:
        return table
    divisor = math.sqrt(side * side + 1) if sat else side
    across = [
        torch.tensor(np.stack([cubic_row((wanted + 0.1) / divisor, place, side) for place in range(wanted)]))
        for wanted in (rows, columns)
    ]
    grid = table[0, 1 : 1 + stored].reshape(side, side, -1).double()
    found = torch.einsum("ri,cj,ijd->rcd", across[0], across[1], grid).float().reshape(1, rows * columns, -1)
    return torch.cat([table[:, :1], found, table[:, 1 + stored :]], dim=1)


def begin(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    sat = "gamma" in config
    kernel = weights["backbone.patch_embed.proj.weight"].permute(0, 2, 3, 1).flatten(1)
    patches = cut(pixels, config["patch"]) @ kernel.T + weights["backbone.patch_embed.proj.bias"]
    ends = [
        weights[f"backbone.{name}"].expand(len(pixels), -1, -1) for name in ("cls_token", "gsd_register")[: 1 + sat]
    ]
    rows, columns = (side // config["patch"] for side in pixels.shape[2:])
    tokens = torch.cat([ends[0], patches, *ends[1:]], dim=1)
    return tokens + positions(weights["backbone.pos_embed"], rows, columns, sat)


def through(weights: Weights, config: dict[str, Any], tokens: Tensor, depth: int | None = None) -> Tensor:
    """Tokens after some blocks, without the last norm."""
    return run_blocks(weights, "backbone.blocks.", config["depth"] if depth is None else depth, config["heads"], tokens)


def encode(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    return norm(weights, "backbone.norm", through(weights, config, begin(weights, config, pixels)))


def direction(weights: Weights, features: Tensor) -> Tensor:
    for index in (0, 2, 4):
        features = linear(weights, f"head.mlp.{index}", features)
        if index < 4:
            features = 0.5 * features * (1 + torch.erf(features / math.sqrt(2)))
    return features / features.square().sum(-1, keepdim=True).sqrt()


def head(weights: Weights, features: Tensor) -> Tensor:
    rows = weights["head.last_layer.weight_v"]
    rows = weights["head.last_layer.weight_g"] * rows / rows.square().sum(1, keepdim=True).sqrt()
    return direction(weights, features) @ rows.T


def temperature(config: dict[str, Any], epoch: int) -> float:
    if epoch >= config["warmup"]:
        return config["last_temp"]
    return float(np.linspace(config["first_temp"], config["last_temp"], config["warmup"])[epoch])


def evaluate(state: dict[str, Any], config: dict[str, Any], views: list[Tensor], gsd: Any) -> dict[str, Any]:
    """One term after the other, window by window."""
    student = [encode(state["student"], config, view) for view in views]
    logits = [head(state["student"], tokens[:, 0]) for tokens in student]
    with torch.no_grad():
        teacher = [head(state["teacher"], encode(state["teacher"], config, view)[:, 0]) for view in views[:2]]
    soft = temperature(config, config["epoch"])
    probabilities = [torch.softmax((rows - state["centre"]) / soft, dim=1) for rows in teacher]
    terms = torch.full((2, len(views)), float("nan"))
    found = []
    for q, v in np.ndindex(2, len(views)):
        if q != v:
            parts = [
                -(probabilities[q][b] * torch.log(torch.softmax(logits[v][b] / config["temp"], dim=0))).sum()
                for b in range(config["batch"])
            ]
            found.append(sum(parts) / len(parts))
            terms[q, v] = found[-1].detach()
    centre = config["keep"] * state["centre"] + (1 - config["keep"]) * torch.cat(teacher).mean(0, keepdim=True)
    arrays = {
        "student_head_out": torch.cat(logits),
        "teacher_head_out": torch.cat(teacher),
        "teacher_temp": np.float32(soft),
        "center_before": state["centre"],
        "center_after": centre,
        "loss_terms": terms,
        "loss": sum(found) / len(found),
    }
    if "gamma" in config:
        tokens = torch.cat([one[:, -1] for one in student])
        told = (tokens @ state["gsd"]["gsd_head.weight"].T + state["gsd"]["gsd_head.bias"])[:, 0]
        error = sum((told[row] - gsd[row]) ** 2 for row in range(len(gsd))) / len(gsd)
        arrays |= {"dino_loss": arrays["loss"], "gsd_loss": error, "gsd_pred": told, "student_gsd_tokens": tokens}
        arrays["loss"] = arrays["loss"] + config["gamma"] * error
    else:
        arrays |= {
            "student_cls": torch.cat([one[:, 0] for one in student]),
            "teacher_probs": torch.cat(probabilities),
        }
        arrays["student_bottleneck_normalised"] = direction(state["student"], arrays["student_cls"])
    return arrays


def first_step(state: dict[str, Any], config: dict[str, Any], views: list[Tensor], given: Any) -> dict[str, Any]:
    """The loss, its gradients, and a plain step with the clip of each tensor and the frozen prototypes."""
    sat, student = "gamma" in config, state["student"]
    for name, value in {**student, **state["gsd"]}.items():
        value.requires_grad_(not (config["fixed_norm"] and name.endswith("weight_g")))
    gsd = given.get("gsd_target_cropmajor")
    found = evaluate(state, config, views, gsd)
    found["loss"].backward()
    trained = [name for name, value in student.items() if value.requires_grad]
    gradients = {name: student[name].grad.clone() for name in trained}
    norms = {name: gradient.double().norm().item() for name, gradient in gradients.items()}
    shrink = {name: min(1, config["clip"] / (norms[name] + 1e-6)) if config["clip"] else 1 for name in trained}
    frozen = {"head.last_layer.weight_v", "head.last_layer.weight_g"} if config["epoch"] < config["freeze"] else set()
    frozen |= set() if not config["fixed_norm"] else {"head.last_layer.weight_g"}
    wide = [name for name in trained if student[name].ndim > 1]
    found |= {"grad_names": np.array(trained), "ema_names": np.array(list(student))}
    found |= {"grad_norms" if sat else "grad_norms_preclip": np.array([norms[name] for name in trained], np.float32)}
    found |= {f"grad/{name}": gradient for name, gradient in gradients.items() if gradient.numel() < 400}
    found |= {"decay_param_names": np.array(wide), "grad_none_after_freeze": np.array(sorted(frozen))}
    shown = [name for name in trained if student[name].numel() < 400]
    if not sat:
        found["nodecay_param_names"] = np.array([name for name in trained if name not in wide])
        found["grad_norms_postclip"] = np.array([norms[name] * shrink[name] for name in trained], np.float32)
        for name in shown:  # AdamW's first step: the corrected moments are the gradient and its square
            step = shrink[name] * gradients[name]
            decay = 1 - config["lr"] * config["wd"] * (name in wide)
            after = student[name].detach() * decay - config["lr"] * step / (step.abs() + 1e-8)
            found[f"adamw_after/{name}"] = student[name].detach() if name in frozen else after
    with torch.no_grad():
        for name in trained:
            if name not in frozen:
                student[name] -= config["lr"] * shrink[name] * gradients[name]
        for name, value in state["gsd"].items():
            found[f"sgd_after/gsd_head.{name}_official_untrained"] = value.clone()
            found[f"sgd_after/gsd_head.{name}_if_trained"] = value - config["lr"] * value.grad
        found |= {f"sgd_after/{name}": student[name].clone() for name in shown}
        for name, value in state["teacher"].items():
            value.copy_(config["momentum"] * value + (1 - config["momentum"]) * student[name])
    found |= {f"ema_after/{name}": state["teacher"][name].clone() for name in shown}
    ema = [value.double() for value in state["teacher"].values()]
    found["ema_param_norms"] = np.array([value.norm().item() for value in ema], np.float32)
    found["ema_param_sums"] = np.array([value.sum().item() for value in ema], np.float32)
    if not sat:
        state["centre"] = found["center_after"]
        again = evaluate(state, config, views, gsd)
        found |= {"loss_step2": again["loss"], "center_after_step2": again["center_after"]}
    return found


def inference(state: dict[str, Any], config: dict[str, Any], pixels: Tensor) -> dict[str, Tensor]:
    """Features of a window of another shape: of the teacher, except the positions."""
    teacher, found = state["teacher"], {"infer_image": pixels}
    tokens = begin(teacher, config, pixels)
    depths = range(max(config["depth"] - 1, 1), config["depth"] + 1)
    last = [norm(teacher, "backbone.norm", through(teacher, config, tokens, depth)) for depth in depths]
    if "gamma" in config:
        told = linear(state["gsd"], "gsd_head", last[-1][:, -1])[:, 0]
        return found | {"infer_cls": last[-1][:, 0], "infer_gsd_token": last[-1][:, -1], "infer_gsd_pred": told}
    rows, columns = (side // config["patch"] for side in pixels.shape[2:])
    table = positions(state["student"]["backbone.pos_embed"], rows, columns, False)
    return found | {"infer_pos_embed": table, "infer_cls": last[-1][:, 0], "infer_last2_tokens": torch.stack(last)}
