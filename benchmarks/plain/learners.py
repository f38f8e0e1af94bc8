"""MoCo v2, DINO and MAE as plain modules: a loss of views, and what follows a step.

Shape letters: B batch, C bands, H rows, W columns, V views, L patches, K kept, D width, P values of a patch.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def unfuse(encoder: nn.Module) -> nn.Module:
    """Have timm's blocks write their attention out, the product, the softmax, the product, and convolve the patches."""
    for module in encoder.modules():
        if hasattr(module, "is_product"):
            module.is_product = False
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return encoder


class PlainMoCo(nn.Module):
    """He et al., 2020, arXiv:1911.05722, with the projection of MoCo v2."""

    def __init__(self, encoder: Any, queue: int = 4096, dimension: int = 128) -> None:
        super().__init__()
        width = encoder.width
        self.encoder = encoder
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dimension))
        self.slow = copy.deepcopy(nn.ModuleList([self.encoder, self.projection])).requires_grad_(False)
        self.register_buffer("queue", functional.normalize(torch.randn(dimension, queue), dim=0))
        self.place = 0

    def loss(self, views: list[Tensor]) -> Tensor:
        query_BD = functional.normalize(self.projection(self.encoder.embedding(views[0])), dim=1)
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self._fast(), strict=True):
                slow.data = slow.data * 0.999 + fast.data * 0.001
            order_B = torch.randperm(len(views[1]), device=views[1].device)
            key_BD = self.slow[1](self.slow[0].embedding(views[1][order_B]))
            key_BD = functional.normalize(key_BD, dim=1)[order_B.argsort()]
        match_B1 = torch.einsum("bd,bd->b", query_BD, key_BD)[:, None]
        others_BK = torch.einsum("bd,dk->bk", query_BD, self.queue.clone().detach())
        logits_BK = torch.cat([match_B1, others_BK], dim=1) / 0.2
        with torch.no_grad():
            self.queue[:, self.place : self.place + len(key_BD)] = key_BD.T
            self.place = (self.place + len(key_BD)) % self.queue.shape[1]
        target_B = torch.zeros(len(logits_BK), dtype=torch.long, device=logits_BK.device)
        return functional.cross_entropy(logits_BK, target_B)

    def after_step(self) -> None:
        """The average moves before the next keys."""

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self._fast(), lr=0.03, momentum=0.9, weight_decay=1e-4)

    def _fast(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.projection.parameters()]


class PlainDINO(nn.Module):
    """Caron et al., 2021, arXiv:2104.14294."""

    def __init__(self, encoder: Any, prototypes: int, hidden: int, bottleneck: int) -> None:
        super().__init__()
        head = [nn.Linear(encoder.width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()]
        self.encoder, self.mlp = encoder, nn.Sequential(*head, nn.Linear(hidden, bottleneck))
        last = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        self.last = last
        self.slow = copy.deepcopy(nn.ModuleList([encoder, self.mlp, last])).requires_grad_(False)
        self.register_buffer("center", torch.zeros(1, prototypes))

    def loss(self, views: list[Tensor]) -> Tensor:
        student = torch.cat([self._sort(self.encoder, self.mlp, self.last, part) for part in (views[:2], views[2:])])
        with torch.no_grad():
            raw = self._sort(*self.slow, views[:2])
            teacher = functional.softmax((raw - self.center) / 0.04, dim=-1).chunk(2)
            self.center = self.center * 0.9 + raw.mean(0, keepdim=True) * 0.1
        total, terms = 0, 0
        for first, target in enumerate(teacher):
            for second, logits in enumerate((student / 0.1).chunk(len(views))):
                if first != second:
                    total += torch.sum(-target * functional.log_softmax(logits, dim=-1), dim=-1).mean()
                    terms += 1
        return total / terms

    def after_step(self) -> None:
        fast = [*self.encoder.parameters(), *self.mlp.parameters(), *self.last.parameters()]
        with torch.no_grad():
            for slow, now in zip(self.slow.parameters(), fast, strict=True):
                slow.data.mul_(0.996).add_((1 - 0.996) * now.detach().data)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([value for value in self.parameters() if value.requires_grad], lr=5e-4)

    @staticmethod
    def _sort(encoder: Any, mlp: nn.Module, last: nn.Module, views: list[Tensor]) -> Tensor:
        features_ND = encoder.embedding(torch.cat(views))
        return last(functional.normalize(mlp(features_ND), dim=-1))


class PlainMAE(nn.Module):
    """He et al., 2022, arXiv:2111.06377."""

    def __init__(self, encoder: Any, decoder: list[nn.Module], width: int) -> None:
        super().__init__()
        values = encoder.bands * encoder.patch_size**2
        self.encoder, self.embed, self.blocks = encoder, nn.Linear(encoder.width, width), nn.Sequential(*decoder)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, encoder.grid**2 + 1, width) * 0.02, requires_grad=False)
        self.norm, self.predict = nn.LayerNorm(width), nn.Linear(width, values)

    def loss(self, views: list[Tensor]) -> Tensor:
        (image_BCHW,) = views
        tokens_BLD = self.encoder.embed(image_BCHW)
        count, patches, width = tokens_BLD.shape
        order_BL = torch.rand(count, patches, device=tokens_BLD.device).argsort(dim=1)
        restore_BL, kept = order_BL.argsort(dim=1), patches // 4
        keep_BKD = order_BL[:, :kept, None].expand(-1, -1, width)
        seen = self.embed(self.encoder.encode(torch.gather(tokens_BLD, 1, keep_BKD)))
        hidden = self.mask_token.expand(count, patches - kept, -1)
        all_BLE = torch.cat([seen[:, 1:], hidden], dim=1)
        all_BLE = torch.gather(all_BLE, 1, restore_BL[:, :, None].expand(-1, -1, all_BLE.shape[2]))
        decoded = self.blocks(torch.cat([seen[:, :1], all_BLE], dim=1) + self.positions)
        rebuilt_BLP = self.predict(self.norm(decoded))[:, 1:]
        size, bands = self.encoder.patch_size, image_BCHW.shape[1]
        side = self.encoder.grid
        target_BLP = image_BCHW.reshape(count, bands, side, size, side, size)
        target_BLP = torch.einsum("nchpwq->nhwpqc", target_BLP).reshape(count, patches, -1)
        mean, variance = target_BLP.mean(-1, keepdim=True), target_BLP.var(-1, keepdim=True)
        error_BL = ((rebuilt_BLP - (target_BLP - mean) / (variance + 1e-6) ** 0.5) ** 2).mean(-1)
        hidden_BL = (restore_BL >= kept).float()
        return (error_BL * hidden_BL).sum() / hidden_BL.sum()

    def after_step(self) -> None:
        """Nothing follows a step."""

    def optimizer(self) -> torch.optim.Optimizer:
        trained = [value for value in self.parameters() if value.requires_grad]
        return torch.optim.AdamW(trained, lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05)
