"""data2vec against zhu-xlab/SSL4EO-S12: targets, predictions, a step, the teacher, masks and schedules.

Shape letters: B batch, C bands, H rows, W columns, L patches, N hidden patches, T tokens, D width, h and w rows and
columns of patches.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.block_masking import hide_blocks
from rsfm.blocks.relative_vit import relative_index
from rsfm.blocks.schedules import climb, warmup_cosine_inclusive
from rsfm.blocks.teacher import move_average
from rsfm.encoders.vit_relative import ViTRelative, ViTRelativeConfig
from rsfm.golden import Case, Check, Golden
from rsfm.golden_step import (
    SCHEDULE,
    VALUE,
    WHOLE,
    check_average,
    check_each,
    check_names,
    check_norms,
    decayed,
    gradients,
    load_weights,
    settings,
)
from rsfm.methods.data2vec import Data2Vec, Data2VecConfig, Hidden, plain_norm, variety
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import make_optimizer, weight_decay

FIELDS = "dim depth heads patch px bands batch wanted smallest"
FLOATS = "beta lr momentum layer_scale post_norm clip wd"
OUTSIDE = ("mask_token", "lm_head.weight", "lm_head.bias")
"""Parts of the authors' model that are no part of our encoder; their teacher has them too, and never uses them."""


class Data2vec(Golden):
    name = "data2vec"

    def checks(self, case: Case) -> Iterator[Check]:
        config = settings(case, FIELDS, FLOATS)
        yield from check_target(case, load(case, config), config)
        yield from check_prediction(case, load(case, config))
        yield from check_step(case, config)
        yield from check_masks(case)
        yield from check_schedules(case)


def load(case: Case, config: dict[str, Any]) -> Data2Vec:
    """Build the method with the case's weights; what the authors' teacher has besides the encoder is left out."""
    encoder = ViTRelativeConfig(
        patch_size=config["patch"],
        window=config["px"],
        width=config["dim"],
        depth=config["depth"],
        heads=config["heads"],
        layer_scale=config["layer_scale"],
    )
    method = Data2Vec(
        Data2VecConfig(
            beta=config["beta"],
            momentum=config["momentum"],
            drop_path=0,
            drop_attention=0,
            smallest_block=config["smallest"],
        ),
        ViTRelative(encoder, config["bands"]),
    )
    load_weights(case, method, our_name)
    method.targets = tuple(case.array("target_layers").tolist())
    return method.train()


def our_name(name: str) -> str:
    """Translate a name of the authors' into ours; empty for what our state does not have."""
    side, _, rest = name.partition(".") if name.startswith(("model.", "model_ema.")) else ("model", "", name)
    if rest == "rel_pos_bias.relative_position_index":
        return ""
    if rest in OUTSIDE:
        return rest if side == "model" else ""
    return f"encoder.{rest}" if side == "model" else f"teacher.{rest}"


def hidden(case: Case) -> Hidden:
    """Return the case's masks; all is valid."""
    hidden_BL = case.tensor("mask").bool().flatten(1)
    return Hidden(hidden_BL, hidden_BL)


@torch.no_grad()
def check_target(case: Case, method: Data2Vec, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the relative positions and what the teacher sees."""
    pixels_BCHW, side = case.tensor("images"), config["px"] // config["patch"]
    yield from case.check("relative_position_index", relative_index(side, side))
    yield from case.check("rel_pos_bias_heads_NN", method.encoder.rel_pos_bias(side, side), **VALUE)
    layers = method.teach(pixels_BCHW)
    yield from case.check("teacher_layer_outputs_no_cls", torch.stack(layers), **VALUE)
    mean_BLD = torch.stack([plain_norm(layer_BLD) for layer_BLD in layers]).mean(0)
    yield from case.check("target_mean_before_post_ln", mean_BLD, **VALUE)
    if config["post_norm"]:
        target_BLD = method.target(pixels_BCHW)
        yield from case.check("target_all_tokens", target_BLD, **VALUE)
        yield from case.check("target_masked", target_BLD[hidden(case).asked_BL], **VALUE)


def evaluate(case: Case, method: Data2Vec) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the student tells, what it should, and the loss."""
    pixels_BCHW, where = case.tensor("images"), hidden(case)
    told_ND = method.tell(pixels_BCHW, where)
    target_ND = method.target(pixels_BCHW)[where.asked_BL]
    return told_ND, target_ND, method.error(told_ND, target_ND)


@torch.no_grad()
def check_prediction(case: Case, method: Data2Vec) -> Iterator[Check]:
    """Compare the student's tokens, what it tells, and the loss with other errors."""
    pixels_BCHW = case.tensor("images")
    tokens_BLD = method.substitute(pixels_BCHW, hidden(case).hidden_BL)
    yield from case.check("student_patch_tokens_after_mask_substitution", tokens_BLD, **VALUE)
    rows, _ = method.encoder.patches(pixels_BCHW)
    yield from case.check("student_norm_tokens", method.encoder.encode(tokens_BLD, rows), **VALUE)
    told_ND, target_ND, total = evaluate(case, method)
    yield from case.check("student_pred_masked", told_ND, **VALUE)
    yield from case.check("loss", total, **VALUE)
    yield from case.check("loss_if_l2", functional.mse_loss(told_ND, target_ND), **VALUE)
    sharp = functional.smooth_l1_loss(told_ND, target_ND, beta=0.12)
    yield from case.check("loss_if_beta_0p12", sharp, **VALUE)
    yield from case.check("std_monitor", variety(told_ND), **VALUE)


def check_step(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the gradients, what decays, a plain step and the teacher that follows it."""
    method = load(case, config)
    torch.autograd.backward(evaluate(case, method)[2])
    names = [str(name) for name in case.array("grad_names").tolist()]
    found_gradients = gradients(method, our_name, names)
    yield from check_norms(case, "grad_norms_preclip", names, found_gradients)
    yield from check_each(case, "grad/", found_gradients.get, VALUE)
    theirs = {our_name(name): name for name in names}
    optimizer = make_optimizer(method, TrainingConfig(weight_decay=1, decay_all=False))
    for key, group in zip(("decay_param_names", "nodecay_param_names"), decayed(optimizer, method), strict=True):
        yield from check_names(case, key, {theirs.get(name, name) for name in group})
    trained = [value for value in method.parameters() if value.requires_grad]
    whole = torch.nn.utils.clip_grad_norm_(trained, config["clip"] or float("inf"))
    yield from case.check("grad_global_norm", whole, **WHOLE)
    make_optimizer(method, TrainingConfig(optimizer="sgd", learning_rate=config["lr"], weight_decay=0)).step()
    tensors = dict(method.named_parameters())
    yield from check_each(case, "sgd_after/", lambda name: tensors.get(our_name(name)), VALUE)
    method.after_step(0)
    averages = {
        name: tensors[f"teacher.{name}"] if name not in OUTSIDE else averaged(case, name, tensors, method)
        for name in (str(name) for name in case.array("ema_names").tolist())
    }
    yield from check_average(case, averages, list(averages))
    side = config["px"] // config["patch"]
    if "official_corrupted_relative_position_index_after_ema" in case:
        # theirs averages whole numbers; ours are computed anew, and no step can change them
        case.array("official_corrupted_relative_position_index_after_ema")
        apart = (relative_index(side, side).numpy() != case.array("relative_position_index")).sum()
        yield Check("official_corrupted_relative_position_index_after_ema, ours stays", float(apart), 0)


def averaged(case: Case, name: str, tensors: dict[str, nn.Parameter], method: Data2Vec) -> Tensor:
    """Return what our average makes of a part that only the authors' teacher has."""
    slow, fast = nn.ParameterList([tensors[name]]), nn.ParameterList([tensors[name]])
    slow = copy.deepcopy(slow)
    with torch.no_grad():
        slow[0].copy_(case.weights("weights.safetensors")[f"model_ema.{name}"])
    move_average(slow, fast, method.momentum(0))
    kept: Tensor = slow[0]
    return kept


def check_masks(case: Case) -> Iterator[Check]:
    """Compare how many patches are hidden and how often each is; single masks are drawn at random.

    The name says the grid and how many were asked for, mask_examples_ROWSxCOLUMNS_WANTED; blocks are of 16 or more.
    """
    for name in [name for name in case.arrays if name.startswith("mask_examples_")]:
        grid, wanted = name.removeprefix("mask_examples_").rsplit("_", 1)
        rows, columns = (int(cells) for cells in grid.split("x"))
        theirs_Bhw = case.array(name).astype(bool)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            ours_Bhw = hide_blocks(2048, rows, columns, int(wanted), 16).numpy()
        counts, expected = ours_Bhw.sum((1, 2)), theirs_Bhw.sum((1, 2))
        error = 4 * max(counts.std(), expected.std()) / len(expected) ** 0.5  # of the mean of as few as theirs
        yield Check(f"{name}, patches hidden", abs(float(counts.mean() - expected.mean())), float(error))
        yield Check(f"{name}, most hidden", max(float(counts.max() - int(wanted)), 0), 0)
        share = 0.5 / len(expected) ** 0.5
        yield Check(f"{name}, by place", float(np.abs(ours_Bhw.mean(0) - theirs_Bhw.mean(0)).max()), 4 * share)


def check_schedules(case: Case) -> Iterator[Check]:
    """Compare the recipe's schedules: 100 epochs of 13 steps."""
    if "sched_iters" not in case:
        return
    steps, every = case.array("sched_iters").tolist(), 1300
    rates = [warmup_cosine_inclusive(step, every, 13, 1e-3, 1e-5) for step in steps]
    yield from case.check("sched_lr", rates, **SCHEDULE)
    training = TrainingConfig(weight_decay=0.05)
    yield from case.check("sched_wd", [weight_decay(training, step / every) for step in steps], **SCHEDULE)
    for name in [name for name in case.arrays if name.startswith("sched_ema_decay_start_at_")]:
        start = int(name.rsplit("_", 1)[1])
        decays = np.array([climb(step / every, start / every, 0.999, 0.9998) for step in steps])
        written = ~np.isnan(case.array(name))  # NaN stands for "constant from here on"
        yield Check(name, float(np.abs(decays - case.array(name))[written].max()), SCHEDULE["atol"])
        yield Check(f"{name}, constant", float(np.abs(decays[~written] - 0.9998).max(initial=0)), SCHEDULE["atol"])
