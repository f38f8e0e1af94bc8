"""A queue of past keys, the negatives of a contrastive loss.

Shape letters: D features, K length of the queue, N keys.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Queue(nn.Module):
    """Unit vectors queue_DK, the oldest replaced first; `queue_ptr` is the place of the next one."""

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.register_buffer("queue", functional.normalize(torch.randn(width, length), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def add(self, keys_ND: Tensor) -> None:
        """Replace the oldest keys; any number of keys fits, what passes the end goes on at the start."""
        length = self.queue.shape[1]
        place_N = (self.queue_ptr + torch.arange(len(keys_ND), device=keys_ND.device)) % length
        self.queue[:, place_N[-length:]] = keys_ND[-length:].T.to(self.queue.dtype)
        self.queue_ptr.copy_((self.queue_ptr + len(keys_ND)) % length)
