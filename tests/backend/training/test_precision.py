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
from rsfm.training.cpu_attention import FEW, fast_attention
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


@pytest.mark.parametrize("spread", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [9, FEW, FEW + 1])
def test_attention_on_a_cpu_in_bf16_is_as_near_to_the_exact_one_as_bf16_can_be(tokens, masked, spread):
    torch.manual_seed(0)
    inputs = [(torch.randn(2, 3, tokens, 16) * size).bfloat16() for size in (spread, spread, 1)]
    inputs += [torch.randn(3, tokens, tokens).bfloat16()] if masked else []
    weight = torch.randn(2, 3, tokens, 16).bfloat16()

    def attend(dtype=torch.bfloat16):
        given = [value.clone().to(dtype).requires_grad_() for value in inputs]
        attended = functional.scaled_dot_product_attention(*given)
        attended.backward(weight.to(dtype))
        return [attended.detach(), *(value.grad for value in given)]

    def error(found):
        return [float((one.double() - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]

    exact = attend(torch.float64)
    plain = attend()
    with fast_attention(torch.nn.ModuleDict({"attn": torch.nn.Identity()}), torch.device("cpu")):
        ours = attend()
    assert {value.dtype for value in ours} == {torch.bfloat16}
    assert max(error(ours)) < 0.003  # the rounding of what is given is .0017
    assert masked or max(error(ours)) < 1.2 * max(error(plain))


def test_attention_of_other_kinds_is_torchs_own_in_fp32():
    query, key, value = (torch.randn(2, 3, 9, 8).bfloat16() for _ in range(3))
    seen = torch.rand(9, 9) < 0.7
    seen[:, 0] = True
    kinds = ({"attn_mask": seen}, {"is_causal": True}, {"scale": 0.5})
    for kind in kinds:
        exact = functional.scaled_dot_product_attention(query.float(), key.float(), value.float(), **kind)
        with fast_attention(torch.nn.ModuleDict({"attn": torch.nn.Identity()}), torch.device("cpu")):
            ours = functional.scaled_dot_product_attention(query, key, value, **kind)
        assert torch.equal(ours, exact.bfloat16()), kind


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
