"""What stands below a job's form on its page; a member of `cards/` is one, found by the job's name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from qgis.PyQt.QtWidgets import QWidget

from rsfm_qgis.gui.editor import Workspace
from rsfm_qgis.gui.form import Form


class Card(QWidget):
    """Works with a form.

    Attributes:
        run_text: what the button Run is called beside it; empty keeps its name.
    """

    run_text = ""

    def __init__(self, form: Form, workspace: Workspace) -> None:
        super().__init__()
        self.form, self.workspace = form, workspace


def make_card(job: str, form: Form, workspace: Workspace) -> Card | None:
    """Make the card of a job; None where it has none, or nothing to show it on."""
    if workspace.canvas is None or not (Path(__file__).parent / "cards" / f"{job}.py").is_file():
        return None
    module = import_module(f"rsfm_qgis.gui.cards.{job}")
    member = next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Card) and value.__module__ == module.__name__
    )
    card: Card = member(form, workspace)
    return card
