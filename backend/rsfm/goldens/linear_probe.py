"""Linear probes against facebookresearch/dino's evaluation: the features that they read, and their training.

Shape letters: B windows, C bands, H rows, W columns, N training features, M features asked for, F features, K classes.
"""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rsfm.blocks.transformer import transformer_blocks
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.evaluation.linear_probe import Recipe, train_probe
from rsfm.evaluation.probe_features import class_and_mean, class_tokens
from rsfm.golden import Case, Check, Golden, compare
from rsfm.golden_step import load_weights
from rsfm.training.linear_fit import solve

FEATURE = {"atol": 1e-5}
TRAINED = {"atol": 1e-4}
SOLVED = {"rtol": 1e-3, "atol": 1e-4}


class LinearProbe(Golden):
    name = "linear_probe"

    def checks(self, case: Case) -> Iterator[Check]:
        yield from check_features(case, load(case))
        for name in sorted(case.arrays):
            if name.endswith(".w0"):
                yield from check_training(case, name.removesuffix(".w0"))
        yield from check_logistic_regression(case)


def load(case: Case) -> ViTLearned:
    """Build the encoder with the case's weights."""
    vit: dict[str, Any] = case.config["vit"]
    config = ViTLearnedConfig(
        patch_size=int(vit["patch_size"]),
        window=int(re.findall(r"\d+", str(vit["img_size"]))[0]),
        width=int(vit["embed_dim"]),
        depth=int(vit["depth"]),
        heads=int(vit["num_heads"]),
    )
    encoder = ViTLearned(config, int(vit["in_chans"]))
    encoder.blocks = transformer_blocks(config.width, config.depth, config.heads, float(vit.get("mlp_ratio", 4)))
    load_weights(case, encoder, lambda name: name, "encoder_weights.safetensors")
    return encoder.eval()


@torch.no_grad()
def check_features(case: Case, encoder: ViTLearned) -> Iterator[Check]:
    """Compare what probes read, named by how many blocks."""
    pixels_BCHW = case.tensor("images")
    for name in case.arrays:
        if count := re.fullmatch(r"feat_n(\d+)", name):
            yield from case.check(name, class_tokens(encoder, pixels_BCHW, int(count[1])), **FEATURE)
    yield from case.check("feat_n1_avgpool_interleaved", class_and_mean(encoder, pixels_BCHW), **FEATURE)
    yield from case.check("model_output_cls", encoder.embedding(pixels_BCHW), **FEATURE)


def check_training(case: Case, name: str) -> Iterator[Check]:
    """Train a probe on the case's features in their order, and compare all that comes of it."""
    config, features_NF = case.config, case.tensor("train_features")
    optimizer: Any = name
    recipe = Recipe(optimizer, config["lr"], config["epochs"], config["batch_size"])
    layer = nn.Linear(features_NF.shape[1], len(case.array(f"{name}.b0")))
    layer.load_state_dict({"weight": case.tensor(f"{name}.w0"), "bias": case.tensor(f"{name}.b0")})
    order_N = torch.arange(len(features_NF))
    trained = train_probe(layer, features_NF, case.tensor("train_labels").long(), recipe, [order_N] * recipe.epochs)
    yield from case.check(f"{name}.lrs", trained.rates, atol=1e-9, rtol=1e-6)
    yield from case.check(f"{name}.losses", trained.losses, **TRAINED)
    yield from case.check(f"{name}.w", layer.weight, **TRAINED)
    yield from case.check(f"{name}.b", layer.bias, **TRAINED)
    with torch.no_grad():
        logits_MK = layer(case.tensor("test_features"))
    yield from case.check(f"{name}.test_logits", logits_MK, **TRAINED)
    result = config.get("results", {}).get(name, {})
    if "acc1" in result:
        right = (logits_MK.argmax(1) == case.tensor("test_labels").long()).double().mean()
        yield compare(f"{name} share of right answers", 100 * right, result["acc1"], 1e-4, 0)
    if "last_loss" in result:
        yield compare(f"{name} last loss", trained.losses[-1], result["last_loss"], 1e-4, 0)


def check_logistic_regression(case: Case) -> Iterator[Check]:
    """Compare the fit that is used where no schedule is wanted."""
    if "logreg.coef" in case:
        features_NF, class_N = case.array("train_features").astype("float64"), case.array("train_labels")
        solved = solve(features_NF, class_N, 1.0, balanced=False, slack=1e-9)
        yield from case.check("logreg.coef", solved.coef_, **SOLVED)
        yield from case.check("logreg.intercept", solved.intercept_, **SOLVED)
        share = (solved.predict(case.array("test_features").astype("float64")) == case.array("test_labels")).mean()
        expected = case.config.get("results", {}).get("sklearn_logreg_C1", {}).get("acc1")
        if expected is not None:
            yield compare("logreg share of right answers", 100 * share, expected, 1e-4, 0)
