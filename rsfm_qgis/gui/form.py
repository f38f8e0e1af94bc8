"""A form drawn from fields: one editor a parameter, nested groups and choices, values in and out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import QEvent, QObject, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFormLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from rsfm_qgis.gui.editor import Editor, InputError, Workspace, make_editor, shrinkable
from rsfm_qgis.gui.hint import Hint
from rsfm_qgis.schema import Field, asks, choice_values, combine, complete, find_option

MARK_STYLE = "color: #d55e00;"  # Okabe-Ito vermillion, readable on light and dark
FRAME_STYLE = "border: 1px solid #d55e00; border-radius: 2px;"


class Problem(NamedTuple):
    """What keeps a form from being run: the parameter's path and a sentence."""

    field: str
    sentence: str


class Form(QWidget):
    """Edits the values of some fields. Shows state; decides nothing.

    Signals:
        changed: some value is another one.
    """

    changed = pyqtSignal()

    def __init__(self, fields: tuple[Field, ...], workspace: Workspace, nested: bool = False) -> None:
        super().__init__()
        self.fields = fields
        self._parts: dict[str, Any] = {}
        self._marks: dict[str, QLabel] = {}
        self._layout = _form_layout()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addLayout(self._layout)
        advanced = [field for field in fields if field.advanced and not nested]
        for field in fields:
            if field not in advanced:
                self._add(field, workspace, self._layout)
        if advanced:
            box, layout = _folded(self.tr("More Options"))
            for field in advanced:
                self._add(field, workspace, layout)
            outer.addWidget(box)
        for part in self._parts.values():
            if isinstance(part, Editor):
                part.connect_to({name: each for name, each in self._parts.items() if isinstance(each, Editor)})
            part.changed.connect(self.changed)

    def values(self) -> dict[str, Any]:
        """Return the values, nested as the config is.

        Raises:
            InputError: a value cannot be given; its place is marked.
        """
        return self.some_values(self._parts)

    def some_values(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the values of some of its parameters, as `values` does."""
        found = {}
        for name in names:
            part = self._parts[name]
            try:
                found[name] = part.value() if isinstance(part, Editor) else part.values()
            except InputError as error:
                self.mark(name, str(error))
                raise
        return found

    def set_values(self, values: dict[str, Any]) -> None:
        """Show values; what they do not name stays as it is."""
        for name, value in values.items():
            part = self._parts[name]
            if isinstance(part, Editor):
                part.set_value(value)
            else:
                part.set_values(value or {})

    def editor(self, path: str) -> Any:
        """Find the editor, the group or the choice of a parameter, such as "tiling.tile_size"."""
        name, _, rest = path.partition(".")
        part = self._parts[name]
        return part.editor(rest) if rest else part

    def problem(self) -> Problem | None:
        """Find the first required value that is absent."""
        for name, part in self._parts.items():
            if isinstance(part, Editor):
                sentence = part.missing()
                if sentence:
                    return Problem(name, sentence)
            else:
                problem: Problem | None = part.problem()
                if problem is not None:
                    return Problem(f"{name}.{problem.field}", problem.sentence)
        return None

    def mark(self, path: str, sentence: str) -> bool:
        """Mark the wrong parameter where it is; tells whether it is in this form."""
        name, _, rest = path.partition(".")
        part = self._parts.get(name)
        if part is None:
            return False
        if rest and not isinstance(part, Editor) and part.mark(rest, sentence):
            return True
        label = self._marks[name]
        label.setText(sentence)
        label.setStyleSheet(MARK_STYLE)
        label.show()
        if isinstance(part, Editor):
            part.setObjectName("wrong")
            part.setStyleSheet(f"#wrong {{ {FRAME_STYLE} }}")
        elif isinstance(part, GroupBox):
            part.setCollapsed(False)
        self._unfold()
        return True

    def clear_marks(self) -> None:
        """Remove all marks."""
        for name, part in self._parts.items():
            if not isinstance(part, Editor):
                part.clear_marks()
            elif not self._marks[name].isHidden():
                part.setStyleSheet("")
            self._marks[name].hide()

    def first_mark(self) -> QWidget | None:
        """Return the first mark shown, to scroll to."""
        own = (label for label in self._marks.values() if not label.isHidden())
        nested = (part.first_mark() for part in self._parts.values() if not isinstance(part, Editor))
        return next(own, None) or next((mark for mark in nested if mark is not None), None)

    def _add(self, field: Field, workspace: Workspace, layout: QFormLayout) -> None:
        part = _make_part(field, workspace)
        mark = QLabel()
        mark.setWordWrap(True)
        mark.hide()
        self._parts[field.name], self._marks[field.name] = part, mark
        cell = QWidget()
        column = QVBoxLayout(cell)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(part)
        column.addWidget(mark)
        if (isinstance(part, Editor) and not part.says_its_label) or isinstance(part, ChoiceBox):
            label = QLabel(field.title)
            label.setToolTip(field.help)
            layout.addRow(label, cell)
        else:
            layout.addRow(cell)
        for box in part.findChildren(QWidget):
            if isinstance(box, (QComboBox, QSpinBox)) or hasattr(box, "textFromValue"):
                box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                box.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Let the wheel scroll the page rather than change a value that is only passed over."""
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False

    def _unfold(self) -> None:
        for label in self._marks.values():
            box = None if label.isHidden() else _folder_of(label, self)
            if box is not None:
                box.setCollapsed(False)


class GroupBox(QgsCollapsibleGroupBox):
    """A folded group of fields that belong together; its form is made when it is unfolded or needed."""

    changed = pyqtSignal()

    def __init__(self, title: str, help: str, fields: tuple[Field, ...], workspace: Workspace) -> None:
        super().__init__(title)
        self._fields, self._workspace = fields, workspace
        self._values: dict[str, Any] = {}
        self._made: Form | None = None
        self.setToolTip(help)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 2, 2)
        self.setCollapsed(True)
        self.collapsedStateChanged.connect(self._unfold)

    @property
    def form(self) -> Form:
        """The fields as a form."""
        if self._made is None:
            self._made = Form(self._fields, self._workspace, nested=True)
            self._made.set_values(self.values_kept)
            self._made.changed.connect(self.changed)
            self.layout().addWidget(self._made)
        return self._made

    @property
    def values_kept(self) -> dict[str, Any]:
        """What was said before there was a form, with the defaults."""
        return complete(self._fields, self._values)

    def values(self) -> dict[str, Any]:
        """Return the values; those of a form that was never seen are what it would show."""
        return self.values_kept if self._made is None else self._made.values()

    def set_values(self, values: dict[str, Any]) -> None:
        """Show values; what they do not name stays as it is."""
        if self._made is not None:
            self._made.set_values(values)
            return
        before, self._values = self._values, combine(self._fields, self._values, values)
        if self._values != before:
            self.changed.emit()

    def editor(self, path: str) -> Any:
        """Find the editor of a parameter."""
        return self.form.editor(path)

    def problem(self) -> Problem | None:
        """Find the first required value that is absent."""
        return self.form.problem() if self._made is not None or asks(self._fields) else None

    def mark(self, path: str, sentence: str) -> bool:
        """Mark the wrong parameter, and unfold."""
        found = self.form.mark(path, sentence)
        if found:
            self.setCollapsed(False)
        return found

    def clear_marks(self) -> None:
        """Remove all marks."""
        if self._made is not None:
            self._made.clear_marks()

    def first_mark(self) -> QWidget | None:
        """Return the first mark shown."""
        return self._made.first_mark() if self._made is not None else None

    def _unfold(self, is_collapsed: bool) -> None:
        if not is_collapsed:
            self.form.show()


class ChoiceBox(QWidget):
    """A combo box of options, a sentence on the chosen one, and its own fields."""

    changed = pyqtSignal()

    def __init__(self, field: Field, workspace: Workspace) -> None:
        super().__init__()
        self._field, self._workspace = field, workspace
        self._groups: dict[str, GroupBox] = {}
        self.combo = shrinkable(QComboBox())
        for option in field.options:
            self.combo.addItem(option.title, option.name)
        self._help = Hint()
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._layout.addWidget(self.combo)
        self._layout.addWidget(self._help)
        self._layout.addStretch()
        self.combo.currentIndexChanged.connect(self._choose)
        self.set_values(choice_values(field, field.default or {}))
        self._choose()

    def values(self) -> dict[str, Any]:
        """Return the chosen name with its values."""
        group = self._groups.get(self._name())
        return {"name": self._name(), **(group.values() if group else {})}

    def set_values(self, values: dict[str, Any]) -> None:
        """Choose an option by name, and show its values."""
        option = find_option(self._field, values.get("name", self._name()))
        self.combo.setCurrentIndex(self.combo.findData(option.name))
        group = self._group(option.name)
        if group is not None:
            group.set_values({name: value for name, value in values.items() if name != "name"})

    def editor(self, path: str) -> Any:
        """Find an editor of the chosen option."""
        return self if path == "name" else self._groups[self._name()].editor(path)

    def problem(self) -> Problem | None:
        """Find the first required value that is absent."""
        group = self._groups.get(self._name())
        return group.problem() if group else None

    def mark(self, path: str, sentence: str) -> bool:
        """Mark a parameter of the chosen option; its name may stand before it."""
        name, _, rest = path.partition(".")
        group = self._groups.get(self._name())
        return bool(group and group.mark(rest if name == self._name() and rest else path, sentence))

    def clear_marks(self) -> None:
        """Remove all marks."""
        for group in self._groups.values():
            group.clear_marks()

    def first_mark(self) -> QWidget | None:
        """Return the first mark shown."""
        group = self._groups.get(self._name())
        return group.first_mark() if group else None

    def _name(self) -> str:
        return str(self.combo.currentData())

    def _group(self, name: str) -> GroupBox | None:
        """Make the fields of an option when it is chosen for the first time; None where it has none."""
        option = find_option(self._field, name)
        if name not in self._groups and option.fields:
            group = GroupBox(self.tr("Options"), option.help, option.fields, self._workspace)
            group.set_values(complete(option.fields, {}))
            group.changed.connect(self.changed)
            self._groups[name] = group
            self._layout.insertWidget(self._layout.count() - 1, group)
        return self._groups.get(name)

    def _choose(self, _index: int = 0) -> None:
        chosen = self._group(self._name())
        for group in self._groups.values():
            group.setVisible(group is chosen)
        self._help.setText(find_option(self._field, self._name()).help.partition("\n")[0])
        self.changed.emit()


def _make_part(field: Field, workspace: Workspace) -> Any:
    if field.kind == "group":
        group = GroupBox(field.title, field.help, field.fields, workspace)
        group.set_values(complete((field,), {})[field.name])
        return group
    return ChoiceBox(field, workspace) if field.kind == "choice" else make_editor(field, workspace)


def _form_layout() -> QFormLayout:
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setVerticalSpacing(4)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
    return layout


def _folded(title: str) -> tuple[QgsCollapsibleGroupBox, QFormLayout]:
    box = QgsCollapsibleGroupBox(title)
    layout = _form_layout()
    layout.setContentsMargins(6, 2, 2, 2)
    box.setLayout(layout)
    box.setCollapsed(True)
    return box, layout


def _folder_of(widget: QWidget, top: QWidget) -> QgsCollapsibleGroupBox | None:
    """Find the folded box around a widget, within a form."""
    parent = widget.parentWidget()
    while parent is not None and parent is not top:
        if isinstance(parent, QgsCollapsibleGroupBox):
            return parent
        parent = parent.parentWidget()
    return None
