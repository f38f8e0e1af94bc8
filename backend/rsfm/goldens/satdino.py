"""SatDINO against strakaj/SatDINO: tokens, both losses, a step, the sampling of views, positions and schedules.

Shape letters: B batch, C bands, H rows, W columns, V views, Q large views, K prototypes, D width, T tokens.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm.blocks.crops import pixel_size
from rsfm.blocks.distillation import teacher_temperature
from rsfm.blocks.multicrop import equal_parts, in_passes
from rsfm.blocks.positions import scale_positions
from rsfm.blocks.resampling import Rectangles
from rsfm.encoders.vit_learned import ViTLearned
from rsfm.golden import Case, Check, Golden, compare
from rsfm.golden_distillation import (
    FIELDS,
    FLOATS,
    all_usable,
    check_schedules,
    check_terms,
    encoder_config,
    method_config,
    our_name,
    views_of,
)
from rsfm.golden_step import (
    SCHEDULE,
    VALUE,
    check_average,
    check_each,
    check_names,
    check_norms,
    decayed,
    gradients,
    load_weights,
    settings,
)
from rsfm.methods.satdino import Compared, SatDINO, SatDINOConfig
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import clip_each, make_optimizer

RANGES = "gamma least_small most_small least_large most_large"
DEFAULT_RANGE = (0.05, 0.25)


class Satdino(Golden):
    name = "satdino"

    def checks(self, case: Case) -> Iterator[Check]:
        config = settings(case, FIELDS, f"{FLOATS} {RANGES}")
        views = views_of(case, config)
        yield from check_tokens(case, load(case, config, views), views)
        yield from check_positions(case, load(case, config, views))
        yield from check_crops(case, config)
        yield from check_loss(case, load(case, config, views), config, views)
        yield from check_step(case, config, views)
        yield from check_schedules(case, epochs=200, peak=0.001 * 512 / 256, last=2e-5)


def load(
    case: Case, config: dict[str, Any], views: list[Tensor], freeze: bool = False, train_gsd_head: bool = True
) -> SatDINO:
    """Build the method with the case's weights."""
    values = {"gsd_weight": config["gamma"], "gsd_target": "metres", "train_gsd_head": train_gsd_head}
    values |= method_config(config, freeze) | {"small_views": config["locals"]}
    encoder = ViTLearned(encoder_config(config, gsd_token=True), views[0].shape[1])
    method = SatDINO(SatDINOConfig.model_validate(values), encoder)
    load_weights(case, method, our_name)
    return method.train()


@torch.no_grad()
def check_tokens(case: Case, method: SatDINO, views: list[Tensor]) -> Iterator[Check]:
    """Compare tokens, and what the teacher tells of a window of another shape."""
    for name, view in (("global0", views[0]), ("local0", views[min(2, len(views) - 1)])):
        tokens_BLD = method.encoder.embed(view)
        yield from case.check(f"student_tokens_in_{name}", method.encoder.sequence(tokens_BLD), **VALUE)
        encoded_BTD = method.encoder.encode_all(tokens_BLD)
        yield from case.check(f"student_norm_tokens_{name}", encoded_BTD, **VALUE)
        if f"student_norm_tokens_{name}" in case:
            dense_BLD = method.encoder.feature_maps(view)[-1].features_BDhw.flatten(2).mT
            theirs = case.array(f"student_norm_tokens_{name}")[:, 1:-1]
            yield compare(f"student_norm_tokens_{name}, as a map", dense_BLD, theirs, 1e-5, 0)
    pixels_BCHW, teacher = case.tensor("infer_image"), method.teacher
    encoded_BTD = teacher.encode_all(teacher.embed(pixels_BCHW))
    yield from case.check("infer_cls", teacher.embedding(pixels_BCHW), **VALUE)
    yield from case.check("infer_gsd_token", encoded_BTD[:, -1], **VALUE)
    yield from case.check("infer_gsd_pred", method.gsd_head(encoded_BTD[:, -1])[:, 0], **VALUE)


@torch.no_grad()
def check_positions(case: Case, method: SatDINO) -> Iterator[Check]:
    """Compare the positions of other grids; ours work for every grid, also where the authors' fail."""
    for name in ("pos_embed_local", "pos_embed_big_square"):
        if name in case:
            side = round((case.array(name).shape[1] - 2) ** 0.5)
            yield from case.check(name, scale_positions(method.encoder.pos_embed, (side, side), True, 1), **VALUE)
    name = "official_posinterp_ok_by_grid_side_2_to_70"
    if name in case:
        table_1TD, ours = torch.randn(1, 14 * 14 + 2, 4), []
        for side in range(2, 2 + len(case.array(name))):
            whole = scale_positions(table_1TD, (side, side), True, 1).shape[1] == side * side + 2
            theirs_fits = side == 14 or int(14 * (side + 0.1) / (14 * 14 + 1) ** 0.5) == side
            ours.append(int(theirs_fits) if whole else -1)
        yield from case.check(name, ours)


def check_crops(case: Case, config: dict[str, Any]) -> Iterator[Check]:
    """Compare the shares of small views, the rectangles drawn, and the size of a pixel in each."""
    small = (config["least_small"], config["most_small"])
    for name in case.arrays:
        if name == "seg_local_scale_segments":
            yield from case.check(name, equal_parts(*small, config["locals"]), **SCHEDULE)
        elif said := re.fullmatch(r"seg_default_n(\d+)", name):
            yield from case.check(name, equal_parts(*DEFAULT_RANGE, int(said[1])), **SCHEDULE)
    if "crop_boxes_ijhw" not in case:
        return
    boxes_BV4, gsd_B = case.tensor("crop_boxes_ijhw"), case.tensor("gsd_source")
    height, width = case.array("aug_src_uint8_hwc").shape[:2]
    share_BV = boxes_BV4[:, :, 2] * boxes_BV4[:, :, 3] / (height * width)
    yield from case.check("crop_area_fraction", share_BV.float(), **VALUE)
    ranges_V2 = np.array([(config["least_large"], config["most_large"])] * 2 + equal_parts(*small, config["locals"]))
    rounding = (height + width) / (height * width)  # of both sides to whole pixels
    outside = np.maximum(ranges_V2[:, 0] - share_BV.numpy(), share_BV.numpy() - ranges_V2[:, 1]).max()
    yield Check("crop_boxes_ijhw, beyond our ranges", max(float(outside), 0.0), rounding)
    sizes = [config["global_px"]] * 2 + [config["local_px"]] * config["locals"]
    gsd_VB = []
    for boxes_B4, size in zip(boxes_BV4.unbind(1), sizes, strict=True):
        top_B, left_B, height_B, width_B = boxes_B4.float().unbind(1)
        straight_B = torch.zeros(len(boxes_B4), dtype=torch.bool)
        gsd_VB.append(pixel_size(gsd_B, Rectangles(top_B, left_B, height_B, width_B, straight_B, straight_B), size))
    yield from case.check("gsd_targets_per_image", torch.stack(gsd_VB, dim=1), **VALUE)
    yield from case.check("gsd_target_cropmajor", torch.cat(gsd_VB), **VALUE)


def evaluate(case: Case, method: SatDINO, config: dict[str, Any], views: list[Tensor]) -> tuple[Compared, Tensor]:
    """Return what the comparison found, and the loss."""
    gsd_VB = case.tensor("gsd_target_cropmajor").reshape(len(views), -1)
    found = method.compare(views, gsd_VB, all_usable(views), config["epoch"] / config["epochs"])
    return found, method.weigh(found)


def check_loss(case: Case, method: SatDINO, config: dict[str, Any], views: list[Tensor]) -> Iterator[Check]:
    """Compare heads, every term, both losses, the centre and the gradients."""
    with torch.no_grad():
        tokens_VB2D = in_passes(method.see, views)
        teacher_QBD = in_passes(method.teacher.embedding, views[:2])
        yield from case.check("student_head_out", method.head(tokens_VB2D[:, :, 0].flatten(0, 1)), **VALUE)
        yield from case.check("teacher_head_out", method.teacher_head(teacher_QBD.flatten(0, 1)), **VALUE)
        yield from case.check("student_gsd_tokens", tokens_VB2D[:, :, 1].flatten(0, 1), **VALUE)
        yield from case.check("gsd_pred", method.gsd_head(tokens_VB2D[:, :, 1].flatten(0, 1))[:, 0], **VALUE)
    temperature = teacher_temperature(method.config, config["epoch"] / config["epochs"])
    yield from case.check("teacher_temp", temperature, atol=1e-8)
    yield from case.check("center_before", method.centre.center)
    found, total = evaluate(case, method, config, views)
    yield from check_terms(case, found.distilled.terms_QV)
    yield from case.check("dino_loss", found.distilled.total, **VALUE)
    yield from case.check("gsd_loss", found.gsd_error, **VALUE)
    yield from case.check("loss", total, **VALUE)
    yield from case.check("center_after", method.centre.center, **VALUE)
    torch.autograd.backward(total)
    names = [str(name) for name in case.array("grad_names").tolist()]
    more = [name.removeprefix("grad/") for name in case.arrays if name.startswith("grad/")]
    found_gradients = gradients(method, our_name, [*names, *more])
    yield from check_norms(case, "grad_norms", names, found_gradients)
    yield from check_each(case, "grad/", found_gradients.get, VALUE)


def check_step(case: Case, config: dict[str, Any], views: list[Tensor]) -> Iterator[Check]:
    """Compare what is trained and decays, a plain step with and without the head of the pixel size, the teacher."""
    for trained in (True, False):
        method = load(case, config, views, freeze=True, train_gsd_head=trained)
        training = TrainingConfig(optimizer="sgd", learning_rate=config["lr"], weight_decay=0)
        optimizer = make_optimizer(method, training)
        torch.autograd.backward(evaluate(case, method, config, views)[1])
        if config["clip"]:
            clip_each(method.parameters(), config["clip"])
        optimizer.step()
        tensors = dict(method.named_parameters())
        end = "_if_trained" if trained else "_official_untrained"
        gsd_head = {name.removeprefix("gsd_head."): value for name, value in tensors.items()}
        yield from check_each(case, "sgd_after/gsd_head.gsd_head.", gsd_head.get, VALUE, end)
    for name in case.arrays:
        if name.startswith("sgd_after/") and "gsd_head." not in name:
            yield compare(name, tensors[our_name(name.removeprefix("sgd_after/"))], case.array(name), 1e-5, 0)
    names = [str(name) for name in case.array("ema_names").tolist()]
    theirs = {our_name(name): name for name in names}
    optimizer = make_optimizer(method, TrainingConfig(weight_decay=1, decay_all=False))
    decay, keep = ({theirs.get(name, name) for name in group} for group in decayed(optimizer, method))
    yield from check_names(case, "decay_param_names", decay)
    yield from check_names(case, "optimised_param_names", decay | keep)
    held = {name for name, value in tensors.items() if name.startswith("head.") and value.grad is None}
    if "grad_none_after_freeze" in case:
        named = {str(name) for name in case.array("grad_none_after_freeze").tolist()}
        yield Check("grad_none_after_freeze", len({theirs.get(name, name) for name in held} ^ named), 0)
    method.after_step(0)
    yield from check_average(case, {name: tensors[our_name(f"teacher.{name}")] for name in names}, names)
