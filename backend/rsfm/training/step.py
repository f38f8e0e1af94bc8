"""One step of the optimizer."""

from typing import Any

import torch
from lightning_fabric import Fabric

from rsfm.blocks.ranks import average
from rsfm.errors import UserError
from rsfm.method import Loss, Sample
from rsfm.training.checkpoint import Position
from rsfm.training.config import TrainingConfig
from rsfm.training.optimizer import clip_each, learning_rate, set_learning_rate, set_weight_decay, weight_decay


def take_step(
    method: Any,
    optimizer: Any,
    sample: Sample,
    config: TrainingConfig,
    progress: float,
    epochs: float,
    position: Position,
    fabric: Fabric,
) -> Loss:
    """Compute the loss of a sample and let the optimizer step, at the learning rate of the moment.

    Args:
        method, optimizer: as Fabric has set them up.
        progress: share of the budget that is spent, from 0 to 1.
        epochs: how many passes the whole training makes.

    Raises:
        UserError: the loss is not finite.
    """
    set_learning_rate(optimizer, learning_rate(config, progress, epochs))
    set_weight_decay(optimizer, weight_decay(config, progress))
    loss: Loss = method.loss(sample, progress)
    mean = average(loss.total.detach())
    if not torch.isfinite(mean):
        raise UserError(
            f"The loss became {mean.item()} at step {position.step}. The last checkpoint is kept. "
            "Lower the 'Learning rate' and press Run again."
        )
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss.total)
    if config.clip_norm and config.clip_each:
        fabric.strategy.precision.unscale_gradients(getattr(optimizer, "optimizer", optimizer))
        clip_each(method.parameters(), config.clip_norm)
    elif config.clip_norm:
        fabric.clip_gradients(method, optimizer, max_norm=config.clip_norm)
    optimizer.step()
    return loss
