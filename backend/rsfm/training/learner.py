"""Brings a method to its device, ready to learn."""

from typing import Any

import torch
from lightning_fabric import Fabric

from rsfm.method import Method
from rsfm.runs import Run
from rsfm.training.checkpoint import Training
from rsfm.training.checkpoint_writer import CheckpointWriter
from rsfm.training.config import TrainingConfig
from rsfm.training.lockstep import join
from rsfm.training.optimizer import make_optimizer


def set_up(method: Method, config: TrainingConfig, fabric: Fabric, run: Run) -> tuple[Any, Any, CheckpointWriter]:
    """Bring a method to its device; return it as Fabric calls it, its optimizer, and its checkpoints.

    In fp16 gradients are unscaled before they are clipped, which a fused optimizer would do too late. Samples stay in
    fp32: autocast rounds what it multiplies, and rounded coordinates or pixel sizes would be other ones.

    Raises:
        UserError: the batch cannot be shared out among the processes.
    """
    join(method, config.batch_size)
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    method.to(memory_format=choose_memory_format(method))  # before gradients are laid out for their exchange
    wrapped, optimizer = fabric.setup(method, make_optimizer(method, config, fused=scaler is None))
    wrapped.mark_forward_method("loss")
    fabric.strategy.precision.convert_input = _as_it_is  # type: ignore[method-assign]
    method.train()
    training = Training(method, optimizer.optimizer, scaler)
    return wrapped, optimizer, CheckpointWriter(run.checkpoints, training, run.warning)


def choose_memory_format(method: Method) -> torch.memory_format:
    """Choose the order of the weights in memory: convolutions run up to twice as fast with channels last."""
    if isinstance(wanted := getattr(method, "memory_format", None), torch.memory_format):
        return wanted
    convolves = any(parameter.ndim == 4 for parameter in method.parameters())
    return torch.channels_last if convolves else torch.contiguous_format


def _as_it_is(data: Any) -> Any:
    return data
