"""A teacher: the slow average of a student, which no gradient reaches."""

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def make_teacher(student: M) -> M:
    """Copy a student; no part of the copy is trained."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def move_average(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's parameters, never its buffers, towards the student's; `momentum` is the share it keeps."""
    for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
        slow.mul_(momentum).add_(fast, alpha=1 - momentum)
