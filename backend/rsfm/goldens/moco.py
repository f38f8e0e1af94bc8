"""MoCo v2 against facebookresearch/moco: several steps of one process, and one step of two devices.

Shape letters: B batch, C bands, H rows, W columns, D features, K length of the queue.
"""

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.schedules import cosine_by_epoch, steps_by_epoch
from rsfm.encoder import Encoder
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.errors import UserError
from rsfm.golden import Case, Check, Golden, compare, worst
from rsfm.methods.moco_v2 import MoCoV2, MoCoV2Config, contrast, top
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer

PREFIXES = {
    "encoder_q.fc.": "projection.",
    "encoder_k.fc.": "key_projection.",
    "encoder_q.": "encoder.",
    "encoder_k.": "key_encoder.",
    "queue": "negatives.queue",
}
L2 = {"rtol": 1e-4, "atol": 1e-9}


class Moco(Golden):
    name = "moco"

    def checks(self, case: Case) -> Iterator[Check]:
        config = json.loads(str(case.array("config_json")))
        method = load(case, config)
        training = TrainingConfig(
            optimizer="sgd", learning_rate=config["lr"], weight_decay=config["wd"], decay_all=True, clip_norm=0
        )
        optimizer = make_optimizer(method, training)
        for step in range(config["steps"]):
            yield from check_step(case, method, optimizer, step)
        yield from check_weights_after(case, method)
        yield from check_eval_feature(case, config, method)
        yield from check_schedules(case, config)
        if "ws2_im_q" in case:
            yield from check_devices(case, config)


def load(case: Case, config: dict[str, Any], groups: int = 1) -> MoCoV2:
    """Build the method with the case's weights."""
    layout = Layout(config["block"], tuple(config["layers"]), tuple(config["widths"]))
    method = MoCoV2(
        MoCoV2Config(
            queue=config["K"],
            dimension=config["dim"],
            momentum=config["m"],
            temperature=config["T"],
            bn_groups=groups,
        ),
        ResNet(ResNetConfig(), config["in_chans"], layout),
    )
    weights = {our_name(name): value for name, value in case.weights("weights.safetensors").items()}
    known = {name for name in method.state_dict() if not name.endswith("average_due")}
    known = {name for name in known if name in weights or not name.endswith("num_batches_tracked")}
    if known != set(weights):
        raise UserError(f"The weights of '{case.folder}' do not fit its config: {sorted(known ^ set(weights))[:5]}.")
    method.load_state_dict(weights, strict=False)
    return method.train()


def our_name(name: str) -> str:
    """Translate a name of the authors' into ours."""
    for prefix, ours in PREFIXES.items():
        if name.startswith(prefix):
            return ours + name[len(prefix) :]
    return name


def check_step(case: Case, method: MoCoV2, optimizer: torch.optim.Optimizer, step: int) -> Iterator[Check]:
    """Do one step of the training and compare all that it leaves."""
    start = f"s{step}_"
    state = {"atol": 1e-5 if step == 0 else 5e-5, "rtol": 1e-4}
    order_B = case.tensor(start + "idx_shuffle") if start + "idx_shuffle" in case else None
    logits_BK = method.compare(case.tensor(start + "im_q"), case.tensor(start + "im_k"), order_B)
    total = contrast(logits_BK)
    yield from case.check(start + "logits", logits_BK, atol=1e-4, rtol=1e-4)
    yield from case.check(start + "loss_contrast", total, rtol=1e-4)
    for count in (1, 5):
        yield from case.check(f"{start}acc{count}", 100 * top(logits_BK, count), rtol=1e-6)
    yield from case.check(start + "queue", method.negatives.queue, **state)
    yield from case.check(start + "queue_ptr", method.negatives.queue_ptr)
    optimizer.zero_grad()
    torch.autograd.backward(total)
    if start + "grad_l2" in case:
        names = [our_name(name) for name in case.array(start + "grad_names").tolist()]
        yield from case.check(start + "grad_l2", gradient_norms(method, names), **L2)
    optimizer.step()
    method.after_step(0)
    names = case.array("param_names").tolist()
    for side in ("encoder_q", "encoder_k"):
        tensors = method.state_dict()
        norms = [tensors[our_name(f"{side}.{name}")].double().norm().item() for name in names]
        yield from case.check(f"{start}{side}_l2", norms, **L2)
        for key, name in (("conv1", "conv1.weight"), ("bn1_mean", "bn1.running_mean"), ("bn1_var", "bn1.running_var")):
            tolerance = {"atol": 5e-6, "rtol": 0.0} if key == "conv1" else state
            yield from case.check(f"{start}{side}_{key}", tensors[our_name(f"{side}.{name}")], **tolerance)


def gradient_norms(method: MoCoV2, names: list[str]) -> list[float]:
    """Return the norm of each parameter's gradient."""
    parameters = dict(method.named_parameters())
    return [_norm(parameters[name].grad) for name in names]


def check_weights_after(case: Case, method: MoCoV2) -> Iterator[Check]:
    """Compare the whole state after the last step."""
    ours, checks = method.state_dict(), []
    for their_name, value in case.weights("weights_after.safetensors").items():
        name = our_name(their_name)
        if not value.is_floating_point():
            tolerance = {"atol": 0.0, "rtol": 0.0}
        else:
            tolerance = {"atol": 5e-5, "rtol": 1e-4} if "running" in name else {"atol": 5e-6, "rtol": 0.0}
        checks.append(compare(name, ours.get(name, torch.empty(0)), value, **tolerance))
    yield worst("weights_after", checks)


def check_eval_feature(case: Case, config: dict[str, Any], method: MoCoV2) -> Iterator[Check]:
    """Compare the pooled features of the trained encoder in eval mode, with the authors' own weights."""
    encoder = load(case, config).encoder
    after = case.weights("weights_after.safetensors")
    start = "encoder_q."
    encoder.load_state_dict(
        {name[len(start) :]: value for name, value in after.items() if name.startswith(start) and ".fc." not in name}
    )
    with torch.no_grad():
        feature_BD = encoder.eval().embedding(case.tensor("s0_im_q"))
    yield from case.check("eval_feature", feature_BD, atol=2e-5, rtol=1e-4)


def check_schedules(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the learning rate of every epoch."""
    epochs = range(config["epochs"])
    rates = [config["lr"] * cosine_by_epoch(epoch, config["epochs"]) for epoch in epochs]
    yield from case.check("sched_cos", rates, atol=1e-12, rtol=1e-9)
    rates = [config["lr"] * steps_by_epoch(epoch, config["milestones"]) for epoch in epochs]
    yield from case.check("sched_step", rates, atol=1e-12, rtol=1e-9)


def check_devices(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare one step in which each group stands for a device."""
    devices = len(case.array("ws2_loss"))
    method = load(case, config, groups=devices)
    query_BCHW, key_BCHW, order_B = (case.tensor(f"ws2_{name}") for name in ("im_q", "im_k", "idx_shuffle"))
    logits_BK = method.compare(query_BCHW, key_BCHW, order_B)
    losses = torch.stack([contrast(part) for part in logits_BK.tensor_split(devices)])
    yield from case.check("ws2_logits", logits_BK, atol=1e-4, rtol=1e-4)
    yield from case.check("ws2_loss", losses, rtol=1e-4)
    yield from case.check("ws2_queue", method.negatives.queue, atol=1e-5, rtol=1e-4)
    yield from case.check("ws2_queue_ptr", method.negatives.queue_ptr)
    torch.autograd.backward(losses.mean())
    names = [our_name(f"encoder_q.{name}") for name in case.array("param_names").tolist()]
    yield from case.check("ws2_grad_l2", gradient_norms(method, names), **L2)
    fresh = load(case, config)
    sides = (
        ("q", method.encoder, fresh.encoder, query_BCHW),
        ("k", method.key_encoder, fresh.key_encoder, key_BCHW[order_B]),
    )
    for side, encoder, start, pixels_BCHW in sides:
        name = f"ws2_{side}_bn1_mean"
        if name in case:
            kept = encoder.get_buffer("bn1.running_mean").clone()
            before = start.get_buffer("bn1.running_mean")
            means = [_mean_after(encoder, before, group) for group in pixels_BCHW.tensor_split(devices)]
            yield from case.check(name, torch.stack(means), atol=1e-5, rtol=1e-4)
            yield compare(f"{name}, kept", kept, case.tensor(name).mean(0), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def _mean_after(encoder: Encoder, before: Tensor, group_BCHW: Tensor) -> Tensor:
    """Return the running mean of the first norm after one device's pass."""
    mean = encoder.get_buffer("bn1.running_mean")
    mean.copy_(before)
    encoder.embedding(group_BCHW)
    return mean.clone()


def _norm(gradient: Tensor | None) -> float:
    return float("nan") if gradient is None else gradient.double().norm().item()
