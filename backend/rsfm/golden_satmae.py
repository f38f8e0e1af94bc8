"""What both comparisons of SatMAE share: forward passes, gradients, a step of AdamW, features.

Shape letters: B batch, T dates, C bands, H rows, W columns, L patches of a slice, N patches of all slices, K kept, P
pixels of a patch, D encoder width.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rsfm.blocks.masking import Split
from rsfm.errors import UserError
from rsfm.golden import Case, Check
from rsfm.methods.satmae import Cube, SatMAE
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer

ACTIVATION = {"atol": 2e-5, "rtol": 1e-4}
L2 = {"rtol": 1e-4, "atol": 1e-9}
STEP = {"rtol": 1e-4, "atol": 5e-5}
"""AdamW's first step divides by the gradient's own size: where that is rounding noise, so is the step."""
NORM_PIX = {"loss_norm": "patch", "loss_raw": "off"}


class Pass(NamedTuple):
    """One forward pass."""

    split: Split
    latent_BKD: Tensor
    rebuilt_BTCLP: Tensor
    loss: Tensor


def load_weights(case: Case, method: SatMAE, our_name: Callable[[str], str]) -> SatMAE:
    """Load all weights of a case.

    Raises:
        UserError: they are not exactly the parts that the method has.
    """
    weights = {our_name(name): value for name, value in case.weights("weights.safetensors").items()}
    own = method.state_dict()
    wrong = set(own) ^ set(weights) or {name for name in own if own[name].shape != weights[name].shape}
    if wrong:
        raise UserError(f"The weights of '{case.folder}' do not fit its config: {sorted(wrong)[:5]}.")
    method.load_state_dict(weights)
    return method


def run(method: SatMAE, cube: Cube, noise: Tensor) -> Pass:
    """Do one forward pass with the case's own noise."""
    split = method.hide(cube, noise)
    latent_BKD = method.see(cube, split)
    rebuilt_BTCLP = method.rebuild(latent_BKD, split, cube)
    return Pass(split, latent_BKD, rebuilt_BTCLP, method.error(rebuilt_BTCLP, cube, split.hidden_BL))


class Graded(NamedTuple):
    """A method with gradients, and the pass that made them."""

    method: SatMAE
    found: Pass


def run_both(case: Case, start: str, load: Callable[..., SatMAE], masking: str, cube: Cube) -> dict[str, Graded]:
    """Do a pass for each of the two losses of a masking, gradients included; by the name of the loss."""
    both = {}
    for name, norm_pix in NORM_PIX.items():
        method = load(masking=masking, norm_pix=norm_pix)
        found = run(method, cube, case.tensor(f"{start}_noise"))
        torch.autograd.backward(found.loss)
        both[name] = Graded(method, found)
    return both


def check_both(
    case: Case, start: str, both: dict[str, Graded], graded: str, our_name: Callable[[str], str]
) -> Iterator[Check]:
    """Compare latents, both losses and the gradients of one of them."""
    for name, (_, found) in both.items():
        yield from case.check(f"{start}_{name}", found.loss, rtol=1e-4)
    yield from case.check(f"{start}_latent", both[graded].found.latent_BKD, **ACTIVATION)
    if f"{start}_grad_l2" in case:
        parameters = dict(both[graded].method.named_parameters())
        names = [our_name(name) for name in case.array(f"{start}_grad_names").tolist()]
        yield from case.check(f"{start}_grad_l2", [_norm(parameters[name].grad) for name in names], **L2)


def check_step(case: Case, method: SatMAE, our_name: Callable[[str], str]) -> Iterator[Check]:
    """Compare the groups of weight decay and one step of AdamW on the gradients at hand."""
    if "adamw_lr" not in case:
        return
    rate, decay = float(case.array("adamw_lr")), float(case.array("adamw_wd"))
    training = TrainingConfig(learning_rate=rate, weight_decay=decay, decay_all=False, beta2=0.95)
    if "no_decay_names" in case:
        groups = make_optimizer(method, training.model_copy(update={"weight_decay": 1.0})).param_groups
        kept = {id(value) for group in groups if not group["weight_decay"] for value in group["params"]}
        ours = {name for name, value in method.named_parameters() if id(value) in kept}
        yield Check("no_decay_names", len(ours ^ {our_name(name) for name in case.array("no_decay_names").tolist()}), 0)
    yield from case.check("grad_mask_token", method.mask_token.grad, **ACTIVATION)
    make_optimizer(method, training).step()
    tensors = method.state_dict()
    if "step1_l2" in case:
        norms = [_norm(tensors[our_name(name)]) for name in case.array("step1_names").tolist()]
        yield from case.check("step1_l2", norms, **STEP)
    yield from case.check("step1_cls_token", tensors["encoder.cls_token"], atol=5e-6)
    yield from case.check("step1_mask_token", tensors["mask_token"], atol=5e-6)


@torch.no_grad()
def check_features(case: Case, load: Callable[..., SatMAE], cube: Cube) -> Iterator[Check]:
    """Compare what is used after pretraining."""
    pixels_BTCHW, time_BT3 = cube.pixels_BTCHW, cube.time_BT3
    encoder = load(pooling="class").encoder
    tokens_BND = encoder.encode(encoder.embed(pixels_BTCHW, time_BT3))
    yield from case.check("features_mask0", tokens_BND, **ACTIVATION)
    yield from case.check("vit_cls", encoder.dated_embedding(pixels_BTCHW, time_BT3), **ACTIVATION)
    pooled = load(pooling="mean").encoder
    yield from case.check("vit_global_pool", pooled.dated_embedding(pixels_BTCHW, time_BT3), **ACTIVATION)


def whole_cube(pixels_BTCHW: Tensor, time_BT3: Tensor) -> Cube:
    """Make a cube of which all is valid."""
    return Cube(pixels_BTCHW, torch.ones_like(pixels_BTCHW[:, :, 0], dtype=torch.bool), time_BT3)


def encoder_config(config: dict[str, Any], pooling: str) -> dict[str, Any]:
    """Return what the encoders of both kinds have in common."""
    return {
        "window": config["img"],
        "patch_size": config["p"],
        "width": config["d"],
        "depth": config["depth"],
        "heads": config["h"],
        "pooling": pooling,
    }


def decoder_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the methods of both kinds have in common."""
    return {
        "mask_ratio": config["mr"],
        "decoder_width": config["dd"],
        "decoder_depth": config["ddepth"],
        "decoder_heads": config["dh"],
    }


def _norm(tensor: Tensor | None) -> float:
    return float("nan") if tensor is None else tensor.double().norm().item()
