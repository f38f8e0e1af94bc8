import copy

import pytest
import torch
from rsfm.blocks.batch_groups import in_groups
from torch import nn


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).train()


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_every_group_is_a_pass_of_its_own_and_running_statistics_are_their_mean(groups):
    pixels = torch.randn(12, 2, 8, 8) * torch.arange(1, 13)[:, None, None, None]
    module = small()
    outputs, means = [], []
    for part in pixels.tensor_split(groups):
        alone = copy.deepcopy(module)
        outputs.append(alone(part))
        means.append(
            torch.cat([buffer.float().flatten() for name, buffer in alone.named_buffers() if "running" in name])
        )
    ours = in_groups(module, module, pixels, groups)
    torch.testing.assert_close(ours, torch.cat(outputs))
    kept = torch.cat([buffer.flatten() for name, buffer in module.named_buffers() if "running" in name])
    torch.testing.assert_close(kept, torch.stack(means).mean(0))


def test_gradients_are_those_of_the_separate_passes():
    pixels = torch.randn(6, 2, 8, 8)
    grouped, alone = small(), small()
    in_groups(grouped, grouped, pixels, 2).square().sum().backward()
    (alone(pixels[:3]).square().sum() + alone(pixels[3:]).square().sum()).backward()
    for ours, theirs in zip(grouped.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
