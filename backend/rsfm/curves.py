"""How the numbers of a run are drawn in its report: a curve over the steps, with what it means beside it."""

import html
import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple


class Meaning(NamedTuple):
    """What a reader is told of a number: its name, a sentence, and what stands along its axis if not the name."""

    title: str
    text: str
    unit: str = ""


MEANINGS = {
    "loss": Meaning(
        "Loss",
        "What training makes smaller. Compare it within this run only: other methods and batches count otherwise. "
        "It falls fast and then slowly: normal. Flat from the start: raise the learning rate. Jumps, or a rise that "
        "stays: lower it. In methods with a queue it rises first, while the queue fills.",
    ),
    "validation_loss": Meaning(
        "Loss on held-out ground",
        "The loss on ground that nothing was learned from. When it rises, training has lasted too long.",
    ),
    "contrast": Meaning("Contrast", "How hard it is to tell a window from others by its other view. Lower is better."),
    "contrast_of_seasons": Meaning(
        "Contrast, blind to the season",
        "How hard it is to tell a window from others, and from its views in another light, by its view of "
        "another date. Lower is better.",
    ),
    "contrast_of_light": Meaning(
        "Contrast, blind to the light",
        "How hard it is to tell a window from others, and from its views of other dates, by its view in "
        "another light. Lower is better.",
    ),
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
        "Mean IoU on held-out blocks of your labels, by a vote of the 20 nearest features. From 0 to 1, all right; "
        "when it no longer rises, more training hardly helps.",
        "Mean IoU",
    ),
    "probe_miou": Meaning(
        "Linear probe",
        "Mean IoU on held-out blocks of your labels, by a linear head on the features. From 0 to 1, all right; it is "
        "close to what fine-tuning the head will reach.",
        "Mean IoU",
    ),
    "knn_miou_pixels": Meaning("Nearest neighbours on raw pixels", "The floor that learned features must pass."),
    "probe_miou_pixels": Meaning("Linear probe on raw pixels", "The floor that learned features must pass."),
    "gsd": Meaning("Pixel size", "How wrong the guess of the pixel size is, as a squared error. Lower is better."),
    "learning_rate": Meaning(
        "Learning rate",
        "How far the weights move in a step. It rises while training warms up, then falls to the end of the budget.",
    ),
    "windows_per_second": Meaning(
        "Speed",
        "Windows learned from in a second. A dip is a pause for validation or a checkpoint, or the computer was busy "
        "with something else. Far below what it was at first: files may be read from a slow disk.",
        "Windows a second",
    ),
}
ORDER = ("loss", "validation_loss", "knn_miou", "probe_miou")
"""Shown first; the learning rate and the speed are shown last."""
LAST = ("learning_rate", "windows_per_second")
FROM_ZERO = {"windows_per_second"}
INTERVALS = 80
MOST_POINTS = 2000
WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 12, 44
TICKS = 5
Points = Sequence[tuple[float, float]]


def meaning(name: str) -> Meaning:
    """Say what a number means; a number that nobody described has its name alone."""
    return MEANINGS.get(name, Meaning(name.replace("_", " ").capitalize(), ""))


def rank(name: str) -> int:
    """Tell which of two curves is shown first: the one of the lower number."""
    if name in ORDER:
        return ORDER.index(name)
    return len(ORDER) + (1 + LAST.index(name) if name in LAST else 0)


def speed(events: Sequence[dict[str, Any]], batch: int) -> list[tuple[float, float]]:
    """Return windows a second over the steps, from when the loss of each was told; a pause between two starts is none.

    Args:
        batch: windows of a step.
    """
    pieces: list[list[tuple[float, float]]] = [[]]
    for event in events:
        if event["type"] == "device":
            pieces.append([])
        elif event["type"] == "metric" and event["name"] == "loss":
            pieces[-1].append((event["step"], datetime.fromisoformat(event["time"]).timestamp()))
    found: dict[float, float] = {}
    for piece in pieces:
        for (step, seconds), (reached, later) in pairwise(piece[:: max(1, len(piece) // INTERVALS)]):
            if later > seconds and reached > step:
                found[reached] = (reached - step) * batch / (later - seconds)
    return sorted(found.items())


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
    title, text, unit = meaning(name)
    said = f"<p>{html.escape(text)}</p>" if text else ""
    said += f"<p>{html.escape(_summary(points))}</p>"
    return f"<h3>{html.escape(title)}</h3>{said}{_plot(title, unit or title, thin(points), name in FROM_ZERO)}"


def thin(points: Points, most: int = MOST_POINTS) -> Points:
    """Leave out points that could not be told apart in a curve: of each piece the lowest and the highest stay."""
    if len(points) <= most:
        return points
    size = -(-2 * len(points) // most)
    kept = {0, len(points) - 1}
    for first in range(0, len(points), size):
        piece = range(first, min(first + size, len(points)))
        kept |= {min(piece, key=lambda number: points[number][1]), max(piece, key=lambda number: points[number][1])}
    return [points[number] for number in sorted(kept)]


def _summary(points: Points) -> str:
    lowest, highest = (choose(points, key=lambda point: point[1]) for choose in (min, max))
    (first, start), (last, end) = points[0], points[-1]
    return (
        f"From {start:.4g} at step {first:,.0f} to {end:.4g} at step {last:,.0f}; lowest {lowest[1]:.4g} at step "
        f"{lowest[0]:,.0f}, highest {highest[1]:.4g} at step {highest[0]:,.0f}."
    )


def _plot(title: str, axis: str, points: Points, from_zero: bool) -> str:
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high = 0.0 if from_zero else min(values), max(values)
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
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'<g transform="rotate(-90 14 {middle:.0f})">{_label(14, middle, axis, "middle")}</g>'
    parts.append(turned)
    line = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in points)
    parts.append(f'<polyline fill="none" stroke="#0072b2" stroke-width="1.5" points="{line}"/>')
    label = html.escape(f"{title}: {values[0]:.4g} at step {steps[0]:.0f}, {values[-1]:.4g} at step {steps[-1]:.0f}")
    head = f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return f"{head}{''.join(parts)}</svg>"


def _grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ccc" class="grid"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" class="axis" text-anchor="{anchor}">{html.escape(text)}</text>'
    )
