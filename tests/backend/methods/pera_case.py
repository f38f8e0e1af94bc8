"""Writes a golden case of PerA from slow plain formulas, which share nothing with our modules."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.backend.methods.distillation_case import direction, make_weights, positions, through
from tests.backend.methods.mae_case import cut, norm

Weights = dict[str, Tensor]
FIELDS = "dim depth heads patch global_px local_px batch globals locals prototypes hidden bottleneck".split()  # noqa: SIM905
FLOATS = "student teacher teacher_temp temp keep ce koleo pixel lr momentum clip".split()  # noqa: SIM905


def write_pera_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and weights.safetensors of a configuration, with the names of the authors'."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(config["seed"])
    student = make_weights(config, False, generator)
    teacher = {name: value + 0.03 * torch.randn(value.shape, generator=generator) for name, value in student.items()}
    values = config["bands"] * config["patch"] ** 2
    extra = make_weights({**config, "prototypes": values, "depth": 0}, False, generator)
    state = {
        "student": student,
        "teacher": teacher,
        "pixel": {name: value for name, value in extra.items() if name.startswith("head.")},
        "mask": 0.1 * torch.randn(1, 1, config["dim"], generator=generator),
        "centre": 0.1 * torch.randn(1, config["prototypes"], generator=generator),
    }
    save_file(authors_names(state), folder / "weights.safetensors")
    arrays: dict[str, Any] = {"cfg": np.array([config[name] for name in FIELDS])}
    arrays["cfg_float"] = np.array([config[name] for name in FLOATS], np.float32)
    for kind in ("global", "local"):
        count, size = config[f"{kind}s"] * config["batch"], config[f"{kind}_px"]
        patches = (size // config["patch"]) ** 2
        arrays[f"S_{kind}_crops"] = torch.randn(count, config["bands"], size, size, generator=generator)
        arrays[f"T_{kind}_crops"] = 0.9 * arrays[f"S_{kind}_crops"] + 0.2
        noise = torch.rand(count, patches, generator=generator)
        rank = noise.argsort(dim=1)
        seen, before = round(patches * config["student"]), round(patches * (1 - config["teacher"]))
        arrays |= {f"{kind}_rand": noise, f"{kind}_rank": rank, f"{kind}_mask_student": rank < seen}
        arrays |= {f"{kind}_mask_learnable": (rank >= seen) & (rank < before), f"{kind}_mask_teacher": rank >= before}
    arrays |= steps(state, config, dict(arrays))
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", **plain)


def authors_names(state: dict[str, Any]) -> Weights:
    named = {f"student.{name.replace('head.', 'cls_head.', 1)}": value for name, value in state["student"].items()}
    named |= {f"teacher.{name.replace('head.', 'cls_head.', 1)}": value for name, value in state["teacher"].items()}
    for name, value in state["pixel"].items():
        named[name.replace("head.mlp", "pred_head.mlp0.mlp").replace("head.last", "pred_head.last", 1)] = value
    named |= {"s_mask_token": state["mask"], "loss.dino_loss.center": state["centre"]}
    return {name.replace("pred_pred", "pred"): value.clone() for name, value in named.items()}


def head(weights: Weights, features: Tensor) -> Tensor:
    rows = weights["head.last_layer.weight_v"]
    return (
        direction(weights, features) @ (weights["head.last_layer.weight_g"] * rows / rows.norm(dim=1, keepdim=True)).T
    )


def all_tokens(weights: Weights, config: dict[str, Any], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The class token and every patch with its position; the positions of the patches."""
    side = pixels.shape[2] // config["patch"]
    table = positions(weights["backbone.pos_embed"], side, side, False)
    kernel = weights["backbone.patch_embed.proj.weight"].permute(0, 2, 3, 1).flatten(1)
    patches = cut(pixels, config["patch"]) @ kernel.T + weights["backbone.patch_embed.proj.bias"]
    first = weights["backbone.cls_token"].expand(len(pixels), -1, -1)
    return torch.cat([first, patches], dim=1) + table, table[0, 1:]


def student_side(state: dict[str, Any], config: dict[str, Any], arrays: Any, kind: str) -> tuple[Tensor, Tensor, Any]:
    """Window by window: the class token, and of large views the pixels imagined and the sequence."""
    pixels, weights = arrays[f"S_{kind}_crops"], state["student"]
    tokens, table = all_tokens(weights, config, pixels)
    half, classes, imagined, last = config["depth"] // 2, [], [], []
    for row in range(len(pixels)):
        seen = arrays[f"{kind}_mask_student"][row].nonzero()[:, 0].tolist()
        asked = arrays[f"{kind}_mask_learnable"][row].nonzero()[:, 0].tolist() if kind == "global" else []
        sequence = through(weights, config, tokens[row : row + 1, [0, *(1 + place for place in seen)]], half)[0]
        known = dict(zip(seen, sequence[1:], strict=True)) | {
            place: state["mask"][0, 0] + table[place] for place in asked
        }
        order = sorted(known)
        middle = torch.stack([sequence[0], *(known[place] for place in order)])[None]
        upper = {name.replace(f"blocks.{block}.", f"blocks.{block - half}."): value
                 for block in range(half, config["depth"]) for name, value in weights.items()
                 if f"blocks.{block}." in name}  # fmt: skip
        out = norm(weights, "backbone.norm", through(upper, config, middle, config["depth"] - half))[0]
        classes.append(out[0])
        last.append(out)
        if asked:
            imagined.append(head(state["pixel"], torch.stack([out[1 + order.index(place)] for place in asked])))
    return torch.stack(classes), torch.stack(imagined) if imagined else torch.empty(0), torch.stack(last)


def teacher_side(state: dict[str, Any], config: dict[str, Any], arrays: Any, kind: str) -> Tensor:
    pixels, weights = arrays[f"T_{kind}_crops"], state["teacher"]
    tokens, _ = all_tokens(weights, config, pixels)
    classes = []
    for row in range(len(pixels)):
        kept = [0, *(1 + place for place in arrays[f"{kind}_mask_teacher"][row].nonzero()[:, 0].tolist())]
        classes.append(norm(weights, "backbone.norm", through(weights, config, tokens[row : row + 1, kept]))[0, 0])
    return torch.stack(classes)


def koleo(logits: Tensor) -> Tensor:
    unit, found = logits / logits.norm(dim=1, keepdim=True), []
    for row in range(len(unit)):
        others = [other for other in range(len(unit)) if other != row]
        nearest = max(others, key=lambda other: (unit[row] @ unit[other]).item())
        found.append(-torch.log((unit[row] - unit[nearest] + 1e-8).norm() + 1e-8))
    return torch.stack(found).mean()


def evaluate(state: dict[str, Any], config: dict[str, Any], arrays: Any) -> dict[str, Any]:
    """One term for each view, as the authors' README defines them."""
    found: dict[str, Any] = {}
    student, teacher = [], []
    for kind in ("global", "local"):
        if config[f"{kind}s"]:
            classes, imagined, last = student_side(state, config, arrays, kind)
            student.append(head(state["student"], classes))
            with torch.no_grad():
                watched = teacher_side(state, config, arrays, kind)
                teacher.append(head(state["teacher"], watched))
            found |= {f"student_out/{kind}_cls_tokens": student[-1], f"teacher_out/{kind}_cls_tokens": teacher[-1]}
            found[f"teacher_{kind}_cls_norm"] = watched
            if kind == "global":
                found |= {"student_global_norm_tokens": last, "student_out/global_pred_tokens": imagined}
    target = cut(arrays["S_global_crops"], config["patch"])
    wanted = torch.stack([patches[mask] for patches, mask in zip(target, arrays["global_mask_learnable"], strict=True)])
    pixel = (found["student_out/global_pred_tokens"] - wanted).square().sum(2).mean()
    shape = (-1, config["batch"], config["prototypes"])
    logits, raw = torch.cat(student).reshape(shape), torch.cat(teacher).reshape(shape)
    probabilities = torch.softmax((raw - state["centre"]) / config["teacher_temp"], dim=2)
    terms = -(probabilities * torch.log_softmax(logits / config["temp"], dim=2)).sum(2).mean(1)
    apart = torch.stack([koleo(logits[view]) for view in range(config["globals"])])
    centre = config["keep"] * state["centre"] + (1 - config["keep"]) * raw.flatten(0, 1).mean(0, keepdim=True)
    return found | {
        "pixel_target": wanted,
        "teacher_probs_by_crop": probabilities,
        "cls_ce_terms_by_crop": terms,
        "koleo_per_global_crop": apart,
        "pixel_loss_raw": pixel,
        "loss": terms.sum() / len(terms) + config["koleo"] * apart.sum() + config["pixel"] * pixel,
        "center_before": state["centre"],
        "center_after_pending_applied": centre,
    }


def steps(state: dict[str, Any], config: dict[str, Any], arrays: Any) -> dict[str, Any]:
    trained = {f"student.{name.replace('head.', 'cls_head.', 1)}": value for name, value in state["student"].items()}
    for name, value in state["pixel"].items():
        trained[name.replace("head.mlp", "pred_head.mlp0.mlp").replace("head.last", "pred_head.last")] = value
    trained["s_mask_token"] = state["mask"]
    for value in trained.values():
        value.requires_grad_()
    found = evaluate(state, config, arrays)
    found["loss"].backward()
    norms = np.array([value.grad.double().norm().item() for value in trained.values()])
    whole = math.sqrt((norms**2).sum())
    shown = [name for name, value in trained.items() if value.numel() < 400]
    found |= {"grad_names": np.array(list(trained)), "grad_norms_preclip": norms.astype(np.float32)}
    found |= {f"grad/{name}": trained[name].grad.clone() for name in shown} | {"grad_global_norm": np.float32(whole)}
    with torch.no_grad():
        for value in trained.values():
            value -= config["lr"] * min(1, config["clip"] / (whole + 1e-6)) * value.grad
        for name, value in state["teacher"].items():
            value.copy_(config["momentum"] * value + (1 - config["momentum"]) * state["student"][name])
    found |= {f"sgd_after/{name}": trained[name].detach().clone() for name in shown}
    names = {name: name.replace("head.", "cls_head.", 1) for name in state["teacher"]}
    ema = [value.double() for value in state["teacher"].values()]
    found["ema_names"] = np.array(list(names.values()))
    found["ema_param_norms"] = np.array([value.norm().item() for value in ema], np.float32)
    found["ema_param_sums"] = np.array([value.sum().item() for value in ema], np.float32)
    with torch.no_grad():
        again = evaluate({**state, "centre": found["center_after_pending_applied"]}, config, arrays)
    return found | {"loss_step2_same_masks": again["loss"]}
