"""MoCo v2 against facebookresearch/moco: several steps of one process, and one step of two devices.

Shape letters: B batch, C bands, H rows, W columns, D features, K length of the queue.
"""

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rsfm.blocks.momentum_contrast import contrast
from rsfm.encoder import Encoder
from rsfm.golden import Case, Check, Golden, compare
from rsfm.golden_contrast import (
    L2,
    check_after,
    check_gradients,
    check_logits,
    check_training,
    gradient_norms,
    load_weights,
    make_encoder,
    method_config,
    order_of,
    our_name,
)
from rsfm.methods.moco_v2 import MoCoV2, MoCoV2Config


class Moco(Golden):
    name = "moco"

    def checks(self, case: Case) -> Iterator[Check]:
        yield from check_training(case, load, check_step)
        if "ws2_im_q" in case:
            yield from check_devices(case, json.loads(str(case.array("config_json"))))


def load(case: Case, config: dict[str, Any], groups: int = 1) -> MoCoV2:
    """Build the method with the case's weights."""
    values = method_config(config) | {"bn_groups": groups}
    return load_weights(case, MoCoV2(MoCoV2Config.model_validate(values), make_encoder(config)))


def check_step(case: Case, method: MoCoV2, optimizer: torch.optim.Optimizer, start: str) -> Iterator[Check]:
    """Do one step of the training and compare all that it leaves."""
    query_BCHW, key_BCHW = case.tensor(start + "im_q"), case.tensor(start + "im_k")
    logits_BK = method.compare(query_BCHW, key_BCHW, order_of(case, start))
    yield from check_logits(case, start, method, logits_BK)
    optimizer.zero_grad()
    torch.autograd.backward(contrast(logits_BK))
    yield from check_gradients(case, start, method)
    optimizer.step()
    method.after_step(0)
    yield from check_after(case, start, method)


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
