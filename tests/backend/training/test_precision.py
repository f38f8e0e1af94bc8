"""Half the bits where they do, all of them where they count: every method in bf16 and fp16."""

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from rsfm import methods, registry, runs
from rsfm.method import Loss, Method, MethodConfig, Sample
from rsfm.model_file import build_encoder
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig
from rsfm.training.cpu_attention import fast_attention
from rsfm.training.loop import Budget, train
from rsfm.training.pretraining import build_method
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tests.backend.training.test_resume import config_of, draw

NAMES = registry.names(methods)
HALVES = {torch.bfloat16: 0.03, torch.float16: 0.01}
"""And how far a loss may be from that in fp32, as a share of it."""


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_loss_in_half_precision_is_that_of_fp32_but_for_rounding_and_gradients_reach_all(name, half):
    config, totals = config_of(name), []
    for enabled in (False, True):
        torch.manual_seed(0)
        method = build_method(config.method, config.encoder, 3).train()
        torch.manual_seed(1)
        with torch.autocast("cpu", half, enabled=enabled):
            total = method.loss(draw(config, 0), 0.5).total
        totals.append(total)
    totals[1].backward()
    assert totals[1].dtype == torch.float32
    torch.testing.assert_close(totals[1], totals[0], rtol=HALVES[half], atol=0)
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.dtype == torch.float32
            assert torch.isfinite(parameter.grad).all(), key


class Seen(Method):
    """Remembers what it is given and how it is asked to compute."""

    name, title, Config = "seen", "Seen", MethodConfig

    def __init__(self) -> None:
        super().__init__(MethodConfig(), None)
        self.encoder = build_encoder({"name": "conv_small", "width": 32}, 1)
        self.halved: list[torch.dtype] = []
        self.given: list[torch.dtype] = []

    def loss(self, sample: Sample, progress: float) -> Loss:
        features_BD = self.encoder.embedding(sample.pixels_BCHW)
        product_BB = features_BD @ features_BD.T
        self.halved.append(product_BB.dtype)
        self.given += [sample.pixels_BCHW.dtype, sample.gsd_B.dtype]
        return Loss(product_BB.float().mean(), {})


@pytest.mark.parametrize(
    ("plugin", "half"),
    [("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16), ("32-true", torch.float32)],
)
def test_training_computes_in_the_precision_that_was_chosen_and_leaves_the_windows_in_fp32(plugin, half, tmp_path):
    scaler = torch.amp.GradScaler("cpu") if plugin == "16-mixed" else None
    plugins = [MixedPrecision(plugin, "cpu", scaler)] if plugin != "32-true" else []
    fabric = Fabric(accelerator="cpu", devices=1, plugins=plugins)
    method = Seen()
    sample = Sample(torch.randn(4, 1, 32, 32), torch.ones(4, 32, 32, dtype=torch.bool), torch.full((4,), 0.3))
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    training = TrainingConfig(batch_size=4, minutes=0, epochs=1)
    train(method, lambda step: sample, training, Budget(0, 2, 2), fabric, run, validate=lambda step: sample)
    assert set(method.halved) == {half}
    assert len(method.halved) == 3  # two steps, and one of validation
    assert set(method.given) == {torch.float32}


def test_steps_that_overflow_in_fp16_are_left_out_and_the_training_goes_on(tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    method = Seen()
    before = [parameter.detach().clone() for parameter in method.parameters()]
    sample = Sample(torch.randn(4, 1, 32, 32), torch.ones(4, 32, 32, dtype=torch.bool), torch.full((4,), 0.3))
    run = Run(runs.create(tmp_path, "pretrain", "test", {}))
    training = TrainingConfig(batch_size=4, minutes=0, epochs=1, clip_norm=1)
    train(method, lambda step: sample, training, Budget(0, 3, 3), fabric, run)
    assert scaler.get_scale() == 2.0**57
    assert all(torch.equal(was, now) for was, now in zip(before, method.parameters(), strict=True))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_on_a_cpu_in_bf16_is_computed_in_fp32_and_given_back_in_bf16(masked):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 8).bfloat16().requires_grad_() for _ in range(3))
    mask = torch.randn(3, 9, 9).bfloat16() if masked else None
    exact = functional.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), None if mask is None else mask.float()
    )
    with torch.autocast("cpu", torch.bfloat16):
        plain = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        with fast_attention(torch.nn.ModuleDict({"attn": torch.nn.Identity()}), torch.device("cpu")):
            ours = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert ours.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(ours, plain, rtol=0.02, atol=0.02)
    assert torch.equal(ours, exact.bfloat16())


def test_every_transformer_here_uses_fused_attention():
    calls = []
    fused = functional.scaled_dot_product_attention

    class Counting(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(func is fused)
            return func(*args, **(kwargs or {}))

    for name in ("mae", "satmae", "data2vec", "dino"):
        config = config_of(name)
        method = build_method(config.method, config.encoder, 3).train()
        calls.clear()
        with Counting():
            method.loss(draw(config, 0), 0.5)
        assert sum(calls) >= 2, name
