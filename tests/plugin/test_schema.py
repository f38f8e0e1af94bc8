"""schema.json becomes fields; nothing of it is lost, and no parameter is known to the plugin by name."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from rsfm_qgis import schema

SCHEMA = json.loads(schema.SCHEMA.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCHEMA["jobs"])
def test_every_property_becomes_a_field_in_the_order_of_declaration(name):
    properties = SCHEMA["jobs"][name]["schema"]["properties"]
    assert [field.name for field in schema.jobs()[name].fields] == list(properties)


@pytest.mark.parametrize("name", SCHEMA["jobs"])
def test_every_field_has_an_editor_and_a_sentence(name):
    editors = {path.stem for path in (ROOT / "rsfm_qgis" / "gui" / "editors").glob("*.py")}

    def check(fields):
        for field in fields:
            assert field.kind in editors | {"group", "choice"}, field
            assert field.help, field.name
            check(field.fields)
            for option in field.options:
                assert option.help
                check(option.fields)

    check(schema.jobs()[name].fields)


def test_choice_of_several_and_choice_of_one_are_both_choices():
    one = {"title": "OneConfig", "properties": {"name": {"const": "one", "default": "one"}, "a": {"type": "integer"}}}
    two = {"title": "TwoConfig", "properties": {"name": {"const": "two", "default": "two"}, "b": {"type": "number"}}}
    several = {"oneOf": [{"$ref": "#/$defs/One"}, {"$ref": "#/$defs/Two"}], "discriminator": {"propertyName": "name"}}
    config = {
        "$defs": {"One": one, "Two": two},
        "properties": {"several": {**several, "default": {"name": "two"}}, "single": {"$ref": "#/$defs/One"}},
    }
    several_field, single_field = schema.read_fields(config)
    assert [option.name for option in several_field.options] == ["one", "two"]
    assert [option.title for option in single_field.options] == ["One"]
    assert [field.name for field in several_field.options[1].fields] == ["b"]


def test_values_of_a_choice_never_mix_two_options():
    config = {
        "$defs": {
            "One": {"properties": {"name": {"const": "one"}, "size": {"type": "integer", "default": 1}}},
            "Two": {"properties": {"name": {"const": "two"}, "size": {"type": "integer", "default": 2}}},
        },
        "properties": {
            "pick": {
                "oneOf": [{"$ref": "#/$defs/One"}, {"$ref": "#/$defs/Two"}],
                "discriminator": {"propertyName": "name"},
                "default": {"name": "one", "size": 7},
            }
        },
    }
    fields = schema.read_fields(config)
    assert schema.complete(fields, {}) == {"pick": {"name": "one", "size": 7}}
    assert schema.complete(fields, {"pick": {"name": "two"}}) == {"pick": {"name": "two", "size": 2}}
    assert schema.complete(fields, {"pick": {"name": "two", "size": 5}}) == {"pick": {"name": "two", "size": 5}}


def test_optional_number_knows_its_bounds():
    entry = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}], "default": None}
    (field,) = schema.read_fields({"properties": {"steps": entry}})
    assert (field.kind, field.optional, field.minimum, field.maximum, field.decimals) == ("number", True, 1, 9, 0)


def test_schema_is_read_without_qt():
    code = "import sys; import rsfm_qgis.schema as s; s.jobs(); sys.exit(any('PyQt' in name for name in sys.modules))"
    assert subprocess.run(["/usr/bin/python3", "-c", code], cwd=ROOT, check=False).returncode == 0


def test_plugin_says_the_protocol_of_the_schema():
    assert SCHEMA["protocol"] == schema.PROTOCOL
    assert Path(schema.SCHEMA).parent.name == "rsfm_qgis"


def _field(name, kind="number", required=False, fields=(), options=(), default=None):
    return schema.Field(
        name, name, "help", kind, default, required, False, False, "", None, None, None, 0, (), fields, options, {}
    )


INNER = _field("inner", "group", fields=(_field("a"), _field("b")))
CHOICE = _field(
    "choice", "choice", default={"name": "one"},
    options=(schema.Option("one", "One", "", (_field("c"),)), schema.Option("two", "Two", "", (_field("d"),))),
)  # fmt: skip


@pytest.mark.parametrize(
    ("known", "said", "both"),
    [
        ({"inner": {"a": 1}}, {"inner": {"b": 2}}, {"inner": {"a": 1, "b": 2}}),
        ({"inner": {"a": 1}}, {"other": 3}, {"inner": {"a": 1}, "other": 3}),
        ({"choice": {"c": 1}}, {"choice": {"name": "one"}}, {"choice": {"name": "one", "c": 1}}),
        ({"choice": {"name": "one", "c": 1}}, {"choice": {"name": "two"}}, {"choice": {"name": "two"}}),
        ({"choice": {"name": "two", "d": 1}}, {"choice": {"d": 2}}, {"choice": {"name": "two", "d": 2}}),
    ],
)
def test_what_is_said_later_is_put_over_what_was_said_group_by_group(known, said, both):
    assert schema.combine((INNER, CHOICE), known, said) == both


def test_a_required_parameter_is_found_in_groups_and_options():
    needed = _field("needed", required=True)
    assert not schema.asks((INNER, CHOICE))
    assert schema.asks((_field("group", "group", fields=(needed,)),))
    assert schema.asks((_field("choice", "choice", options=(schema.Option("one", "One", "", (needed,)),)),))
