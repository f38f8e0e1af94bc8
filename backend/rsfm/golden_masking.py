"""What the comparisons of MAE and SatMAE share: names, configs, norms and a step of AdamW.

Shape letters: B batch, C bands, H rows, W columns.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from rsfm.golden import Case, Check
from rsfm.golden_step import decayed
from rsfm.methods.mae import MAE
from rsfm.methods.satmae import SatMAE
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer

ACTIVATION = {"atol": 2e-5, "rtol": 1e-4}
L2 = {"rtol": 1e-4, "atol": 1e-9}
STEP = {"rtol": 1e-4, "atol": 5e-5}
"""AdamW's first step divides by the gradient's own size: where that is rounding noise, so is the step."""


def our_name(name: str) -> str:
    """Translate a name of the authors' into ours: the encoder is a part, and SatMAE's outputs are listed."""
    return name if name.startswith(("decoder", "mask_token")) else f"encoder.{name}"


def encoder_config(config: dict[str, Any], pooling: str) -> dict[str, Any]:
    """Return what the encoders of all kinds have in common."""
    return {
        "window": config["img"],
        "patch_size": config["p"],
        "width": config["d"],
        "depth": config["depth"],
        "heads": config["h"],
        "pooling": pooling,
    }


def decoder_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the decoders of all kinds have in common."""
    return {"decoder_width": config["dd"], "decoder_depth": config["ddepth"], "decoder_heads": config["dh"]}


def check_gradients(case: Case, start: str, method: MAE | SatMAE, rename: Any = our_name) -> Iterator[Check]:
    """Compare the norms of all gradients."""
    if f"{start}grad_l2" in case:
        parameters = dict(method.named_parameters())
        names = [rename(name) for name in case.array(f"{start}grad_names").tolist()]
        yield from case.check(f"{start}grad_l2", [norm(parameters[name].grad) for name in names], **L2)


def check_step(case: Case, method: MAE | SatMAE, rename: Any = our_name) -> Iterator[Check]:
    """Compare the groups of weight decay and one step of AdamW on the gradients at hand."""
    rate, decay = float(case.array("adamw_lr")), float(case.array("adamw_wd"))
    training = TrainingConfig(learning_rate=rate, weight_decay=decay, decay_all=False, beta2=0.95)
    if "no_decay_names" in case:
        _, ours = decayed(make_optimizer(method, training.model_copy(update={"weight_decay": 1.0})), method)
        yield Check("no_decay_names", len(ours ^ {rename(name) for name in case.array("no_decay_names").tolist()}), 0)
    yield from case.check("grad_mask_token", method.mask_token.grad, **ACTIVATION)
    make_optimizer(method, training).step()
    tensors = method.state_dict()
    if "step1_l2" in case:
        norms = [norm(tensors[rename(name)]) for name in case.array("step1_names").tolist()]
        yield from case.check("step1_l2", norms, **STEP)
    yield from case.check("step1_cls_token", tensors["encoder.cls_token"], atol=5e-6)
    yield from case.check("step1_mask_token", tensors["mask_token"], atol=5e-6)


def norm(tensor: Tensor | None) -> float:
    """Return the norm of a tensor in double precision; not a number if it is absent."""
    return float("nan") if tensor is None else tensor.double().norm().item()
