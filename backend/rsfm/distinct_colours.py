"""Colours that can be told apart, also by eyes that see no red or no green.

Okabe and Ito's come first; each further one is, of many candidates, the farthest from all before it, as the weakest of
three kinds of eye sees it. Colours without red or green: Machado et al., 2009, "A physiologically-based model for
simulation of color vision deficiency", severity 1.

Shape letters: N colours, C candidates.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

FIRST = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
STEPS = 12
DARKEST, LIGHTEST = 20, 92
"""Lightness in CIELAB: darker and lighter ones are lost on the map."""
EYES = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)
"""Usual, without red, without green: in linear light."""


@cache
def distinct_colours(count: int) -> tuple[str, ...]:
    """Return that many colours as "#rrggbb"."""
    chosen = [_read(colour) for colour in FIRST[:count]]
    steps = np.linspace(0, 1, STEPS)
    candidates_C3 = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness_C = rgb2lab(candidates_C3)[:, 0]
    candidates_C3 = candidates_C3[(lightness_C >= DARKEST) & (lightness_C <= LIGHTEST)]
    nearest_C = np.min([distances(candidates_C3, colour) for colour in chosen], axis=0)
    while len(chosen) < count:
        chosen.append(candidates_C3[nearest_C.argmax()])
        nearest_C = np.minimum(nearest_C, distances(candidates_C3, chosen[-1]))
    return tuple("#" + "".join(f"{round(255 * channel):02x}" for channel in colour) for colour in chosen)


def distances(colours_N3: NDArray[np.float64], colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far colours are from one, in CIELAB, to the eye that sees the least of it."""
    seen = [np.linalg.norm(_seen(colours_N3, eye) - _seen(colour[None], eye), axis=1) for eye in EYES]
    return np.asarray(np.min(seen, axis=0))


def _seen(colours_N3: NDArray[np.float64], eye: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return colours in CIELAB as an eye sees them."""
    linear_N3 = np.where(colours_N3 <= 0.04045, colours_N3 / 12.92, ((colours_N3 + 0.055) / 1.055) ** 2.4)
    light_N3 = np.clip(linear_N3 @ eye.T, 0, 1)
    screen_N3 = np.where(light_N3 <= 0.0031308, 12.92 * light_N3, 1.055 * light_N3 ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(screen_N3))


def _read(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
