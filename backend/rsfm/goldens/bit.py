"""BIT against justchenhao/BIT_CD: the head alone, one step of its training, the whole network, and the scores.

All sizes are read from the weights; only the number of heads cannot be told from them, and is 8 throughout.
Shape letters: B batch, K classes, H rows, W columns, D width, h and w rows and columns of a map, T tokens.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rsfm.blocks.bit import Bit, BitShape
from rsfm.encoder import FeatureMap
from rsfm.encoders.resnet import Layout, ResNet, ResNetConfig
from rsfm.golden import Case, Check, Golden, compare
from rsfm.training.scores import accuracy, class_scores, confusion

HEADS, STRIDE, IGNORED = 8, 8, 255
HEAD = {"atol": 2e-5}
LOSS = {"atol": 1e-5}
GRADIENT = {"rtol": 1e-3, "atol": 1e-6}
WHOLE = {"atol": 5e-5}
SCORE = {"atol": 1e-6, "rtol": 0.0}
NAMES = {
    "conv_pred.": "reduce.",
    "conv_a.": "to_tokens.",
    "pos_embedding": "positions",
    "transformer.layers.": "encoder.",
    "transformer_decoder.layers.": "decoder.",
    ".0.fn.norm.": ".norm.",
    ".1.fn.norm.": ".norm_after.",
    ".0.fn.fn.to_out.0.": ".attention.out.",
    ".0.fn.fn.to_q.": ".attention.query.",
    ".0.fn.fn.to_k.": ".attention.key.",
    ".0.fn.fn.to_v.": ".attention.value.",
    ".1.fn.fn.net.0.": ".perceptron.0.",
    ".1.fn.fn.net.3.": ".perceptron.2.",
}
"""What parts of the authors' names are called here."""
JOINT, APART = ".0.fn.fn.to_qkv.", (".attention.query.", ".attention.key.", ".attention.value.")
"""Three matrices that the authors keep in one."""


class BitGolden(Golden):
    name = "bit"

    def checks(self, case: Case) -> Iterator[Check]:
        yield from check_head(case)
        yield from check_training(case)
        yield from check_network(case)
        yield from check_scores(case)


@torch.no_grad()
def check_head(case: Case) -> Iterator[Check]:
    """Compare what the head makes of two maps, step by step."""
    head = _load(case.weights("head_weights.safetensors")).eval()
    before, after = _features(case)
    size = case.array("logits").shape[2:]
    before_BDhw, after_BDhw = head.pixels(before), head.pixels(after)
    yield from case.check("x1", before_BDhw, **HEAD)
    yield from case.check("x2", after_BDhw, **HEAD)
    tokens_BTD = torch.cat([head.tokens(before_BDhw), head.tokens(after_BDhw)], dim=1)
    yield from case.check("tokens_in", tokens_BTD, **HEAD)
    related_BTD = head.relate(tokens_BTD)
    yield from case.check("tokens_out", related_BTD, **HEAD)
    before_BLD, after_BLD = related_BTD.chunk(2, dim=1)
    yield from case.check("dec1", head.read(before_BDhw, before_BLD), **HEAD)
    yield from case.check("dec2", head.read(after_BDhw, after_BLD), **HEAD)
    yield from case.check("logits", head(before, after, *size), **HEAD)


def check_training(case: Case) -> Iterator[Check]:
    """Compare the loss of a batch, its gradients and the running statistics after it."""
    if "target" not in case:
        return
    head = _load(case.weights("head_weights.safetensors")).train()
    target_BHW = case.tensor("target").long().squeeze(1)
    logits_BKHW = head(*_features(case), *target_BHW.shape[1:])
    loss = functional.cross_entropy(logits_BKHW, target_BHW, ignore_index=IGNORED)
    yield from case.check("train_logits_sub", logits_BKHW[:, :, ::8, ::8], **HEAD)
    yield from case.check("train_loss", loss[None], **LOSS)
    torch.autograd.backward(loss)
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    for name in case.arrays:
        if name.startswith("grad."):
            parts = [gradients[own] for own in our_names(name.removeprefix("grad."))]
            ours = torch.cat([part for part in parts if part is not None])
            yield compare(name, ours, case.array(name), **GRADIENT)
    norm = head.classifier[1]
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101  so it is built
    yield from case.check("running_mean_after", norm.running_mean, **LOSS)
    yield from case.check("running_var_after", norm.running_var, **LOSS)


@torch.no_grad()
def check_network(case: Case) -> Iterator[Check]:
    """Compare the whole network, whose weights follow the rule of the README."""
    if "full_img1" not in case:
        return
    shapes = case.config["full_keys"]
    weights = {name: rule(name, shape, case.config["rule_seed_full"]) for name, shape in shapes.items()}
    own = {name.removeprefix("resnet."): value for name, value in weights.items() if name.startswith("resnet.")}
    encoder = _encoder(own).eval()
    head = _load({name: value for name, value in weights.items() if not name.startswith("resnet.")}).eval()
    widths = [width for width in encoder.widths if width == head.reduce.in_channels]
    encoder.keep_fine(STRIDE, encoder.widths.index(widths[0]) + 1)
    before_BCHW, after_BCHW = case.tensor("full_img1"), case.tensor("full_img2")
    before, after = (encoder.feature_maps(pixels_BCHW)[-1] for pixels_BCHW in (before_BCHW, after_BCHW))
    yield from case.check("full_x1_sub", head.pixels(before)[..., ::4, ::4], **WHOLE)
    yield from case.check("full_logits", head(before, after, *before_BCHW.shape[2:]), **WHOLE)


def check_scores(case: Case) -> Iterator[Check]:
    """Compare one matrix of counts and all figures that come from it; a class that is absent counts as 0."""
    if "metric_gt" not in case:
        return
    classes = len(case.array("metric_cm")) if "metric_cm" in case else 2
    counts_KK = confusion(case.array("metric_gt").ravel(), case.array("metric_pred").ravel(), classes)
    yield from case.check("metric_cm", counts_KK)
    table = {"precision": "precision", "recall": "recall", "F1": "f1", "iou": "iou"}
    found = {"acc": accuracy(counts_KK)}
    for number, score in enumerate(class_scores(counts_KK)):
        found |= {f"{theirs}_{number}": getattr(score, ours) or 0.0 for theirs, ours in table.items()}
    for mean, each in (("miou", "iou"), ("mf1", "F1")):
        found[mean] = float(np.mean([found[f"{each}_{number}"] for number in range(classes)]))
    for name, theirs in case.config.get("scores", {}).items():
        yield compare(f"scores {name}", found.get(name, math.nan), theirs, **SCORE)


def our_names(name: str) -> list[str]:
    """Return what a tensor of the authors is called here: three names where they keep three matrices in one."""
    for theirs, ours in NAMES.items():
        if name.startswith(theirs) or theirs.startswith("."):
            name = name.replace(theirs, ours, 1)
    return [name.replace(JOINT, part) for part in APART] if JOINT in name else [name]


def rule(name: str, shape: list[int], seed: int) -> Tensor:
    """Make the weights that follow from a tensor's name."""
    count, last = math.prod(shape), name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    spread_N = 2 * _uniform(zlib.crc32(name.encode()) ^ (seed << 32), count) - 1
    if last == "running_var":
        values_N = 1 + 0.25 * (spread_N + 1)
    elif last == "weight" and len(shape) > 1:
        values_N = spread_N * math.sqrt(3 / math.prod(shape[1:]))
    elif last == "weight":
        values_N = 1 + 0.1 * spread_N
    else:
        values_N = spread_N * (0.1 if last in {"bias", "running_mean"} else 0.5)
    return torch.from_numpy(values_N.astype(np.float32)).reshape(shape)


def _uniform(start: int, count: int) -> NDArray[np.float64]:
    """Draw numbers from 0 to 1 by splitmix64."""
    steps_N = np.arange(1, count + 1, dtype=np.uint64)
    x_N = np.uint64(start % 2**64) + steps_N * np.uint64(0x9E3779B97F4A7C15)
    x_N = (x_N ^ (x_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x_N = (x_N ^ (x_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x_N ^= x_N >> np.uint64(31)
    return np.asarray((x_N >> np.uint64(11)) * 2.0**-53)


def _features(case: Case) -> tuple[FeatureMap, FeatureMap]:
    return FeatureMap(case.tensor("feat1"), STRIDE), FeatureMap(case.tensor("feat2"), STRIDE)


def _load(weights: Mapping[str, Tensor]) -> Bit:
    """Build a head as large as its weights, and load them all."""
    own: dict[str, Tensor] = {}
    for name, value in weights.items():
        names = our_names(name)
        own |= dict(zip(names, value.chunk(len(names)) if len(names) > 1 else [value], strict=True))
    tokens, width = own["to_tokens.weight"].shape[:2]
    query = "{}.0.attention.query.weight"
    shape = BitShape(
        width=width,
        tokens=tokens,
        heads=HEADS,
        depth=_count(own, "encoder."),
        head_width=len(own[query.format("encoder")]) // HEADS,
        decoder_depth=_count(own, "decoder."),
        decoder_head_width=len(own[query.format("decoder")]) // HEADS,
        hidden=len(own["encoder.0.perceptron.0.weight"]),
    )
    head = Bit(own["reduce.weight"].shape[1], len(own["classifier.3.bias"]), shape)
    head.load_state_dict(own)
    return head


def _encoder(weights: dict[str, Tensor]) -> ResNet:
    """Build the ResNet that has these weights; what classifies images is left out."""
    weights = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    kind: Any = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    layers: Any = tuple(_count(weights, f"layer{stage}.") for stage in (1, 2, 3, 4))
    widths: Any = tuple(len(weights[f"layer{stage}.0.bn1.bias"]) for stage in (1, 2, 3, 4))
    encoder = ResNet(ResNetConfig(), weights["conv1.weight"].shape[1], Layout(kind, layers, widths))
    encoder.load_state_dict(weights)
    return encoder


def _count(names: Mapping[str, Any], prefix: str) -> int:
    """Count the modules of a list by the names of their tensors."""
    return len({name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)})
