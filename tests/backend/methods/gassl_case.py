"""Writes a golden case of GASSL from slow plain formulas and torchvision's ResNet, which share nothing with ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.backend.methods.moco_case import (
    accuracy,
    cross_entropy,
    descend,
    draw,
    enqueue,
    features_and_schedules,
    fresh,
    left,
    logits_of,
    move_average,
    unit,
    weights,
)


def write_gassl_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and both weights of a configuration, with the names of the authors'."""
    folder.mkdir()
    torch.manual_seed(config["seed"])
    state = fresh(config)
    head = {
        "weight": (0.3 * torch.randn(config["ncls"], config["dim"])).requires_grad_(),
        "bias": (0.3 * torch.randn(config["ncls"])).requires_grad_(),
    }
    save_file(with_head(state, head, with_queue=True), folder / "weights.safetensors")
    arrays: dict[str, Any] = {"param_names": np.array([name for name, _ in state["q"].named_parameters()])}
    trained = [*state["q"].parameters(), *head.values()]
    velocity = [torch.zeros_like(value) for value in trained]
    for step in range(config["steps"]):
        found = train_step(state, head, config, velocity)
        arrays |= {f"s{step}_{name}": value for name, value in found.items()}
    save_file(with_head(state, head, with_queue=False), folder / "weights_after.safetensors")
    arrays |= features_and_schedules(state, config, arrays["s0_im_q"])
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", config_json=json.dumps(config), **plain)


def with_head(state: dict[str, Any], head: dict[str, Tensor], with_queue: bool) -> dict[str, Tensor]:
    ours = {f"geo_dict.layers.1.{name}": value.detach().clone() for name, value in head.items()}
    return weights(state, with_queue) | ours


def train_step(
    state: dict[str, Any], head: dict[str, Tensor], config: dict[str, Any], velocity: list[Tensor]
) -> dict[str, Any]:
    image_q, image_k, order = draw(config)
    label = torch.randint(config["ncls"], (config["B"],))
    embedding = state["q"](image_q)
    query = unit(embedding)
    move_average(state, config["m"])
    with torch.no_grad():
        key = unit(state["k"](image_k))
    logits = logits_of(query, key, state["queue"], config["T"])
    contrast = cross_entropy(logits)
    enqueue(state, key)
    geo = embedding.clamp(min=0) @ head["weight"].T + head["bias"]
    geo_loss = torch.stack([torch.logsumexp(row, 0) - row[which] for row, which in zip(geo, label, strict=True)]).mean()
    state["q"].zero_grad()
    for value in head.values():
        value.grad = None
    (contrast + geo_loss).backward()
    named = [(f"encoder_q.{name}", value) for name, value in state["q"].named_parameters()]
    named += [(f"geo_dict.layers.1.{name}", value) for name, value in head.items()]
    found: dict[str, Any] = {
        "grad_names": np.array([name for name, _ in named]),
        "grad_l2": np.array([value.grad.double().norm().item() for _, value in named]),
        "grad_geo_bias": head["bias"].grad.clone(),
    }
    descend([value for _, value in named], velocity, config)
    found |= {"im_q": image_q, "im_k": image_k, "idx_shuffle": order, "logits": logits, "loss_contrast": contrast}
    found |= {"embedding": embedding, "geo_labels": label, "geo_logits": geo, "loss_geo": geo_loss}
    return found | accuracy(logits) | left(state) | {"loss_total": contrast + geo_loss}
