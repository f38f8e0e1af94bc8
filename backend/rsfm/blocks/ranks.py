"""What the processes of one training tell each other."""

import torch
from torch import Tensor, distributed


@torch.no_grad()
def gather_rows(rows_ND: Tensor) -> Tensor:
    """Stack the rows of all processes in the order of their ranks, the same on each; alone, return the rows.

    All processes must bring the same number of rows. No gradient passes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows_ND
    parts = [torch.empty_like(rows_ND) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows_ND.contiguous())
    return torch.cat(parts)
