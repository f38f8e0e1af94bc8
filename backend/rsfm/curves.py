"""How the numbers of a run are drawn in its report: a curve over the steps, with what it means beside it."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a reader is told of a number: its name, and a sentence."""

    title: str
    text: str


MEANINGS = {
    "loss": Meaning(
        "Loss",
        "What training makes smaller. Compare it within this run only: other methods and batches count otherwise. "
        "In methods with a queue it rises first, while the queue fills.",
    ),
    "validation_loss": Meaning(
        "Loss on held-out ground",
        "The loss on ground that nothing was learned from. When it rises, training has lasted too long.",
    ),
    "contrast": Meaning("Contrast", "How hard it is to tell a window from others by its other view. Lower is better."),
    "top1": Meaning(
        "Views recognised",
        "Share of windows whose other view is found first among all it is compared with. From 0 to 1; 1 is all.",
    ),
    "one_date": Meaning(
        "Windows of a single date", "Share of windows that had no second date, so that both views are of the same one."
    ),
    "place": Meaning("Place", "How wrong the guess is in which part of the area a window lies. Lower is better."),
    "features": Meaning(
        "Features", "How far the predicted features of hidden patches are from the teacher's. Lower is better."
    ),
    "variety": Meaning("Variety", "How much predictions differ from patch to patch. Near 0 all have become the same."),
    "distillation": Meaning(
        "Distillation", "How far the student's view of a window is from the teacher's. Lower is better."
    ),
    "sharpness": Meaning(
        "Sharpness",
        "How sure the teacher is, from near 0 to 1. It grows slowly; at 1 from the start all windows look alike.",
    ),
    "reconstruction": Meaning(
        "Reconstruction",
        "Squared error of the hidden patches, each scaled to unit variance. 1 is a guess of their mean.",
    ),
    "spread": Meaning(
        "Spread", "How close windows lie to their nearest neighbour. Lower is farther apart, which is better."
    ),
    "pixel": Meaning("Pixel", "Error of the hidden patches' pixels. Lower is better."),
    "knn_miou": Meaning(
        "Nearest neighbours",
        "Mean IoU on held-out blocks of your labels, by a vote of the 20 nearest features. From 0 to 1, all right.",
    ),
    "probe_miou": Meaning(
        "Linear probe",
        "Mean IoU on held-out blocks of your labels, by a linear head on the features. From 0 to 1, all right.",
    ),
    "knn_miou_pixels": Meaning("Nearest neighbours on raw pixels", "The floor that learned features must pass."),
    "probe_miou_pixels": Meaning("Linear probe on raw pixels", "The floor that learned features must pass."),
    "gsd": Meaning("Pixel size", "How wrong the guess of the pixel size is, as a squared error. Lower is better."),
}
WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 12, 44
TICKS = 5
Points = Sequence[tuple[float, float]]


def meaning(name: str) -> Meaning:
    """Say what a number means; a number that nobody described has its name alone."""
    return MEANINGS.get(name, Meaning(name.replace("_", " ").capitalize(), ""))


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers within a range, about five of them: multiples of 1, 2 or 5 times a power of ten.

    Args:
        low, high: finite, low < high.
    """
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def draw(name: str, points: Points) -> str:
    """Draw a number over the steps as SVG, with axes, under its title and what it means.

    Args:
        points: step and value, at least two, steps rising.
    """
    title, text = meaning(name)
    said = f"<p>{html.escape(text)}</p>" if text else ""
    return f"<h3>{html.escape(title)}</h3>{said}{_plot(title, points)}"


def _plot(title: str, points: Points) -> str:
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - 0.5, high + 0.5
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def across(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_grid_line(LEFT, down(value), WIDTH - RIGHT, down(value)) for value in ticks(low, high)]
    parts += [_label(LEFT - 6, down(value) + 4, f"{value:.6g}", "end") for value in ticks(low, high)]
    whole = [step for step in ticks(first, last) if step == round(step)]
    parts += [_grid_line(across(step), HEIGHT - BOTTOM, across(step), HEIGHT - BOTTOM + 4) for step in whole]
    parts += [_label(across(step), HEIGHT - BOTTOM + 18, f"{step:,.0f}", "middle") for step in whole]
    parts.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "Step", "middle"))
    line = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in points)
    parts.append(f'<polyline fill="none" stroke="#0072b2" stroke-width="1.5" points="{line}"/>')
    label = html.escape(f"{title}: {values[0]:.4g} at step {steps[0]:.0f}, {values[-1]:.4g} at step {steps[-1]:.0f}")
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ccc"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}">{html.escape(text)}</text>'
