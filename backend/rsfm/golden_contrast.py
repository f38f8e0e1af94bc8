"""What the comparisons of MoCo v2 and GASSL share: weights, logits, gradients, what a step leaves, schedules.

Shape letters: B batch, C bands, H rows, W columns, D features, K length of the queue.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from rsfm.blocks.momentum_contrast import MomentumContrast, contrast, top
from rsfm.blocks.schedules import cosine_by_epoch, steps_by_epoch
from rsfm.encoder import Encoder
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.errors import UserError
from rsfm.golden import Case, Check, compare, worst
from rsfm.golden_step import renaming
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer

M = TypeVar("M", bound=MomentumContrast)

our_name = renaming(
    {
        "encoder_q.fc.": "projection.",
        "encoder_k.fc.": "key_projection.",
        "encoder_q.": "encoder.",
        "encoder_k.": "key_encoder.",
        "queue": "negatives.queue",
        "geo_dict.layers.": "geo_head.",
    }
)
L2 = {"rtol": 1e-4, "atol": 1e-9}


def make_encoder(config: dict[str, Any]) -> ResNet:
    """Build the narrow ResNet of a case."""
    layout = Layout(config["block"], tuple(config["layers"]), tuple(config["widths"]))
    return ResNet(ResNetConfig(), config["in_chans"], layout)


def method_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the configs of both methods have in common."""
    return {
        "queue": config["K"],
        "dimension": config["dim"],
        "momentum": config["m"],
        "temperature": config["T"],
    }


def load_weights(case: Case, method: M) -> M:
    """Load all weights of a case; counters of batches may be absent.

    Raises:
        UserError: they are not exactly the parts that the method has.
    """
    weights = {our_name(name): value for name, value in case.weights("weights.safetensors").items()}
    known = {name for name in method.state_dict() if not name.endswith("average_due")}
    known = {name for name in known if name in weights or not name.endswith("num_batches_tracked")}
    if known != set(weights):
        raise UserError(f"The weights of '{case.folder}' do not fit its config: {sorted(known ^ set(weights))[:5]}.")
    method.load_state_dict(weights, strict=False)
    return method.train()


def optimizer_of(method: MomentumContrast, config: dict[str, Any]) -> torch.optim.Optimizer:
    """Make the optimizer of a case, over the method and what it has on top."""
    training = TrainingConfig(
        optimizer="sgd", learning_rate=config["lr"], weight_decay=config["wd"], decay_all=True, clip_norm=0
    )
    return make_optimizer(method, training)


def check_training(
    case: Case, load: Callable[[Case, dict[str, Any]], M], check_step: Callable[..., Iterator[Check]]
) -> Iterator[Check]:
    """Compare all steps of a case, the state they end in, and the schedules."""
    config = json.loads(str(case.array("config_json")))
    method = load(case, config)
    optimizer = optimizer_of(method, config)
    for step in range(config["steps"]):
        yield from check_step(case, method, optimizer, f"s{step}_")
    yield from check_weights_after(case, method)
    yield from check_eval_feature(case, load(case, config).encoder)
    yield from check_schedules(case, config)


def order_of(case: Case, start: str) -> Tensor | None:
    """Return the permutation of a step's keys, if the case has it."""
    return case.tensor(start + "idx_shuffle") if start + "idx_shuffle" in case else None


def check_logits(case: Case, start: str, method: MomentumContrast, logits_BK: Tensor) -> Iterator[Check]:
    """Compare the logits, their loss and accuracy, and the queue after they were made."""
    yield from case.check(start + "logits", logits_BK, atol=1e-4, rtol=1e-4)
    yield from case.check(start + "loss_contrast", contrast(logits_BK), rtol=1e-4)
    for count in (1, 5):
        yield from case.check(f"{start}acc{count}", 100 * float(top(logits_BK, count)), rtol=1e-6)
    yield from case.check(start + "queue", method.negatives.queue, **state_tolerance(start))
    yield from case.check(start + "queue_ptr", method.negatives.queue_ptr)


def check_gradients(case: Case, start: str, method: MomentumContrast) -> Iterator[Check]:
    """Compare the norms of all gradients."""
    if start + "grad_l2" in case:
        names = [our_name(name) for name in case.array(start + "grad_names").tolist()]
        yield from case.check(start + "grad_l2", gradient_norms(method, names), **L2)


def check_after(case: Case, start: str, method: MomentumContrast) -> Iterator[Check]:
    """Compare both encoders after a step of the optimizer."""
    names = case.array("param_names").tolist()
    tensors = method.state_dict()
    for side in ("encoder_q", "encoder_k"):
        norms = [tensors[our_name(f"{side}.{name}")].double().norm().item() for name in names]
        yield from case.check(f"{start}{side}_l2", norms, **L2)
        for key, name in (("conv1", "conv1.weight"), ("bn1_mean", "bn1.running_mean"), ("bn1_var", "bn1.running_var")):
            tolerance = {"atol": 5e-6, "rtol": 0.0} if key == "conv1" else state_tolerance(start)
            yield from case.check(f"{start}{side}_{key}", tensors[our_name(f"{side}.{name}")], **tolerance)


def state_tolerance(start: str) -> dict[str, float]:
    """Return what is allowed in the queue and in statistics: more after the first step."""
    return {"atol": 1e-5 if start == "s0_" else 5e-5, "rtol": 1e-4}


def gradient_norms(method: MomentumContrast, names: list[str]) -> list[float]:
    """Return the norm of each parameter's gradient."""
    parameters = dict(method.named_parameters())
    return [_norm(parameters[name].grad) for name in names]


def check_weights_after(case: Case, method: MomentumContrast) -> Iterator[Check]:
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


def check_eval_feature(case: Case, encoder: Encoder) -> Iterator[Check]:
    """Compare the pooled features of the trained encoder in eval mode, with the authors' own weights."""
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


def _norm(gradient: Tensor | None) -> float:
    return float("nan") if gradient is None else gradient.double().norm().item()
