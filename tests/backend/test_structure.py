"""The architecture, kept by reading the code: who may import whom, how long things may be, what is generated."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from rsfm.describe import describe

ROOT = Path(__file__).parents[2]
BACKEND = ROOT / "backend" / "rsfm"
PLUGIN = ROOT / "rsfm_qgis"
FOLDERS = [
    "methods",
    "encoders",
    "heads",
    "magnitudes",
    "sources",
    "outputs",
    "jobs",
    "goldens",
    "importers",
    "exporters",
    "sections",
    "differences/change_heads",
]
STANDARD_LIBRARY_OF_THE_PLUGIN = {"qgis", "rsfm_qgis"}
FORBIDDEN_IN_THE_PLUGIN = {"subprocess", "urllib", "http", "socket", "pickle", "marshal"}


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py") if ".venv" not in path.parts)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", python_files(BACKEND), ids=lambda path: str(path.relative_to(BACKEND)))
def test_backend_never_imports_qgis(path):
    assert not {name for name in imports(path) if name.split(".")[0] in {"qgis", "PyQt5", "PyQt6", "rsfm_qgis"}}


@pytest.mark.parametrize("path", python_files(PLUGIN), ids=lambda path: str(path.relative_to(PLUGIN)))
def test_plugin_imports_the_standard_library_and_qgis_only(path):
    import sys

    roots = {name.split(".")[0] for name in imports(path)}
    assert roots <= set(sys.stdlib_module_names) | STANDARD_LIBRARY_OF_THE_PLUGIN
    assert not roots & FORBIDDEN_IN_THE_PLUGIN
    names = imports(path)
    assert not {name for name in names if name.startswith(("qgis.PyQt5", "PyQt"))}


def test_plugin_has_no_assert_and_no_silent_except():
    for path in python_files(PLUGIN):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            if isinstance(node, ast.ExceptHandler):
                assert not (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)), f"{path}:{node.lineno}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_member_of_a_folder_never_imports_another_member(folder):
    members = {path.stem for path in (BACKEND / folder).glob("*.py")} - {"__init__"}
    for path in (BACKEND / folder).glob("*.py"):
        package = folder.replace("/", ".")
        others = {f"rsfm.{package}.{member}" for member in members - {path.stem}}
        assert not imports(path) & others, path.name


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("raster", ("torch", "rsfm.training", "rsfm.methods", "rsfm.encoders", "rsfm.blocks", "rsfm.inference")),
        ("blocks", ("rsfm.training", "rsfm.methods", "rsfm.encoders", "rsfm.heads", "rsfm.jobs", "rsfm.inference")),
        ("methods", ("rsfm.training", "rsfm.inference", "rsfm.raster", "rsfm.jobs", "lightning_fabric")),
        ("encoders", ("rsfm.training", "rsfm.inference", "rsfm.raster", "rsfm.jobs", "rsfm.methods")),
    ],
)
def test_arrows_point_one_way(folder, forbidden):
    for path in (BACKEND / folder).rglob("*.py"):
        found = {name for name in imports(path) for rule in forbidden if name == rule or name.startswith(rule + ".")}
        allowed = {"rsfm.raster.statistics", "rsfm.raster.statistics.Statistics"} if folder == "blocks" else set()
        assert not found - allowed, f"{path.name} imports {found}"


@pytest.mark.parametrize("name", ["server", "runs", "describe", "errors", "cli", "worker", "registry"])
def test_server_side_imports_nothing_heavy(name):
    heavy = {"torch", "numpy", "rasterio", "timm"}
    tree = ast.parse((BACKEND / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert module.split(".")[0] not in heavy


def test_files_and_functions_stay_under_the_ceilings():
    for path in python_files(BACKEND, PLUGIN, ROOT / "tests", ROOT / "benchmarks", ROOT / "scripts"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def test_schema_of_the_plugin_is_what_the_backend_describes():
    written = json.loads((PLUGIN / "schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(describe())), "stale: run `make schema`"


def numbers(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    if isinstance(schema, dict):
        if schema.get("type") in {"integer", "number"} and "const" not in schema:
            found.append((path, schema))
        for key, value in schema.items():
            found += numbers(value, f"{path}/{key}")
    return found


def test_every_number_of_a_form_has_both_bounds_and_every_field_a_description():
    for name, job in describe()["jobs"].items():
        for path, schema in numbers(job["schema"]):
            assert {"minimum", "maximum"} <= set(schema), f"{name}{path}"
        definitions = [job["schema"], *job["schema"].get("$defs", {}).values()]
        for definition in definitions:
            for field, schema in definition.get("properties", {}).items():
                if "const" not in schema:
                    assert schema.get("description"), f"{name}: {field}"


def test_presets_of_every_job_are_valid_configs():
    from rsfm import jobs, registry
    from rsfm.job import Job

    found = registry.members(jobs, Job)
    checked = 0
    for job in found.values():
        for preset in job.presets():
            given = {"raster": "a.tif", "rasters": ["a.tif"], "boxes": "a.gpkg", "labels": "a.gpkg"}
            given |= {"before": "a.tif", "after": "b.tif", "changes": "a.gpkg"}
            required = {name: given[name] for name, field in job.Config.model_fields.items() if field.is_required()}
            job.Config.model_validate({**preset.values, **required})
            checked += 1
    assert checked >= 4
