"""Views made in pieces, on several threads, are those of the whole batch."""

import pytest
import torch
from rsfm.blocks import pieces
from rsfm.blocks.multicrop import draw_views
from rsfm.blocks.view import View


@pytest.mark.parametrize(
    ("count", "values", "expected"),
    [
        (7, 2**18, [1, 2, 2, 2]),
        (9, 2**15, [4, 5]),
        (18, 2**18, [3, 4, 3, 4, 4]),
        (2, 2**30, [1, 1]),
        (0, 5, []),
        (3, 0, [3]),
    ],
)
def test_pieces_follow_each_other_and_are_nearly_equal(count, values, expected):
    found = pieces.split(count, values, torch.device("cpu"))
    assert [piece.stop - piece.start for piece in found] == expected
    assert [place for piece in found for place in range(piece.start, piece.stop)] == list(range(count))


@pytest.mark.parametrize("bands", [3, 5])
def test_views_are_the_same_in_any_pieces_and_on_any_number_of_threads(bands, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    pixels = 2 * torch.randn(6, bands, 160, 150, generator=generator)
    valid = torch.ones(6, 160, 150, dtype=torch.bool)
    valid[2:4, :30] = False
    threads = torch.get_num_threads()

    def draw(piece: int, threads: int) -> list[View]:
        monkeypatch.setattr(pieces, "PIECE", piece)
        monkeypatch.setattr(pieces, "SMALLEST", piece)
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        drawn = draw_views(View(pixels * valid[:, None], valid), (136, 48), [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 3)
        return [one.view for one in drawn]

    try:
        expected = draw(2**30, 1)
        for piece in (1, 2**16):
            alone, together = draw(piece, 1), draw(piece, 2)
            for whole, one, other in zip(expected, alone, together, strict=True):
                assert torch.equal(one.pixels_BCHW, other.pixels_BCHW)
                assert torch.equal(one.valid_BHW, whole.valid_BHW)
                torch.testing.assert_close(one.pixels_BCHW, whole.pixels_BCHW, atol=1e-5, rtol=0)
    finally:
        torch.set_num_threads(threads)
