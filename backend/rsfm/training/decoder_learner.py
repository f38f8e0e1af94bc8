"""What the training loop needs of a decoder on an encoder, of which as much learns as is asked for.

Shape letters: B batch, K classes, N labelled pixels, H rows, W columns.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsfm.blocks.depths import Depths, left_undecayed
from rsfm.blocks.drop_path import drop_by_sample
from rsfm.blocks.low_rank import add_adapters, merge_adapters
from rsfm.blocks.transformer import PatchEncoder
from rsfm.encoder import Encoder
from rsfm.head import Answer, Decoder
from rsfm.method import Loss
from rsfm.training.class_windows import ClassSample
from rsfm.training.learning_config import LearningConfig
from rsfm.training.pixel_losses import dice_loss, pixel_losses


class DecoderLearner(nn.Module):
    """An encoder and its decoder, as the training loop asks for a method.

    Attributes:
        rate_scales: by the name of a weight, the share of the learning rate that it learns with.
        undecayed: weights that weight decay leaves alone.
    """

    averages, once, least, parts = (), (), 2, 1
    memory_format = torch.contiguous_format
    """With channels last, the gradient of an encoder's maps ends the process (torch 2.15 on a CPU)."""

    def __init__(self, encoder: Encoder, decoder: Decoder, config: LearningConfig, weight_K: Tensor) -> None:
        super().__init__()
        self.config, self.encoder, self.decoder = config, encoder, decoder
        self.register_buffer("weight_K", weight_K)
        self.indivisible = "Dice compares all pixels of a batch." if config.dice else ""
        self._depths = Depths(encoder)
        self._first = first_to_learn(self._depths, config)
        self.open_up()
        self.rate_scales = {
            f"encoder.{name}": config.layer_decay ** (self._depths.last + 1 - self._depths.of(name))
            for name, _ in encoder.named_parameters()
        }
        self.undecayed = left_undecayed(self)

    def open_up(self) -> None:
        """Let those weights of the encoder learn that are to."""
        if self.config.drop_path and isinstance(self.encoder, PatchEncoder):
            drop_by_sample(self.encoder.get_submodule("blocks").children(), self.config.drop_path)
        for name, parameter in self.encoder.named_parameters():
            if self._depths.of(name) < self._first:
                parameter.requires_grad_(False)
        if self.config.encoder == "adapters":
            add_adapters(self.encoder, self.config.rank, lambda name: self._depths.of(name) > 0)

    def close(self) -> None:
        """Make the encoder one of its own kind again, with what its adapters have learned."""
        merge_adapters(self.encoder)
        self.eval()

    def train(self, mode: bool = True) -> "DecoderLearner":
        """Go into training; what does not learn stays as it is, with its running statistics."""
        super().train(mode)
        if mode:
            adapted = self.config.encoder == "adapters"
            for name, module in self.encoder.named_modules():
                still = self._depths.of(name) < self._first
                if (still and not adapted) or (still and isinstance(module, _BatchNorm)):
                    module.training = False
        return self

    def loss(self, sample: ClassSample, progress: float) -> Loss:
        height, width = sample.pixels_BCHW.shape[-2:]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.encoder != "frozen"):
            maps = self.encoder.feature_maps(sample.pixels_BCHW)
        answers = self.decoder.answers(maps, height, width)
        total, parts = self._compare(answers[0], sample)
        for index, answer in enumerate(answers[1:], start=2):
            more, _ = self._compare(answer, sample)
            total = total + more
            parts[f"loss_{index}"] = more.detach()
        return Loss(total, parts)

    def after_step(self, progress: float) -> None:
        """There is nothing to follow a step."""

    def _compare(self, answer: Answer, sample: ClassSample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss of logits at the pixels whose class is known, and its parts; no others are read."""
        known_BHW = (sample.class_BHW >= 0) & (sample.class_BHW < self.decoder.classes)
        window_N = known_BHW.nonzero()[:, 0]
        class_N = sample.class_BHW[known_BHW]
        with torch.autocast(sample.pixels_BCHW.device.type, enabled=False):
            logits_NK = answer.logits_BKHW.movedim(1, 3)[known_BHW].float()
            losses_N = pixel_losses(logits_NK, class_N, self.config) * self.get_buffer("weight_K")[class_N]
            total = (losses_N * sample.share_B[window_N]).sum() / len(sample.pixels_BCHW)
            parts: dict[str, Tensor] = {self.config.loss: total.detach()}
            if self.config.dice:
                dice = dice_loss(logits_NK, class_N)
                parts["dice"] = dice.detach()
                total = (1 - self.config.dice) * total + self.config.dice * dice
        return answer.weight * total, parts


def first_to_learn(depths: Depths, config: LearningConfig) -> int:
    """Return the depth from which on an encoder's own weights learn."""
    if config.encoder == "all":
        return 0
    if config.encoder == "last":
        return max(depths.last + 1 - config.last_blocks, 0)
    return depths.last + 2
