"""Views made in pieces, on several threads, are those of the whole batch."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

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


DRAW = """
import torch
from rsfm.blocks.multicrop import draw_views
from rsfm.blocks.view import View
from rsfm.blocks.views import published_view
from rsfm.encoders.vit_learned import ViTLearned, ViTLearnedConfig
from rsfm.methods.pera import PerA, PerAConfig

torch.set_num_threads({threads})
window = View(torch.randn(8, 3, 256, 256), torch.ones(8, 256, 256, dtype=torch.bool))
pera = PerA(
    PerAConfig(prototypes=8, hidden=8, bottleneck=8), ViTLearned(ViTLearnedConfig(width=16, depth=1, heads=1), 3)
)
for _ in range(2):
    draw_views(window, (224, 96), [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 8)
    pera.draw(window, 2, 224, (0.4, 1.0))
    published_view(*window, 224)
print("drawn by", torch.get_num_threads())
"""


@pytest.mark.parametrize("threads", [2, 3])
def test_large_views_are_drawn_by_threads_that_do_not_wait_for_each_other(threads):
    """In a process of its own: threads that wait for each other keep a process from ending."""
    found = subprocess.run(
        [sys.executable, "-c", DRAW.format(threads=threads)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == f"drawn by {threads}"


def test_a_task_with_tasks_of_its_own_does_them_one_by_one():
    threads = torch.get_num_threads()
    done = []
    try:
        torch.set_num_threads(2)
        pieces.in_threads(
            lambda one: pieces.in_threads(lambda two: done.append((one, two)), [(two,) for two in range(3)]),
            [(one,) for one in range(4)],
        )
    finally:
        torch.set_num_threads(threads)
    assert sorted(done) == [(one, two) for one in range(4) for two in range(3)]
    for one in range(4):
        assert [two for first, two in done if first == one] == [0, 1, 2]


def test_threads_that_run_their_operations_alone_leave_later_threads_the_number_of_all():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        begun = []
        with pieces.threads_alone(2, "some", lambda: begun.append(threading.get_ident())) as pool:
            together = threading.Barrier(2)
            found = list(
                pool.map(lambda _: (together.wait(), torch.get_num_threads(), threading.get_ident()), range(2))
            )
        assert [own for _, own, _ in found] == [1, 1]
        assert sorted(begun) == sorted(name for *_, name in found)
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(threads)
