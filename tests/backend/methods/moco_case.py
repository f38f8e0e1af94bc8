"""Writes a golden case of MoCo v2 from slow plain formulas and torchvision's ResNet, which share nothing with ours."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

BLOCKS: dict[str, Any] = {"basic": BasicBlock, "bottleneck": Bottleneck}


def write_moco_case(folder: Path, config: dict[str, Any]) -> None:
    """Write case.npz and both weights of a configuration, with the names of the authors'."""
    folder.mkdir()
    torch.manual_seed(config["seed"])
    state = fresh(config)
    save_file(weights(state, with_queue=True), folder / "weights.safetensors")
    arrays: dict[str, Any] = {"param_names": np.array([name for name, _ in state["q"].named_parameters()])}
    devices = two_devices(copy.deepcopy(state), config)
    velocity = [torch.zeros_like(value) for value in state["q"].parameters()]
    for step in range(config["steps"]):
        arrays |= {f"s{step}_{name}": value for name, value in train_step(state, config, velocity).items()}
    save_file(weights(state, with_queue=False), folder / "weights_after.safetensors")
    arrays |= features_and_schedules(state, config, arrays["s0_im_q"])
    arrays |= {f"ws2_{name}": value for name, value in devices.items()}
    plain = {name: value.detach().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()}
    np.savez(folder / "case.npz", config_json=json.dumps(config), **plain)


def fresh(config: dict[str, Any]) -> dict[str, Any]:
    """Both networks, the queue and its pointer."""
    return {
        "q": make_resnet(config),
        "k": make_resnet(config),
        "queue": nn.functional.normalize(torch.randn(config["dim"], config["K"]), dim=0),
        "ptr": config["ptr"],
    }


def features_and_schedules(state: dict[str, Any], config: dict[str, Any], image: Tensor) -> dict[str, Any]:
    body = copy.deepcopy(state["q"]).eval()
    body.fc = nn.Identity()
    epochs = range(config["epochs"])
    with torch.no_grad():
        return {
            "eval_feature": body(image),
            "sched_cos": np.array([config["lr"] / 2 * (1 + math.cos(math.pi * e / config["epochs"])) for e in epochs]),
            "sched_step": np.array([config["lr"] * 0.1 ** sum(e >= m for m in config["milestones"]) for e in epochs]),
        }


def make_resnet(config: dict[str, Any]) -> ResNet:
    """torchvision's ResNet, made narrow, with the head of MoCo v2."""
    block, widths = BLOCKS[config["block"]], config["widths"]
    net = ResNet(block, config["layers"])
    net.conv1 = nn.Conv2d(config["in_chans"], widths[0], 7, stride=2, padding=3, bias=False)
    net.bn1 = nn.BatchNorm2d(widths[0])
    net.inplanes = widths[0]
    for stage, (width, layers) in enumerate(zip(widths, config["layers"], strict=True)):
        setattr(net, f"layer{stage + 1}", net._make_layer(block, width, layers, stride=2 if stage else 1))
    wide = widths[-1] * block.expansion
    net.fc = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, config["dim"]))
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.02 * torch.randn_like(value))
    return net.train()


def weights(state: dict[str, Any], with_queue: bool) -> dict[str, Tensor]:
    found = {
        f"encoder_{side}.{name}": value.clone() for side in "qk" for name, value in state[side].state_dict().items()
    }
    if with_queue:
        found = {name: value for name, value in found.items() if "num_batches" not in name} | {"queue": state["queue"]}
    return found | {"queue_ptr": torch.tensor([state["ptr"]])}


def move_average(state: dict[str, Any], momentum: float) -> None:
    with torch.no_grad():
        for slow, fast in zip(state["k"].parameters(), state["q"].parameters(), strict=True):
            slow.copy_(momentum * slow + (1 - momentum) * fast)


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.square().sum(1, keepdim=True).sqrt()


def logits_of(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """One number after the other."""
    rows = [
        torch.stack([query[i] @ key[i], *(query[i] @ queue[:, j] for j in range(queue.shape[1]))])
        for i in range(len(query))
    ]
    return torch.stack(rows) / temperature


def cross_entropy(logits: Tensor) -> Tensor:
    return torch.stack([torch.logsumexp(row, 0) - row[0] for row in logits]).mean()


def enqueue(state: dict[str, Any], keys: Tensor) -> None:
    queue = state["queue"].clone()
    for key in keys:
        queue[:, state["ptr"]] = key
        state["ptr"] = (state["ptr"] + 1) % queue.shape[1]
    state["queue"] = queue


def draw(config: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    shape = (config["B"], config["in_chans"], config["img"], config["img"])
    offset = torch.linspace(-1, 1, config["B"])[:, None, None, None]
    query = torch.randn(shape) + offset
    return query, query + 0.5 * torch.randn(shape), torch.randperm(config["B"])


def train_step(state: dict[str, Any], config: dict[str, Any], velocity: list[Tensor]) -> dict[str, Any]:
    image_q, image_k, order = draw(config)
    query = unit(state["q"](image_q))
    move_average(state, config["m"])
    with torch.no_grad():
        key = unit(state["k"](image_k))
    logits = logits_of(query, key, state["queue"], config["T"])
    loss = cross_entropy(logits)
    enqueue(state, key)
    state["q"].zero_grad()
    loss.backward()
    named = list(state["q"].named_parameters())
    found: dict[str, Any] = {
        "grad_names": np.array([f"encoder_q.{name}" for name, _ in named]),
        "grad_l2": np.array([value.grad.double().norm().item() for _, value in named]),
    }
    descend([value for _, value in named], velocity, config)
    found |= {"im_q": image_q, "im_k": image_k, "idx_shuffle": order, "logits": logits, "loss_contrast": loss}
    return found | accuracy(logits) | left(state)


def descend(values: list[Tensor], velocity: list[Tensor], config: dict[str, Any]) -> None:
    """Take one step of SGD with momentum and weight decay."""
    with torch.no_grad():
        for value, speed in zip(values, velocity, strict=True):
            speed.copy_(0.9 * speed + value.grad + config["wd"] * value)
            value -= config["lr"] * speed


def accuracy(logits: Tensor) -> dict[str, Any]:
    rank = (logits[:, 1:] > logits[:, :1]).sum(1)
    return {f"acc{top}": np.float32(100 * (rank < top).float().mean()) for top in (1, 5)}


def left(state: dict[str, Any]) -> dict[str, Any]:
    """What a step leaves: the queue, and both networks in part."""
    found = {"queue": state["queue"], "queue_ptr": np.array([state["ptr"]])}
    for side in "qk":
        net, start = state[side], f"encoder_{side}_"
        found[start + "l2"] = np.array([value.detach().double().norm().item() for value in net.parameters()])
        found[start + "conv1"] = net.conv1.weight.detach().clone()
        found[start + "bn1_mean"] = net.bn1.running_mean.clone()
        found[start + "bn1_var"] = net.bn1.running_var.clone()
    return found


def two_devices(state: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Each device has its own copy of both networks and half of the batch."""
    image_q, image_k, order = draw(config)
    half = config["B"] // 2
    nets_q = [copy.deepcopy(state["q"]) for _ in range(2)]
    queries = [unit(net(image_q[half * device : half * (device + 1)])) for device, net in enumerate(nets_q)]
    move_average(state, config["m"])
    nets_k = [copy.deepcopy(state["k"]) for _ in range(2)]
    keys = torch.empty(config["B"], config["dim"])
    with torch.no_grad():
        for device, net in enumerate(nets_k):
            places = order[half * device : half * (device + 1)]
            keys[places] = unit(net(image_k[places]))
    logits = [
        logits_of(queries[device], keys[half * device : half * (device + 1)], state["queue"], config["T"])
        for device in range(2)
    ]
    losses = [cross_entropy(part) for part in logits]
    (sum(losses) / 2).backward()
    pairs = zip(nets_q[0].parameters(), nets_q[1].parameters(), strict=True)
    norms = [(one.grad + other.grad).double().norm().item() for one, other in pairs]
    enqueue(state, keys)
    return {
        "im_q": image_q,
        "im_k": image_k,
        "idx_shuffle": order,
        "logits": torch.cat(logits),
        "loss": np.array([loss.item() for loss in losses]),
        "queue": state["queue"],
        "queue_ptr": np.array([state["ptr"]]),
        "grad_l2": np.array(norms),
        "q_bn1_mean": torch.stack([net.bn1.running_mean for net in nets_q]),
        "k_bn1_mean": torch.stack([net.bn1.running_mean for net in nets_k]),
    }
