"""What both comparisons of SatMAE share: forward passes with their gradients, features.

Shape letters: B batch, T dates, C bands, H rows, W columns, L patches of a slice, N patches of all slices, K kept, P
pixels of a patch, D encoder width.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.blocks.masking import Split
from rsfm.golden import Case, Check
from rsfm.golden_masking import ACTIVATION, check_gradients
from rsfm.methods.satmae import Cube, SatMAE

NORM_PIX = {"loss_norm": "patch", "loss_raw": "off"}


class Pass(NamedTuple):
    """One forward pass."""

    split: Split
    latent_BKD: Tensor
    rebuilt_BTCLP: Tensor
    loss: Tensor


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
    yield from check_gradients(case, f"{start}_", both[graded].method, our_name)


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
