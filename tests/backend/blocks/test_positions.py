import torch
from rsfm.blocks.positions import grid_positions, resize_positions, sincos_1d, sincos_2d


def test_resizing_to_the_same_grid_changes_nothing_and_the_class_token_always_stays():
    positions = torch.randn(1, 17, 6)
    torch.testing.assert_close(resize_positions(positions, 4, 4), positions)
    resized = resize_positions(positions, 3, 7)
    assert resized.shape == (1, 22, 6)
    assert torch.equal(resized[:, 0], positions[:, 0])


def test_stored_positions_serve_their_own_grid_and_others_are_made():
    stored = torch.randn(1, 17, 8)
    assert grid_positions(stored, 4, 4, 4) is stored
    torch.testing.assert_close(grid_positions(stored, 4, 2, 8)[0, 1:], sincos_2d(8, 2, 8).float())
    assert not grid_positions(stored, 4, 2, 8)[0, 0].any()


def test_a_place_has_the_same_position_in_every_grid_it_lies_in():
    large, small = sincos_2d(16, 5, 9).reshape(5, 9, 16), sincos_2d(16, 3, 4).reshape(3, 4, 16)
    assert torch.equal(large[:3, :4], small)


def test_positions_are_exact_for_large_whole_numbers():
    assert sincos_1d(4, torch.tensor([100000]))[0, 0].item() == torch.tensor(100000.0, dtype=torch.float64).sin().item()
