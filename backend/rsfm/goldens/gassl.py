"""GASSL against sustainlab-group/geography-aware-ssl: several steps of one process.

Shape letters: B batch, C bands, H rows, W columns, D features, K length of the queue.
"""

from collections.abc import Iterator
from typing import Any

import torch

from rsfm.blocks.momentum_contrast import contrast
from rsfm.golden import Case, Check, Golden
from rsfm.golden_contrast import (
    check_after,
    check_gradients,
    check_logits,
    check_training,
    load_weights,
    make_encoder,
    method_config,
    order_of,
    state_tolerance,
)
from rsfm.methods.gassl import GASSL, GASSLConfig


class Gassl(Golden):
    name = "gassl"

    def checks(self, case: Case) -> Iterator[Check]:
        yield from check_training(case, load, check_step)


def load(case: Case, config: dict[str, Any]) -> GASSL:
    """Build the method with the case's weights."""
    values = method_config(config) | {"learn_places": config["geo"]}
    method = GASSL(GASSLConfig.model_validate(values), make_encoder(config))
    if config["geo"]:
        method.make_head(config["ncls"])
    return load_weights(case, method)


def check_step(case: Case, method: GASSL, optimizer: torch.optim.Optimizer, start: str) -> Iterator[Check]:
    """Do one step of the training and compare all that it leaves."""
    query_BD = method.project(case.tensor(start + "im_q"))
    logits_BK = method.compare_projected(query_BD, case.tensor(start + "im_k"), order_of(case, start))
    yield from check_logits(case, start, method, logits_BK)
    yield from case.check(start + "embedding", query_BD, **state_tolerance(start))
    total = contrast(logits_BK)
    if start + "geo_labels" in case:
        label_B = case.tensor(start + "geo_labels")
        yield from case.check(start + "geo_logits", method.place_logits(query_BD), **state_tolerance(start))
        place = method.place_error(query_BD, label_B)
        yield from case.check(start + "loss_geo", place, rtol=1e-4)
        total = total + place
    yield from case.check(start + "loss_total", total, rtol=1e-4)
    optimizer.zero_grad()
    torch.autograd.backward(total)
    yield from check_gradients(case, start, method)
    if method.geo_head is not None:
        gradient = method.geo_head.get_parameter("1.bias").grad
        yield from case.check(start + "grad_geo_bias", gradient, atol=2e-5, rtol=1e-4)
    optimizer.step()
    method.after_step(0)
    yield from check_after(case, start, method)
