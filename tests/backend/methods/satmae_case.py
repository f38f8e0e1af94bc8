"""Writes golden cases of SatMAE from slow plain formulas, which share nothing with our modules."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.backend.methods.mae_case import Weights, cut, gradients, linear, norm, run_blocks, stepped, table
from tests.backend.methods.mae_case import make_weights as mae_weights


def line(width: int, place: float) -> list[float]:
    """Sines, then cosines, of a place on a line."""
    angles = [place / 10000 ** (index / (width // 2)) for index in range(width // 2)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def write_satmae_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and weights.safetensors; of groups if the configuration has any, else of dates."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(config["seed"])
    side, grouped = config["img"] // config["p"], "groups" in config
    weights = (group_weights if grouped else date_weights)(config, side, generator)
    save_file(weights, folder / "weights.safetensors")
    dates = 1 if grouped else len(config["ts"][0])
    pixels = torch.rand(config["B"], dates, config["in_chans"], config["img"], config["img"], generator=generator)
    slices = len(config["groups"]) if grouped else dates
    second = "spatial" if grouped else "same"
    arrays: dict[str, Any] = {"imgs": pixels[:, 0] if grouped else pixels}
    if grouped:
        arrays |= {
            "groups_flat": np.array([band for group in config["groups"] for band in group]),
            "groups_len": np.array([*map(len, config["groups"])]),
        }
    else:
        arrays["timestamps"] = np.array(config["ts"])
    learnt = {name: value.requires_grad_("_embed" not in name or "patch" in name) for name, value in weights.items()}
    learnt |= {name: value.requires_grad_() for name, value in weights.items() if name.startswith("decoder_embed")}
    for start, length in (("indep", slices * side**2), (second, side**2)):
        noise = torch.rand(config["B"], length, generator=generator)
        found = forward(learnt, config, pixels, noise)
        arrays |= {f"{start}_{name}": value for name, value in (found | {"noise": noise}).items()}
        for value in learnt.values():
            value.grad = None
        found["loss_raw" if grouped else "loss_norm"].backward()
        grads = with_defaults(learnt)
        arrays |= {f"{start}_{name}": grads[name] for name in ("grad_names", "grad_l2")}
        if start == "indep":
            arrays["grad_mask_token"] = grads["grad_mask_token"]
            kept = {name: value.detach().clone() for name, value in learnt.items()}
            after = stepped(learnt, config)
            for name, value in learnt.items():
                value.data.copy_(kept[name])
    if not grouped:
        arrays.pop("same_loss_reordered", None)
        arrays.pop("indep_loss_reordered", None)
    else:
        arrays["indep_loss_raw_reordered"] = arrays.pop("indep_loss_reordered")
        arrays.pop("spatial_loss_reordered")
    arrays |= after
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", config_json=json.dumps(config), **plain)


def with_defaults(learnt: Weights) -> dict[str, Any]:
    """Gradients, also where the patch embedding has another name."""
    stand_in = learnt.get("patch_embed.proj.bias", learnt.get("patch_embed.0.proj.bias"))
    assert stand_in is not None
    names = [name for name, value in learnt.items() if value.requires_grad]
    found = gradients({**{name: learnt[name] for name in names}, "patch_embed.proj.bias": stand_in})
    keep = [index for index, name in enumerate(found["grad_names"]) if name in names]
    return {**found, "grad_names": found["grad_names"][keep], "grad_l2": found["grad_l2"][keep]}


def date_weights(config: dict[str, Any], side: int, generator: torch.Generator) -> Weights:
    weights = mae_weights(config, side, generator)
    for name, width in (
        ("pos_embed", config["d"] - 3 * config["te"]),
        ("decoder_pos_embed", config["dd"] - 3 * config["td"]),
    ):
        weights[name] = torch.tensor(table(width, side)[None], dtype=torch.float32)
    return weights


def group_weights(config: dict[str, Any], side: int, generator: torch.Generator) -> Weights:
    weights = mae_weights(config, side, generator)
    for name in ("patch_embed.proj", "decoder_pred"):
        for part in ("weight", "bias"):
            del weights[f"{name}.{part}"]
    groups = len(config["groups"])
    for index, group in enumerate(config["groups"]):
        values = len(group) * config["p"] ** 2
        shapes = {
            f"patch_embed.{index}.proj.weight": (config["d"], len(group), config["p"], config["p"]),
            f"patch_embed.{index}.proj.bias": (config["d"],),
            f"decoder_pred.{index}.weight": (values, config["dd"]),
            f"decoder_pred.{index}.bias": (values,),
        }
        weights |= {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for start, width, told, rows in (("", "d", "ce", groups), ("decoder_", "dd", "dce", groups + 1)):
        weights[f"{start}pos_embed"] = torch.tensor(
            table(config[width] - config[told], side)[None], dtype=torch.float32
        )
        embed = [line(config[told], index) for index in range(rows)]
        weights[f"{start}channel_embed"] = torch.tensor([embed], dtype=torch.float32)
    return weights


def told(config: dict[str, Any], sample: int, index: int, key: str) -> list[float]:
    """What tells a slice: its group, or its year, month and hour."""
    if "groups" in config:
        return line(config["ce" if key == "te" else "dce"], index)
    return [value for part in config["ts"][sample][index] for value in line(config[key], part)]


def place_tokens(weights: Weights, config: dict[str, Any], name: str, key: str) -> Tensor:
    """Positions of all patches of each sample, slice by slice."""
    slices = len(config.get("groups", config.get("ts", [[]])[0]))
    rows = [
        torch.cat(
            [
                torch.cat([row, torch.tensor(told(config, sample, index, key), dtype=torch.float32)])[None]
                for index in range(slices)
                for row in weights[name][0, 1:]
            ]
        )
        for sample in range(config["B"])
    ]
    return torch.stack(rows)


def embed(weights: Weights, config: dict[str, Any], pixels: Tensor) -> Tensor:
    """Patches of all slices without positions."""
    if "groups" in config:
        slices = [(pixels[:, 0, group], f"patch_embed.{index}.proj") for index, group in enumerate(config["groups"])]
    else:
        slices = [(pixels[:, date], "patch_embed.proj") for date in range(pixels.shape[1])]
    return torch.cat(
        [
            cut(part, config["p"]) @ weights[f"{name}.weight"].permute(0, 2, 3, 1).flatten(1).T
            + weights[f"{name}.bias"]
            for part, name in slices
        ],
        dim=1,
    )


def order_tokens(config: dict[str, Any], noise: Tensor, slices: int) -> tuple[list[list[int]], int]:
    """For each sample the tokens kept and then those hidden; and how many are kept."""
    length, share = noise.shape[1], 1 - config["mr"]
    patches = (config["img"] // config["p"]) ** 2
    orders = [sorted(range(length), key=row.__getitem__) for row in noise.tolist()]
    if length == slices * patches and slices > 1:
        return orders, int(length * share)
    each = int(patches * share)
    shifted = [
        [index * patches + place for part in (order[:each], order[each:]) for index in range(slices) for place in part]
        for order in orders
    ]
    return shifted, slices * each if "groups" in config else int(slices * patches * share)


def forward(weights: Weights, config: dict[str, Any], pixels: Tensor, noise: Tensor) -> dict[str, Any]:
    grouped = "groups" in config
    slices = len(config["groups"]) if grouped else pixels.shape[1]
    orders, keep = order_tokens(config, noise, slices)
    count, tokens_all = len(orders), len(orders[0])
    restore = torch.tensor([[order.index(token) for token in range(tokens_all)] for order in orders])
    tokens = embed(weights, config, pixels) + place_tokens(weights, config, "pos_embed", "te")
    kept = torch.stack([tokens[index, orders[index][:keep]] for index in range(count)])
    kept = torch.cat([weights["cls_token"].expand(count, -1, -1), kept], dim=1)
    latent = norm(weights, "norm", run_blocks(weights, "blocks.", config["depth"], config["h"], kept))
    inner = linear(weights, "decoder_embed", latent)
    filled = weights["mask_token"].expand(count, tokens_all, -1).clone()
    for index, order in enumerate(orders):
        filled[index, order[:keep]] = inner[index, 1:]
    filled = filled + place_tokens(weights, config, "decoder_pos_embed", "td")
    last = line(config["dce"], slices) if grouped else [0.0] * 3 * config["td"]
    first = inner[:, :1] + torch.cat([weights["decoder_pos_embed"][0, 0], torch.tensor(last, dtype=torch.float32)])
    decoded = run_blocks(weights, "decoder_blocks.", config["ddepth"], config["dh"], torch.cat([first, filled], dim=1))
    decoded = norm(weights, "decoder_norm", decoded)[:, 1:]
    mask = (restore >= keep).float()
    found = (
        group_losses(weights, config, pixels, decoded, mask)
        if grouped
        else date_losses(weights, config, pixels, decoded, mask)
    )
    if grouped:
        patches = tokens_all // slices
        mask = mask.reshape(count, slices, patches)
        if noise.shape[1] == patches and slices > 1:
            rows = noise.tolist()
            restore = torch.tensor([[sorted(row).index(value) for value in row] for row in rows])
    return found | {"ids_restore": restore, "mask": mask, "latent": latent}


def normed(values: Tensor) -> Tensor:
    return (values - values.mean(2, keepdim=True)) / (values.var(2, keepdim=True) + 1e-6).sqrt()


def date_losses(
    weights: Weights, config: dict[str, Any], pixels: Tensor, decoded: Tensor, mask: Tensor
) -> dict[str, Any]:
    rebuilt = linear(weights, "decoder_pred", decoded)
    target = torch.cat([cut(pixels[:, date], config["p"]) for date in range(pixels.shape[1])], dim=1)
    raw, norm_ = (
        ((rebuilt - wanted).square().mean(2) * mask).sum() / mask.sum() for wanted in (target, normed(target))
    )
    return {"pred": rebuilt, "loss_raw": raw, "loss_norm": norm_}


def group_losses(
    weights: Weights, config: dict[str, Any], pixels: Tensor, decoded: Tensor, mask: Tensor
) -> dict[str, Any]:
    groups, area = config["groups"], config["p"] ** 2
    count, patches = len(decoded), decoded.shape[1] // len(groups)
    parts = []
    for index, group in enumerate(groups):
        values = linear(weights, f"decoder_pred.{index}", decoded[:, index * patches : (index + 1) * patches])
        parts += [values[:, :, place * area : (place + 1) * area] for place in range(len(group))]
    rebuilt = torch.stack(parts, dim=1)  # bands in the order of the groups
    bands = [cut(pixels[:, 0, band : band + 1], config["p"]) for band in range(config["in_chans"])]
    target = torch.stack(bands, dim=1)
    whole = normed(target.transpose(1, 2).flatten(2)).reshape(count, patches, len(bands), area).transpose(1, 2)
    flat = [band for group in groups for band in group]
    in_order = torch.stack([rebuilt[:, flat.index(band)] for band in range(len(flat))], dim=1)

    def loss(given: Tensor, wanted: Tensor) -> Tensor:
        error = (given - wanted).square().mean(3)
        hidden = mask.reshape(count, len(groups), patches)
        return (
            sum((error[:, group].mean(1) * hidden[:, index]).sum() for index, group in enumerate(groups)) / mask.sum()
        )

    return {
        "pred": rebuilt,
        "loss_raw": loss(rebuilt, target),
        "loss_norm": loss(rebuilt, whole),
        "loss_reordered": loss(in_order, target),
    }
