"""Two real processes."""

from pathlib import Path

import pytest
import torch
from rsfm.blocks.drop_path import SampleDropPath
from rsfm.blocks.ranks import gather_rows
from timm.layers.drop import DropPath
from torch import distributed, multiprocessing


def _share(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows_ND = gather_rows(torch.arange(6.0).reshape(3, 2).T[:, :2] + 10 * rank)
    torch.save(rows_ND, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_every_process_gets_the_rows_of_all_in_the_order_of_their_ranks(tmp_path):
    multiprocessing.start_processes(_share, (str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        rows_ND = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert rows_ND.tolist() == [[0, 2], [1, 3], [10, 12], [11, 13]]


def test_alone_the_rows_stay_as_they_are():
    rows_ND = torch.randn(3, 2)
    assert gather_rows(rows_ND) is rows_ND


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_alone_branches_are_left_out_as_the_common_layer_does(rate):
    branch_BLD = torch.randn(9, 3, 2)
    torch.manual_seed(1)
    expected = DropPath(rate).train()(branch_BLD)
    torch.manual_seed(1)
    torch.testing.assert_close(SampleDropPath(rate).train()(branch_BLD), expected, rtol=1e-6, atol=0)
