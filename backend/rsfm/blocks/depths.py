"""How deep in an encoder its weights lie: the stem, then its blocks, then what follows the last.

So that the first layers can learn less than the last ones, or not at all. A shared table of positions goes with the
last block, as in BEiT.
"""

import re

from torch import nn

BLOCK = re.compile(r"^(?:blocks\.|layer)(\d+)(?:\.|$)")
AFTER = re.compile(r"^norm(?:\.|$)")
SHARED = re.compile(r"^rel_pos_bias(?:\.|$)")
TABLES = ("pos_embed", "cls_token", "gsd_register", "relative_position_bias_table")
"""Ends of the names of weights that are learned as they are and that weight decay leaves alone."""


class Depths:
    """Depths of an encoder's weights.

    Attributes:
        last: of the last block; what follows it is one deeper, the stem is 0.
    """

    def __init__(self, encoder: nn.Module) -> None:
        found = (BLOCK.match(name) for name, _ in encoder.named_parameters())
        numbers = sorted({int(match.group(1)) for match in found if match})
        self._depths = {number: depth for depth, number in enumerate(numbers, start=1)}
        self.last = len(numbers)

    def of(self, name: str) -> int:
        """Return the depth of a weight, or of a module, by its name in the encoder."""
        if match := BLOCK.match(name):
            return self._depths.get(int(match.group(1)), 0)
        if AFTER.match(name):
            return self.last + 1
        return self.last if SHARED.match(name) else 0


def left_undecayed(module: nn.Module) -> tuple[str, ...]:
    """Return the names of weights that are tables, which weight decay leaves alone."""
    return tuple(name for name, _ in module.named_parameters() if name.rpartition(".")[2] in TABLES)
