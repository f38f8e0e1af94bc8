"""Writes a golden case of MAE from slow plain formulas, which share nothing with our modules."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

Weights = dict[str, Tensor]


def write_mae_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and weights.safetensors of a configuration, with the names of the authors'."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(config["seed"])
    side = config["img"] // config["p"]
    weights = make_weights(config, side, generator)
    save_file(weights, folder / "weights.safetensors")
    pixels = torch.randn(config["B"], config["in_chans"], config["img"], config["img"], generator=generator)
    noise = torch.rand(config["B"], side * side, generator=generator)
    arrays: dict[str, Any] = {"imgs": pixels, "noise": noise, "mask_ratio": np.float64(config["mr"])}
    learnt = {name: value.requires_grad_("pos_embed" not in name) for name, value in weights.items()}
    arrays |= forward(learnt, config, pixels, noise)
    arrays["loss_norm"].backward()
    arrays |= gradients(learnt)
    arrays |= features(learnt, config, pixels)
    arrays |= step(learnt, config, pixels, noise)
    arrays |= tables_and_schedule(config, side, generator)
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", config_json=json.dumps(config), **plain)


def make_weights(config: dict[str, Any], side: int, generator: torch.Generator) -> Weights:
    width, inner, values = config["d"], config["dd"], config["p"] ** 2 * config["in_chans"]
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, 1, inner),
        "patch_embed.proj.weight": (width, config["in_chans"], config["p"], config["p"]),
        "patch_embed.proj.bias": (width,),
        "decoder_embed.weight": (inner, width),
        "decoder_embed.bias": (inner,),
        "decoder_pred.weight": (values, inner),
        "decoder_pred.bias": (values,),
    }
    for start, wide, depth, norm in (
        ("", width, config["depth"], "norm"),
        ("decoder_", inner, config["ddepth"], "norm"),
    ):
        shapes |= {f"{start}{norm}.weight": (wide,), f"{start}{norm}.bias": (wide,)}
        for block in range(depth):
            name = f"{start}blocks.{block}."
            for part, rows, columns in (
                ("attn.qkv", 3 * wide, wide),
                ("attn.proj", wide, wide),
                ("mlp.fc1", 4 * wide, wide),
                ("mlp.fc2", wide, 4 * wide),
            ):
                shapes |= {f"{name}{part}.weight": (rows, columns), f"{name}{part}.bias": (rows,)}
            for part in ("norm1", "norm2"):
                shapes |= {f"{name}{part}.weight": (wide,), f"{name}{part}.bias": (wide,)}
    weights = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights |= {name: 1 + value for name, value in weights.items() if "norm" in name and name.endswith("weight")}
    weights["pos_embed"] = torch.tensor(table(width, side)[None], dtype=torch.float32)
    weights["decoder_pos_embed"] = torch.tensor(table(inner, side)[None], dtype=torch.float32)
    return weights


def table(width: int, side: int) -> np.ndarray:
    """Sine and cosine positions, a row of zeros first, written cell by cell."""
    found = np.zeros((side * side + 1, width))
    quarter = width // 4
    for row, column, index in np.ndindex(side, side, quarter):
        for half, place in enumerate((column, row)):
            angle = place / 10000 ** (index / quarter)
            found[1 + row * side + column, half * 2 * quarter + index] = math.sin(angle)
            found[1 + row * side + column, half * 2 * quarter + quarter + index] = math.cos(angle)
    return found


def run_blocks(weights: Weights, start: str, depth: int, heads: int, tokens: Tensor) -> Tensor:
    """Return the last block's output before the final norm."""
    for block in range(depth):
        part = {
            name[len(f"{start}{block}.") :]: value
            for name, value in weights.items()
            if name.startswith(f"{start}{block}.")
        }
        count, length, wide = tokens.shape
        normed = norm(part, "norm1", tokens)
        qkv = linear(part, "attn.qkv", normed).reshape(count, length, 3, heads, wide // heads)
        query, key, value = (qkv[:, :, which].transpose(1, 2) for which in range(3))
        attention = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(wide // heads), dim=3)
        tokens = tokens + linear(part, "attn.proj", (attention @ value).transpose(1, 2).reshape(count, length, wide))
        hidden = linear(part, "mlp.fc1", norm(part, "norm2", tokens))
        tokens = tokens + linear(part, "mlp.fc2", 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2))))
    return tokens


def linear(weights: Weights, name: str, tokens: Tensor) -> Tensor:
    return tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, tokens: Tensor) -> Tensor:
    spread = (tokens.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return (tokens - tokens.mean(-1, keepdim=True)) / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def cut(pixels: Tensor, patch: int) -> Tensor:
    """Patches of which the band is fastest, patch by patch."""
    count, _, height, width = pixels.shape
    patches = [
        pixels[:, :, row : row + patch, column : column + patch].permute(0, 2, 3, 1).reshape(count, -1)
        for row in range(0, height, patch)
        for column in range(0, width, patch)
    ]
    return torch.stack(patches, dim=1)


def embed(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    kernel = weights["patch_embed.proj.weight"].permute(0, 2, 3, 1).flatten(1)
    return cut(pixels, config["p"]) @ kernel.T + weights["patch_embed.proj.bias"] + weights["pos_embed"][:, 1:]


def encode(weights: Weights, config: dict[str, Any], tokens: Tensor) -> Tensor:
    tokens = torch.cat([weights["cls_token"].expand(len(tokens), -1, -1), tokens], dim=1)
    return run_blocks(weights, "blocks.", config["depth"], config["h"], tokens)


def forward(weights: Weights, config: dict[str, Any], pixels: Tensor, noise: Tensor) -> dict[str, Tensor]:
    count, patches = noise.shape
    keep = int(patches * (1 - config["mr"]))
    order = torch.argsort(noise, dim=1)
    restore = torch.argsort(order, dim=1)
    tokens = embed(weights, config, pixels)
    kept = torch.stack([tokens[index, order[index, :keep]] for index in range(count)])
    latent = norm(weights, "norm", encode(weights, config, kept))
    inner = linear(weights, "decoder_embed", latent)
    filled = torch.stack(
        [
            torch.stack(
                [
                    inner[index, 1 + restore[index, patch]]
                    if restore[index, patch] < keep
                    else weights["mask_token"][0, 0]
                    for patch in range(patches)
                ]
            )
            for index in range(count)
        ]
    )
    decoded = torch.cat([inner[:, :1], filled], dim=1) + weights["decoder_pos_embed"]
    decoded = norm(
        weights, "decoder_norm", run_blocks(weights, "decoder_blocks.", config["ddepth"], config["dh"], decoded)
    )
    rebuilt = linear(weights, "decoder_pred", decoded)[:, 1:]
    target, mask = cut(pixels, config["p"]), (restore >= keep).float()
    normed = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
    losses = [((rebuilt - wanted).square().mean(2) * mask).sum() / mask.sum() for wanted in (target, normed)]
    found = {"target_patchify": target, "ids_restore": restore, "mask": mask, "latent": latent, "pred": rebuilt}
    return found | {"loss_raw": losses[0], "loss_norm": losses[1], "target_norm": normed}


def gradients(weights: Weights) -> dict[str, Any]:
    names = [name for name, value in weights.items() if value.requires_grad]
    norms = np.array([weights[name].grad.double().norm().item() for name in names])
    return {
        "grad_names": np.array(names),
        "grad_l2": norms,
        "grad_cls_token": weights["cls_token"].grad.clone(),
        "grad_mask_token": weights["mask_token"].grad.clone(),
        "grad_patch_bias": weights["patch_embed.proj.bias"].grad.clone(),
    }


def features(weights: Weights, config: dict[str, Any], pixels: Tensor) -> dict[str, Tensor]:
    last = encode(weights, config, embed(weights, config, pixels)).detach()
    normed = norm(weights, "norm", last)
    pooled = norm(weights, "norm", last[:, 1:].mean(1))
    return {"features_mask0": normed, "vit_cls": normed[:, 0], "vit_global_pool": pooled}


def step(weights: Weights, config: dict[str, Any], pixels: Tensor, noise: Tensor) -> dict[str, Any]:
    found = stepped(weights, config)
    after = {name: value.detach() for name, value in weights.items()}
    return found | {"loss_norm_after_step": forward(after, config, pixels, noise)["loss_norm"]}


def stepped(weights: Weights, config: dict[str, Any]) -> dict[str, Any]:
    """Take one step of AdamW with the gradients at hand."""
    plain = [
        name for name, value in weights.items() if value.requires_grad and (value.ndim == 1 or name.endswith(".bias"))
    ]
    with torch.no_grad():
        for name, value in weights.items():
            if value.requires_grad:  # AdamW's first step: the corrected moments are the gradient and its square
                if name not in plain:
                    value -= config["lr"] * config["wd"] * value
                value -= config["lr"] * value.grad / (value.grad.abs() + 1e-8)
    after = {name: value.detach().clone() for name, value in weights.items()}
    return {
        "adamw_lr": np.float64(config["lr"]),
        "adamw_wd": np.float64(config["wd"]),
        "no_decay_names": np.array(plain),
        "step1_names": np.array(list(after)),
        "step1_l2": np.array([value.double().norm().item() for value in after.values()]),
        "step1_cls_token": after["cls_token"],
        "step1_mask_token": after["mask_token"],
    }


def tables_and_schedule(config: dict[str, Any], side: int, generator: torch.Generator) -> dict[str, Any]:
    given = torch.randn(1, side * side + 1, config["d"], generator=generator)
    grid = given[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(config["pe_to"],) * 2, mode="bicubic", align_corners=False)
    moments = np.arange(config["ep"] * config["iters"]) / config["iters"]
    peak, fall = config["blr"] * config["effb"] / 256, config["ep"] - config["we"]
    rates = [
        peak * moment / config["we"]
        if moment < config["we"]
        else config["minlr"] + (peak - config["minlr"]) * (1 + math.cos(math.pi * (moment - config["we"]) / fall)) / 2
        for moment in moments
    ]
    return {
        **{f"sincos2d_{width}_{cells}": table(width, cells) for cells, width in config["pe"]},
        "interp_in": given,
        "interp_out": torch.cat([given[:, :1], grid.flatten(2).transpose(1, 2)], dim=1),
        "sched_epoch": moments,
        "sched_lr": np.array(rates),
    }
