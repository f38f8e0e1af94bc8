"""The numbered pitfalls of the specifications: which have a test of their name, and why the others have none.

A test names the pitfalls it guards: test_mae_A4_keep_count_truncates, test_dino_12_gradients_are_unscaled. Letters tell
the method (M MoCo v2, G GASSL, A MAE, S SatMAE, E SSL4EO-S12's data, L importing); the distillations count from 1 each.
"""

import re
from pathlib import Path

COUNTS = {
    "M": 15,
    "G": 11,
    "A": 16,
    "S": 16,
    "E": 11,
    "L": 10,
    "dino_": 15,
    "satdino_": 10,
    "pera_": 15,
    "data2vec_": 12,
}
"""Pitfalls of each family, as the specifications number them."""
SECTIONS = {"1": "dino_", "2": "satdino_", "3": "pera_", "4": "data2vec_"}
"""Section of a distillation's specification whose pitfalls have numbers without a letter."""
UNTESTED = {
    "S16": "About the authors' own stream of random numbers; the golden cases hand over what was drawn.",
    "E6": "About the shape that torchgeo's data set returns, which nothing here reads.",
    "E8": "About a list of tiles drawn with replacement; windows come from all places of a raster, not from a list.",
    "data2vec_6": "About a name that numpy has removed; masks are drawn with torch, as every test of them shows.",
}
"""Why a pitfall has no test."""

NAME = re.compile(r"^ *def (test_\w+)", re.M)
LETTERED = re.compile(r"(?<=_)([MGASEL]\d+)(?=_)")
NUMBERED = re.compile(r"^test_((?:dino|satdino|pera|data2vec)_\d+)_")


def known() -> list[str]:
    """Return the names of all pitfalls: "A4", "dino_12"."""
    return [f"{family}{number}" for family, count in COUNTS.items() for number in range(1, count + 1)]


def by_pitfall(folder: Path) -> dict[str, list[str]]:
    """Find the tests that name a pitfall."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for name in NAME.findall(path.read_text(encoding="utf-8")):
            for pitfall in [*LETTERED.findall(name), *NUMBERED.findall(name)]:
                found.setdefault(pitfall, []).append(name)
    return found


def counts_of_specifications(folder: Path) -> dict[str, int]:
    """Count the pitfalls of each family in the specifications themselves."""
    lettered = (folder / "moco-mae-family.md").read_text(encoding="utf-8")
    counts = {}
    for body in re.findall(r"^(?:### [\d.]+ Pitfalls|Pitfalls:)(.*?)(?=^#|\Z)", lettered, re.M | re.S):
        family = re.findall(r"\b([A-Z])1 ", body)[0]
        counts[family] = _in_sequence(body, rf"\b{family}%d ")
    numbered = (folder / "dino-family.md").read_text(encoding="utf-8")
    for section, body in re.findall(r"^### (\d)\.\d Pitfalls[^\n]*(.*?)(?=^#|\Z)", numbered, re.M | re.S):
        counts[SECTIONS[section]] = _in_sequence(body, r"(?:^|\s)%d\. ")
    return counts


def table(folder: Path) -> list[str]:
    """Return lines for the report: how many pitfalls of each family have a test, and why the others have none."""
    tested, lines = by_pitfall(folder), []
    for family, count in COUNTS.items():
        names = [f"{family}{number}" for number in range(1, count + 1)]
        has = [name for name in names if name in tested]
        tests = sum(len(tested[name]) for name in has)
        lines.append(f"{family.rstrip('_'):<10} {len(has):>2} of {count:>2} have a test of their name ({tests} tests)")
        lines += [f"  {name:<10} none: {UNTESTED.get(name, 'no reason given')}" for name in names if name not in tested]
    return lines


def _in_sequence(text: str, pattern: str) -> int:
    """Count how far a text counts up from 1."""
    number = 0
    while match := re.search(pattern % (number + 1), text, re.M):
        number, text = number + 1, text[match.end() :]
    return number
