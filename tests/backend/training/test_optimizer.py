"""Schedules of weight decay and learning rate, what decays, and the limit of each tensor's gradient."""

import math

import pytest
import torch
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import clip_each, learning_rate, make_optimizer, set_weight_decay, weight_decay
from torch import nn


class Small(nn.Module):
    undecayed = ("token",)

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, 4))
        self.other_token = nn.Parameter(torch.ones(1, 1, 4))
        self.linear = nn.Linear(4, 4)


def test_weight_decay_grows_along_half_a_cosine_and_stays_without_growth():
    config = TrainingConfig(weight_decay=0.04, decay_growth=10)
    assert [weight_decay(config, progress) for progress in (0, 0.5, 1)] == pytest.approx([0.04, 0.22, 0.4])
    assert weight_decay(TrainingConfig(weight_decay=0.3), 0.7) == pytest.approx(0.3)


def test_only_what_decays_gets_the_new_weight_decay():
    optimizer = make_optimizer(Small(), TrainingConfig(decay_all=False))
    set_weight_decay(optimizer, 0.7)
    assert sorted(group["weight_decay"] for group in optimizer.param_groups) == [0, 0.7]


def test_a_method_names_what_never_decays_unless_the_recipe_decays_all():
    module = Small()
    for everything in (False, True):
        optimizer = make_optimizer(module, TrainingConfig(decay_all=everything))
        decays = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
        assert (decays[id(module.token)] > 0) is everything
        assert decays[id(module.other_token)] > 0


def test_learning_rate_ends_at_its_share_of_the_peak():
    config = TrainingConfig(learning_rate=2e-3, final_rate=0.01, warmup=0.1)
    assert learning_rate(config, 0.1, 10) == pytest.approx(2e-3)
    assert learning_rate(config, 1, 10) == pytest.approx(2e-5)
    assert learning_rate(config, 0.55, 10) == pytest.approx((2e-3 + 2e-5) / 2)


def test_pera_14_learning_rate_is_the_recipes_whatever_the_batch():
    rates = [
        learning_rate(TrainingConfig(learning_rate=1e-3, warmup=0, batch_size=batch), 0.3, 10) for batch in (4, 192)
    ]
    assert rates[0] == rates[1] < 1e-3


def test_gradients_of_no_norm_stay_and_large_ones_keep_their_direction():
    parameters = [nn.Parameter(torch.zeros(3)) for _ in range(2)]
    parameters[0].grad, parameters[1].grad = torch.zeros(3), torch.tensor([3.0, 4.0, 12.0])
    clip_each(parameters, 1.3)
    assert not parameters[0].grad.any()
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.3, 0.4, 1.2]))
    assert math.isfinite(parameters[0].grad.sum())
