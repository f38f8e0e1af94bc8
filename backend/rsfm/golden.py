"""Compare our numbers with those that the authors' own code produced: `rsfm golden DIR...`.

A folder holds arrays (case.npz, or io.safetensors with config.json), weights (.safetensors) and the tolerances in its
README.md, or tables of checkpoints (.json). Its name says which member of `goldens/` compares it: the longest name it
starts with.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from torch import Tensor

from rsfm import goldens, registry
from rsfm.errors import UserError


class Check(NamedTuple):
    """One array compared.

    Attributes:
        error: the largest difference, taken where it uses most of its tolerance.
        tolerance: what is allowed there.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


class Golden(ABC):
    """A member of `goldens/`: compares one kind of case by driving the modules that users run.

    Attributes:
        has_arrays: a case holds arrays; others are read by the member itself.
    """

    name: ClassVar[str]
    has_arrays: ClassVar[bool] = True

    @abstractmethod
    def checks(self, case: "Case") -> Iterator[Check]:
        """Compare every array of a case."""


class Case:
    """The files of a folder; remembers which arrays were asked for.

    Attributes:
        config: what config.json says, where there is one.
    """

    def __init__(self, folder: Path, has_arrays: bool = True) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {}
        try:
            self.arrays = self._read() if has_arrays else {}
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"'{folder}' holds no readable case.npz, and no io.safetensors with config.json. Name a folder with "
                "golden numbers."
            ) from error
        self.used: set[str] = set()

    def _read(self) -> dict[str, Any]:
        if (self.folder / "io.safetensors").exists():
            self.config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            return dict(load_arrays(self.folder / "io.safetensors"))
        with np.load(self.folder / "case.npz", allow_pickle=False) as file:
            return dict(file)

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str) -> Any:
        """Return an array.

        Raises:
            UserError: the case lacks it.
        """
        if name not in self.arrays:
            raise UserError(f"'{self.folder}' has no array '{name}', which this comparison needs.")
        self.used.add(name)
        return self.arrays[name]

    def tensor(self, name: str) -> Tensor:
        """Return an array as a tensor; errors as in `array`."""
        return torch.from_numpy(np.array(self.array(name)))

    def weights(self, name: str) -> dict[str, Tensor]:
        """Read a .safetensors file.

        Raises:
            UserError: it is absent.
        """
        try:
            return load_file(self.folder / name)
        except OSError as error:
            raise UserError(f"'{self.folder}' has no weights '{name}', which this comparison needs.") from error

    def check(self, name: str, ours: Any, atol: float = 0.0, rtol: float = 0.0) -> Iterator[Check]:
        """Compare an array if the case has it; without tolerances it must be equal."""
        if name in self.arrays:
            yield compare(name, ours, self.array(name), atol, rtol)


def compare(name: str, ours: Any, theirs: Any, atol: float, rtol: float) -> Check:
    """Compare two arrays; another shape, or a value that is not finite, is an infinite error."""
    ours, theirs = (np.asarray(value.detach() if isinstance(value, Tensor) else value) for value in (ours, theirs))
    if ours.shape != theirs.shape:
        return Check(name, float("inf"), atol)
    if theirs.dtype.kind in "US":
        return Check(name, float(np.sum(ours != theirs)), 0.0)
    if theirs.size == 0:
        return Check(name, 0.0, atol)
    ours, theirs = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    error, allowed = np.abs(ours - theirs), atol + rtol * np.abs(theirs)
    error[~np.isfinite(error)] = np.inf
    worst = int(np.argmax(error / np.maximum(allowed, 1e-30)))
    return Check(name, float(error[worst]), float(allowed[worst]))


def worst(name: str, checks: Iterable[Check]) -> Check:
    """Take of many tensors' checks the one that uses most of its tolerance, and name it."""
    found = max(checks, key=lambda check: (check.error / max(check.tolerance, 1e-30), check.tolerance))
    return found._replace(name=f"{name} ({found.name})")


def main(arguments: list[str]) -> int:
    """Compare folders and print a line for each array.

    Returns:
        0 when every array is within its tolerance, 1 when one is not, 2 for a folder that cannot be compared.
    """
    if not arguments:
        raise UserError("Name at least one folder with golden numbers: rsfm golden DIR...")
    codes = []
    for argument in arguments:
        try:
            codes.append(_compare_folder(Path(argument)))
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            codes.append(2)
    return max(codes)


def find(folder: Path) -> type[Golden]:
    """Find the comparison of a folder by its name.

    Raises:
        UserError: there is none.
    """
    known = registry.names(goldens)
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}'. Name a folder with golden numbers.")
    fitting = [name for name in known if folder.resolve().name.startswith(name)]
    if not fitting:
        raise UserError(
            f"There is no comparison for '{folder.resolve().name}'. "
            f"Name a folder that starts with one of: {', '.join(known)}."
        )
    return registry.member(goldens, max(fitting, key=len), Golden)  # type: ignore[type-abstract]


def _compare_folder(folder: Path) -> int:
    golden = find(folder)()
    case = Case(folder, golden.has_arrays)
    print(f"{folder} ({golden.name})")
    failed = 0
    checks = list(golden.checks(case))
    for check in checks:
        failed += not check.passed
        verdict = "ok" if check.passed else "OVER"
        print(f"  {check.name:<44} error {check.error:<9.3g} tolerance {check.tolerance:<9.3g} {verdict}")
    for name in sorted(set(case.arrays) - case.used):
        print(f"  {name:<44} not compared")
    print(f"  {len(checks)} compared, {failed} over their tolerance")
    return 1 if failed or not checks else 0
