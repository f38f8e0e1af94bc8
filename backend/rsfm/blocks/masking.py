"""Hide patches at random, and cut windows into patches.

Shape letters: B batch, C bands, H rows, W columns, L patches, S slices, N patches of all slices, K kept, M hidden, D
width, P values of a patch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rsfm.errors import UserError


class Split(NamedTuple):
    """Which patches are kept and which hidden.

    Attributes:
        keep_BK: indices of the kept patches, in the order an encoder sees them.
        restore_BL: for each patch its place in the order "kept, then hidden".
        hidden_BL: 1 where hidden, 0 where kept; float.
    """

    keep_BK: Tensor
    restore_BL: Tensor
    hidden_BL: Tensor


def kept_count(patches: int, share_hidden: float) -> int:
    """Tell how many patches stay; truncated in floating point as the authors' code does: 0.9 of 100 keeps 9."""
    return int(patches * (1 - share_hidden))


def split_patches(noise_BL: Tensor, kept: int) -> Split:
    """Keep the patches with the least noise.

    Raises:
        UserError: none is kept.
    """
    _refuse_none(kept, noise_BL.shape[1])
    order_BL = torch.argsort(noise_BL, dim=1, stable=True)
    restore_BL = torch.argsort(order_BL, dim=1)
    return Split(order_BL[:, :kept], restore_BL, (restore_BL >= kept).float())


def take(tokens_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """Take tokens_BKD by their indices."""
    return tokens_BLD.gather(1, index_BK[:, :, None].expand(-1, -1, tokens_BLD.shape[2]))


def fill(tokens_BKD: Tensor, mask_token_11D: Tensor, split: Split) -> Tensor:
    """Put the mask token in the place of each hidden patch, tokens_BLD; the class token stays first and is no patch."""
    hidden = split.restore_BL.shape[1] - split.keep_BK.shape[1]
    mask_BMD = mask_token_11D.to(tokens_BKD.dtype).expand(len(tokens_BKD), hidden, -1)
    patches_BLD = take(torch.cat([tokens_BKD[:, 1:], mask_BMD], dim=1), split.restore_BL)
    return torch.cat([tokens_BKD[:, :1], patches_BLD], dim=1)


def standardise(patches: Tensor, valid: Tensor | None, over: tuple[int, ...]) -> Tensor:
    """Take its mean from each patch and divide by its spread: unbiased variance, eps 1e-6 inside the root.

    Args:
        valid: float of the same shape, 1 for pixels that count; None is all of them.
        over: dimensions that one mean is taken over.
    """
    _, centred, spread = _mean_and_spread(patches, valid, over)
    return centred / spread


def restore(standard: Tensor, patches: Tensor, valid: Tensor, over: tuple[int, ...]) -> Tensor:
    """Undo `standardise`: give standardised patches the mean and spread of others, such as those they stand for."""
    mean, _, spread = _mean_and_spread(patches, valid, over)
    return standard * spread + mean


def patchify(pixels_BCHW: Tensor, patch_size: int) -> Tensor:
    """Cut windows into patches_BLP, row-major; inside a patch row, then column, then band, the band fastest."""
    count, bands, height, width = pixels_BCHW.shape
    rows, columns = height // patch_size, width // patch_size
    lines_BHW = pixels_BCHW.permute(0, 2, 3, 1).reshape(count, height, -1)  # at first: then whole lines are moved
    cut_BhpwV = lines_BHW.reshape(count, rows, patch_size, columns, patch_size * bands)
    return cut_BhpwV.transpose(2, 3).reshape(count, rows * columns, -1)


def unpatchify(patches_BLP: Tensor, patch_size: int, rows: int) -> Tensor:
    """Put patches back together as pixels_BCHW; `rows` of patches."""
    count, patches, _ = patches_BLP.shape
    columns = patches // rows
    cut_BhwppC = patches_BLP.reshape(count, rows, columns, patch_size, patch_size, -1)
    return cut_BhwppC.permute(0, 5, 1, 3, 2, 4).reshape(count, -1, rows * patch_size, columns * patch_size)


def split_positions(noise_BL: Tensor, slices: int, kept_each: int, kept: int) -> Split:
    """Keep the same patches, those with the least noise, in every slice of a window.

    The order is: what each slice keeps, slice by slice, then what each hides. With more kept than `slices * kept_each`
    the first hidden patches of the first slice are kept too, as SatMAE does on dates.

    Args:
        kept_each: patches that each slice keeps.
        kept: tokens kept in all.

    Raises:
        UserError: a slice keeps none.
    """
    _refuse_none(kept_each, noise_BL.shape[1])
    order_BL = torch.argsort(noise_BL, dim=1, stable=True)
    start_S1 = noise_BL.shape[1] * torch.arange(slices, device=noise_BL.device)[:, None]
    keep_BN, hide_BN = (
        (part_BL[:, None] + start_S1).flatten(1) for part_BL in (order_BL[:, :kept_each], order_BL[:, kept_each:])
    )
    order_BN = torch.cat([keep_BN, hide_BN], dim=1)
    restore_BN = torch.argsort(order_BN, dim=1)
    return Split(order_BN[:, :kept], restore_BN, (restore_BN >= kept).float())


def _mean_and_spread(patches: Tensor, valid: Tensor | None, over: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of each patch, the patch less its mean, and its spread."""
    if valid is None:
        mean = patches.mean(over, keepdim=True)
        centred = patches - mean  # in three passes: fifteen times as fast on a CPU as torch.var_mean
        values = math.prod(patches.shape[dimension] for dimension in over)
        variance = centred.square().sum(over, keepdim=True) / max(values - 1, 1)
        return mean, centred, (variance + 1e-6).sqrt()
    count = valid.sum(over, keepdim=True)
    mean = (patches * valid).sum(over, keepdim=True) / count.clamp(min=1)
    centred = patches - mean
    variance = (centred.square() * valid).sum(over, keepdim=True) / (count - 1).clamp(min=1)
    return mean, centred, (variance + 1e-6).sqrt()


def _refuse_none(kept: int, patches: int) -> None:
    if kept == 0:
        raise UserError(
            f"All {patches} patches of a window are hidden, which leaves nothing to learn from. "
            "Make 'Window' larger, or 'Mask ratio' smaller.",
            "window",
        )
