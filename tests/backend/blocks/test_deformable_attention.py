"""Attention to places of maps, against loops over single places."""

import math

import pytest
import torch
from rsfm.blocks.deformable_attention import DeformableAttention, centres, look_up


def bilinear(map_Ehw, x, y):
    """Read a map at a place in shares of its width and height; 0 outside."""
    _, rows, columns = map_Ehw.shape
    at_x, at_y = x * columns - 0.5, y * rows - 0.5
    found = torch.zeros(len(map_Ehw), dtype=map_Ehw.dtype)
    for row in (math.floor(at_y), math.floor(at_y) + 1):
        for column in (math.floor(at_x), math.floor(at_x) + 1):
            if 0 <= row < rows and 0 <= column < columns:
                found += map_Ehw[:, row, column] * (1 - abs(at_y - row)) * (1 - abs(at_x - column))
    return found


@pytest.mark.parametrize(
    ("sizes", "heads", "points", "width"), [([(3, 5)], 1, 1, 4), ([(4, 2), (2, 1), (1, 1)], 3, 2, 5)]
)
def test_places_are_read_as_loops_read_them(sizes, heads, points, width):
    torch.manual_seed(0)
    tokens = sum(rows * columns for rows, columns in sizes)
    value = torch.randn(2, tokens, heads, width, dtype=torch.float64)
    place = torch.rand(2, 6, heads, len(sizes), points, 2, dtype=torch.float64) * 1.6 - 0.3
    weight = torch.rand(2, 6, heads, len(sizes) * points, dtype=torch.float64)
    found = look_up(value, sizes, place, weight)
    for window in range(2):
        for query in range(6):
            expected = []
            for head in range(heads):
                total, start = torch.zeros(width, dtype=torch.float64), 0
                for level, (rows, columns) in enumerate(sizes):
                    part = value[window, start : start + rows * columns, head].T.reshape(width, rows, columns)
                    start += rows * columns
                    for point in range(points):
                        x, y = place[window, query, head, level, point].tolist()
                        total += weight[window, query, head, level * points + point] * bilinear(part, x, y)
                expected.append(total)
            assert torch.allclose(found[window, query], torch.cat(expected))


@pytest.mark.parametrize("windows", [1, 2])
def test_gradients_are_those_of_small_differences(windows):
    torch.manual_seed(1)
    sizes = [(4, 3), (2, 2), (1, 1)]
    value = torch.randn(windows, 17, 3, 2, dtype=torch.float64, requires_grad=True)
    place = (torch.rand(windows, 4, 3, 3, 2, 2, dtype=torch.float64) * 1.4 - 0.2).requires_grad_()
    weight = torch.rand(windows, 4, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: look_up(given[0], sizes, *given[1:]), (value, place, weight))


def test_fresh_heads_look_along_rays_of_their_own():
    attention = DeformableAttention(8, 2, 4, 3, 0.5)
    offset = attention.sampling_offsets.bias.reshape(4, 2, 3, 2)
    assert torch.allclose(offset[0, 0], torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]))
    assert torch.allclose(offset[1, 1], torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]), atol=1e-6)
    assert attention.sampling_offsets.weight.abs().sum() == 0


def test_centres_are_x_before_y_row_by_row():
    assert centres([(1, 2), (2, 1)], torch.zeros(1))[0, :, 0].tolist() == [
        [0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75],
    ]  # fmt: skip
