"""Turns values into ranks by what a sample of them is like, so that magnitudes of any unit can be averaged.

Shape letters: N values, Q quantiles.
"""

from typing import NamedTuple

import numpy as np

QUANTILES = 4097


class RankTable(NamedTuple):
    """Quantiles of a sample, from its least value to its largest."""

    quantiles_Q: np.ndarray

    @classmethod
    def of(cls, values_N: np.ndarray) -> "RankTable":
        """Measure a sample."""
        return cls(np.quantile(values_N, np.linspace(0, 1, QUANTILES)).astype(np.float64))

    def rank(self, values: np.ndarray) -> np.ndarray:
        """Return the share of the sample that lies below, from 0 to 1, float32; any shape."""
        shares_Q = np.linspace(0, 1, len(self.quantiles_Q))
        return np.asarray(np.interp(values, self.quantiles_Q, shares_Q), np.float32)
