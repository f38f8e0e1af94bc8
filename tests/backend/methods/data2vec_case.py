"""Writes a golden case of data2vec from slow plain formulas, which share nothing with our modules."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.backend.methods.mae_case import cut, linear, norm

Weights = dict[str, Tensor]


def write_data2vec_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and weights.safetensors of a configuration, with the names of the authors'."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(config["seed"])
    side = config["px"] // config["patch"]
    student = make_weights(config, side, generator)
    teacher = {name: value + 0.03 * torch.randn(value.shape, generator=generator) for name, value in student.items()}
    index = relative_index(side)
    named = {f"model.{name}": value for name, value in student.items()}
    named |= {f"model_ema.{name}": value for name, value in teacher.items()}
    for start in ("model", "model_ema"):
        named[f"{start}.rel_pos_bias.relative_position_index"] = index
    save_file({name: value.clone() for name, value in named.items()}, folder / "weights.safetensors")
    images = torch.randn(config["batch"], config["bands"], config["px"], config["px"], generator=generator)
    mask = torch.rand(config["batch"], side, side, generator=generator) < 0.5
    arrays: dict[str, Any] = {"images": images, "mask": mask.to(torch.uint8), "relative_position_index": index}
    arrays["cfg"] = np.array(
        [config[name] for name in ("dim", "depth", "heads", "patch", "px", "bands", "batch")] + [side * side // 2, 4]
    )
    arrays["target_layers"] = np.array(config["layers"])
    floats = [config["beta"], config["lr"], config["momentum"], 1e-4, 1.0, config["clip"], 0.05]
    arrays["cfg_float"] = np.array(floats, np.float32)
    arrays |= step(student, teacher, config, arrays)
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", **plain)


def make_weights(config: dict[str, Any], side: int, generator: torch.Generator) -> Weights:
    wide = config["dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, wide),
        "mask_token": (1, 1, wide),
        "patch_embed.proj.weight": (wide, config["bands"], config["patch"], config["patch"]),
        "patch_embed.proj.bias": (wide,),
        "rel_pos_bias.relative_position_bias_table": ((2 * side - 1) ** 2 + 3, config["heads"]),
        "norm.weight": (wide,),
        "norm.bias": (wide,),
        "lm_head.weight": (wide, wide),
        "lm_head.bias": (wide,),
    }
    for block in range(config["depth"]):
        start = f"blocks.{block}."
        for part in ("norm1", "norm2"):
            shapes |= {f"{start}{part}.weight": (wide,), f"{start}{part}.bias": (wide,)}
        shapes |= {f"{start}{name}": (wide,) for name in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")}
        shapes |= {f"{start}attn.qkv.weight": (3 * wide, wide)}
        for part, (rows, columns) in {"attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}.items():
            shapes |= {f"{start}{part}.weight": (rows * wide, columns * wide), f"{start}{part}.bias": (rows * wide,)}
    weights = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return weights | {name: 1 + value for name, value in weights.items() if "norm" in name and name.endswith("weight")}


def relative_index(side: int) -> Tensor:
    """Pair by pair."""
    ways, count = (2 * side - 1) ** 2, side * side + 1
    index = torch.zeros(count, count, dtype=torch.int64)
    for one, other in np.ndindex(count, count):
        if one == other == 0:
            index[one, other] = ways + 2
        elif one == 0:
            index[one, other] = ways
        elif other == 0:
            index[one, other] = ways + 1
        else:
            down = (one - 1) // side - (other - 1) // side + side - 1
            right = (one - 1) % side - (other - 1) % side + side - 1
            index[one, other] = down * (2 * side - 1) + right
    return index


def blocks(weights: Weights, config: dict[str, Any], tokens: Tensor) -> list[Tensor]:
    """What every block gives, the class token first."""
    side = config["px"] // config["patch"]
    bias = weights["rel_pos_bias.relative_position_bias_table"][relative_index(side)].permute(2, 0, 1)
    tokens, found = torch.cat([weights["cls_token"].expand(len(tokens), -1, -1), tokens], dim=1), []
    for block in range(config["depth"]):
        start = f"blocks.{block}."
        part = {name[len(start) :]: value for name, value in weights.items() if name.startswith(start)}
        count, length, wide = tokens.shape
        qkv_bias = torch.cat([part["attn.q_bias"], torch.zeros(wide), part["attn.v_bias"]])
        qkv = norm(part, "norm1", tokens) @ part["attn.qkv.weight"].T + qkv_bias
        qkv = qkv.reshape(count, length, 3, config["heads"], -1)
        query, key, value = (qkv[:, :, which].transpose(1, 2) for which in range(3))
        attention = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) + bias, dim=3)
        seen = (attention @ value).transpose(1, 2).reshape(count, length, wide)
        tokens = tokens + part["gamma_1"] * linear(part, "attn.proj", seen)
        hidden = linear(part, "mlp.fc1", norm(part, "norm2", tokens))
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        tokens = tokens + part["gamma_2"] * linear(part, "mlp.fc2", hidden)
        found.append(tokens)
    return found


def embed(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    kernel = weights["patch_embed.proj.weight"].permute(0, 2, 3, 1).flatten(1)
    return cut(pixels, config["patch"]) @ kernel.T + weights["patch_embed.proj.bias"]


def standard(tokens: Tensor) -> Tensor:
    return (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()


def evaluate(student: Weights, teacher: Weights, config: dict[str, Any], arrays: Any) -> dict[str, Any]:
    mask = arrays["mask"].bool().flatten(1)
    with torch.no_grad():
        every = blocks(teacher, config, embed(teacher, config, arrays["images"]))
        layers = [every[layer][:, 1:] for layer in config["layers"]]
        mean = sum(standard(layer) for layer in layers) / len(layers)
        target = standard(mean)
    tokens = embed(student, config, arrays["images"])
    filled = torch.stack(
        [
            torch.stack([student["mask_token"][0, 0] if hidden else token for token, hidden in zip(*row, strict=True)])
            for row in zip(tokens, mask, strict=True)
        ]
    )
    encoded = norm(student, "norm", blocks(student, config, filled)[-1])
    told = linear(student, "lm_head", encoded[:, 1:])[mask]
    apart = (told - target[mask]).abs()
    losses = [
        torch.where(apart < beta, 0.5 * apart**2 / beta, apart - beta / 2).mean() for beta in (config["beta"], 0.12)
    ]
    return {
        "teacher_layer_outputs_no_cls": torch.stack(layers),
        "target_mean_before_post_ln": mean,
        "target_all_tokens": target,
        "target_masked": target[mask],
        "student_patch_tokens_after_mask_substitution": filled,
        "student_norm_tokens": encoded,
        "student_pred_masked": told,
        "loss": losses[0],
        "loss_if_l2": (apart**2).mean(),
        "loss_if_beta_0p12": losses[1],
    }


def step(student: Weights, teacher: Weights, config: dict[str, Any], arrays: Any) -> dict[str, Any]:
    for value in student.values():
        value.requires_grad_()
    found = evaluate(student, teacher, config, arrays)
    found["loss"].backward()
    norms = np.array([value.grad.double().norm().item() for value in student.values()])
    whole = math.sqrt((norms**2).sum())
    kept = [name for name, value in student.items() if value.ndim == 1 or name == "cls_token"]
    shown = [name for name, value in student.items() if value.numel() < 400]
    found |= {"grad_names": np.array(list(student)), "grad_norms_preclip": norms.astype(np.float32)}
    found |= {"grad_global_norm": np.float32(whole), "nodecay_param_names": np.array(kept)}
    found["decay_param_names"] = np.array([name for name in student if name not in kept])
    found |= {f"grad/{name}": student[name].grad.clone() for name in shown}
    with torch.no_grad():
        for value in student.values():
            value -= config["lr"] * min(1, config["clip"] / (whole + 1e-6)) * value.grad
        for name, value in teacher.items():
            value.copy_(config["momentum"] * value + (1 - config["momentum"]) * student[name])
    found |= {f"sgd_after/{name}": student[name].detach().clone() for name in shown}
    found |= {f"ema_after/{name}": teacher[name].clone() for name in shown} | {"ema_names": np.array(list(teacher))}
    ema = [value.double() for value in teacher.values()]
    found["ema_param_norms"] = np.array([value.norm().item() for value in ema], np.float32)
    found["ema_param_sums"] = np.array([value.sum().item() for value in ema], np.float32)
    return found
