"""A folder is the registry of its members: every module holds one, found by the contract it fulfils.

Nothing is listed twice: a file put into `methods/` is a method in the form, the toolbox and the shell.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Annotated, Any, TypeVar, Union

from pydantic import Field

T = TypeVar("T")


def members(folder: ModuleType, contract: type[T]) -> dict[str, type[T]]:
    """Find the members of a plural folder.

    Args:
        folder: the package, such as `rsfm.methods`.
        contract: the class they derive from.

    Returns:
        name -> class, sorted by name; each module must define exactly one member whose `name` is the module's.
    """
    return {name: member(folder, name, contract) for name in names(folder)}


def names(folder: ModuleType) -> list[str]:
    """List the members of a folder by name, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))


def member(folder: ModuleType, name: str, contract: type[T]) -> type[T]:
    """Import one member of a folder.

    Raises:
        LookupError: no module of that name, or one that does not define exactly one member called like itself.
    """
    if name not in names(folder):
        raise LookupError(f"'{name}' is not one of {', '.join(names(folder))}.")
    module = importlib.import_module(f"{folder.__name__}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, contract) and value.__module__ == module.__name__
    ]
    if len(found) != 1 or getattr(found[0], "name", None) != name:
        raise LookupError(f"{module.__name__} must define exactly one {contract.__name__}, with name = '{name}'.")
    return found[0]


def choice(configs: Sequence[type]) -> Any:
    """Make the type of a parameter that holds one of several configs, told apart by their field `name`."""
    if len(configs) == 1:
        return configs[0]
    return Annotated[Union[tuple(configs)], Field(discriminator="name")]


@cache
def choice_of(folder: ModuleType, contract: type[Any]) -> Any:
    """Make the type of a parameter that holds the config of one member of a folder."""
    found: dict[str, Any] = members(folder, contract)
    return choice([member.Config for member in found.values()])
