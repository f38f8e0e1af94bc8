"""One step of the optimizer, in as many parts as the memory asks for."""

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from rsfm.blocks.ranks import average
from rsfm.method import Dates, Loss, Method, Sample
from rsfm.training.checkpoint import Position
from rsfm.training.compiling import failed_to_compile
from rsfm.training.config import TrainingConfig
from rsfm.training.finite import check_at_once
from rsfm.training.fit import Fit, is_short
from rsfm.training.optimizer import clip_each, learning_rate, set_learning_rate, set_weight_decay, weight_decay


def take_step(
    method: Any,
    optimizer: Any,
    sample: Sample,
    config: TrainingConfig,
    progress: float,
    epochs: float,
    position: Position,
    fit: Fit,
) -> Loss:
    """Compute the loss of a sample, let the optimizer step at the learning rate of the moment, then the method.

    A step for which the memory is short is taken again, of the same sample and random numbers, with what `fit` finds;
    one that failed compiled is taken again uncompiled. Several processes rehearse their first steps, each alone.

    Args:
        method, optimizer: as Fabric has set them up.
        progress: share of the budget that is spent, from 0 to 1.
        epochs: how many passes the whole training makes.

    Raises:
        NotFinite: the loss is not finite; on a GPU this is found one step later.
        UserError: the memory is too short whatever is done.
    """
    set_learning_rate(optimizer, learning_rate(config, progress, epochs))
    set_weight_decay(optimizer, weight_decay(config, progress))
    fabric = fit.fabric
    if fit.is_rehearsal_due:
        undo = _remember(method.module, sample.pixels_BCHW.device)
        with fit.rehearsal(), fabric.no_backward_sync(method):
            _compute_until_it_fits(method, optimizer, sample, progress, position, fit)
        undo()
    loss = _compute_until_it_fits(method, optimizer, sample, progress, position, fit)
    fit.tell(len(sample.pixels_BCHW), sample.pixels_BCHW.device)
    fit.compiling.tell()
    if config.clip_norm and config.clip_each:
        fabric.strategy.precision.unscale_gradients(getattr(optimizer, "optimizer", optimizer))
        clip_each(method.parameters(), config.clip_norm)
    elif config.clip_norm:
        fabric.clip_gradients(method, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
    if _stepped(optimizer, fabric):
        method.module.after_step(progress)
    return loss


def _compute_until_it_fits(
    method: Any, optimizer: Any, sample: Sample, progress: float, position: Position, fit: Fit
) -> Loss:
    """Compute the loss of a sample and its gradients, from the same random numbers until that goes well."""
    windows, device, fabric = len(sample.pixels_BCHW), sample.pixels_BCHW.device, fit.fabric
    while True:
        optimizer.zero_grad(set_to_none=True)
        undo = _remember(method.module, device)
        try:
            with fit.watching(device), fit.compiling:
                return _add_gradients(method, sample, progress, position, fabric, fit.measures.parts)
        except Exception as error:
            short = is_short(error) and not failed_to_compile(error)
            if not short and not fit.compiling.give_up(error):
                raise
            said = str(error)
        undo()  # outside of the handler, where the error no longer holds what did not fit
        optimizer.zero_grad(set_to_none=True)
        _free(device)
        if short:
            fit.tighten(windows, device, said)


def split(sample: Sample, parts: int) -> list[Sample]:
    """Cut a sample into parts of as many windows, or one more; never more parts than windows."""
    count = min(parts, len(sample.pixels_BCHW))
    tensors = (tensor.tensor_split(count) for tensor in sample[:3])
    own = [type(sample)(*part) for part in zip(*tensors, strict=True)]
    all_dates: Dates | None = getattr(sample, "dates", None)
    if all_dates is None:
        return own
    dates = zip(*(tensor.tensor_split(count) for tensor in all_dates), strict=True)
    return [part._replace(dates=Dates(*dated)) for part, dated in zip(own, dates, strict=True)]


def _add_gradients(
    method: Any, sample: Sample, progress: float, position: Position, fabric: Fabric, parts: int
) -> Loss:
    """Add up the gradients of the mean loss over the parts of a sample, and return that mean."""
    if parts == 1:
        loss = _compute(method, sample, progress, position, fabric)
        fabric.backward(loss.total)
        return loss
    averages = _Averages(method.module)
    cut, losses, shares = split(sample, parts), [], []
    for index, part in enumerate(cut):
        share = len(part.pixels_BCHW) / len(sample.pixels_BCHW)
        with fabric.no_backward_sync(method, enabled=index + 1 < len(cut)):
            loss = _compute(method, part, progress, position, fabric)
            fabric.backward(loss.total * share)
        averages.add(share)
        losses.append(loss._replace(total=loss.total.detach()))
        shares.append(share)
    averages.set()
    return _mean(losses, shares)


def _compute(method: Any, sample: Sample, progress: float, position: Position, fabric: Fabric) -> Loss:
    """Compute the loss in the chosen precision, and refuse one that is no number in any of the processes."""
    with fabric.autocast():
        loss: Loss = method.loss(sample, progress)
    check_at_once(position.step, average(loss.total.detach()))
    return loss


def _mean(losses: list[Loss], shares: list[float]) -> Loss:
    total = _weighted([loss.total for loss in losses], shares)
    names = losses[0].parts
    parts = {name: _weighted([loss.parts[name] for loss in losses], shares) for name in names}
    return Loss(total, parts, tuple(dict.fromkeys(text for loss in losses for text in loss.warnings)))


def _weighted(values: list[Tensor], shares: list[float]) -> Tensor:
    return torch.stack([value * share for value, share in zip(values, shares, strict=True)]).sum()


class _Averages:
    """Buffers that a step moves by a mean over its batch: each part moves them from the same start."""

    def __init__(self, method: Method) -> None:
        self._moved = [method.get_buffer(name) for name in method.averages]
        self._starts = [buffer.clone() for buffer in self._moved]
        self._sums = [torch.zeros_like(buffer) for buffer in self._moved]

    def add(self, share: float) -> None:
        for buffer, start, total in zip(self._moved, self._starts, self._sums, strict=True):
            total.add_(buffer, alpha=share)
            buffer.copy_(start)

    def set(self) -> None:
        for buffer, total in zip(self._moved, self._sums, strict=True):
            buffer.copy_(total)


def _remember(method: Method, device: torch.device) -> Callable[[], None]:
    """Remember the buffers and the random numbers to come; returns what restores them."""
    taken = [buffer for name, buffer in method.named_buffers() if name not in method.once]
    kept: list[Tensor] = [buffer.clone() for buffer in taken]
    random = torch.get_rng_state()
    module = None if device.type == "cpu" else torch.get_device_module(device)
    random_there = module.get_rng_state() if module else None

    def undo() -> None:
        with torch.no_grad():
            for buffer, before in zip(taken, kept, strict=True):
                buffer.copy_(before)
        torch.set_rng_state(random)
        if module:
            module.set_rng_state(random_there)

    return undo


def _free(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


def _stepped(optimizer: Any, fabric: Fabric) -> bool:
    """Let the optimizer step; tells whether it did: scaled gradients that are too large are left out."""
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    before = scaler.get_scale() if scaler else 0
    optimizer.step()
    return not scaler or bool(scaler.get_scale() >= before)
