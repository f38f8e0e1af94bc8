"""The loop itself: what it does with a loss that is not finite, and with gradients that are scaled."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from rsfm import runs
from rsfm.encoder import Encoder
from rsfm.encoders.conv_small import ConvSmall, ConvSmallConfig
from rsfm.errors import UserError
from rsfm.method import Loss, Method, MethodConfig, Sample
from rsfm.runs import Run
from rsfm.training.config import TrainingConfig
from rsfm.training.loop import Budget, Position, make_budget, train


class Steep(Method):
    """A loss whose gradient is 3 for each of two numbers, times a factor for each step."""

    name, title, Config = "steep", "Steep", MethodConfig

    def __init__(self, config: Any, encoder: Encoder, factors: list[float]) -> None:
        super().__init__(config, encoder)
        self.encoder, self.factors = encoder, iter(factors)
        self.numbers = torch.nn.Parameter(torch.zeros(2))

    def loss(self, sample: Sample, progress: float) -> Loss:
        return Loss(3 * self.numbers.sum() * next(self.factors) + 0 * sample.pixels_BCHW.sum(), {})


def learn(folder: Path, factors: list[float], fabric: Fabric, **config: Any) -> Steep:
    method = Steep(MethodConfig(), ConvSmall(ConvSmallConfig(width=32), 1), factors)
    values = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0, "warmup": 0, "schedule": "epoch"}
    training = TrainingConfig.model_validate({**values, **config})
    sample = Sample(torch.zeros(1, 1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool), torch.ones(1))
    budget, run = Budget(0, len(factors), len(factors)), Run(runs.create(folder, "pretrain", "test", {}))
    try:
        train(method, lambda step: sample, training, budget, fabric, run)
    finally:
        method.encoder.eval()
        torch.save(method.numbers.detach(), folder / "numbers.pt")
    return method


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_dino_15_loss_that_is_not_finite_ends_the_training_with_a_sentence_and_leaves_the_weights(wrong, tmp_path):
    with pytest.raises(UserError, match=r"became (nan|-inf) at step 2.*Learning rate"):
        learn(tmp_path, [1, 1, wrong, 1], Fabric(accelerator="cpu", devices=1), clip_norm=0)
    numbers = torch.load(tmp_path / "numbers.pt")
    torch.testing.assert_close(numbers, torch.full((2,), -0.3 - 0.3 * 1.9))  # two steps, momentum 0.9


@pytest.mark.parametrize("each", [True, False])
def test_dino_12_gradients_are_unscaled_before_they_are_clipped(each, tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
    method = learn(tmp_path, [1], fabric, clip_norm=3, clip_each=each)
    share = 3 / (3 * 2**0.5)  # of the gradient's norm that the limit leaves
    torch.testing.assert_close(method.numbers.detach(), torch.full((2,), -0.3 * share), rtol=1e-4, atol=0)
    large = learn(tmp_path / "large", [1], fabric, clip_norm=5, clip_each=each)
    torch.testing.assert_close(large.numbers.detach(), torch.full((2,), -0.3))


def test_a_budget_of_samples_is_as_many_windows_however_many_there_are():
    config = TrainingConfig(minutes=0, samples=1000, batch_size=128)
    for windows in (100, 500):
        budget = make_budget(config, windows)
        assert (budget.seconds, budget.steps) == (0, 8)
        assert budget.progress(Position(4, 10, 512)) == 0.5
    assert make_budget(config, 500).epochs(Position()) == pytest.approx(8 / 3)
    assert make_budget(config.model_copy(update={"epochs": 2}), 500).steps == 6
    with pytest.raises(UserError, match="'Samples'"):
        make_budget(TrainingConfig(minutes=0), 500)
