"""What the plugin must know of the backend, as JSON: the jobs with their parameters, and what the numbers of runs mean.

Nothing in it is decided by a machine. `make schema` writes it into the plugin, so that forms and toolbox exist before
the backend is installed.
"""

import inspect
from typing import Any

from rsfm import PROTOCOL, __version__, jobs, methods, registry
from rsfm.curves import MEANINGS
from rsfm.job import Job
from rsfm.method import Method


def describe() -> dict[str, Any]:
    """Describe all jobs, in the order of their pages; the order of a schema's properties is the order of the form."""
    found = registry.members(jobs, Job)  # type: ignore[type-abstract]
    found = dict(sorted(found.items(), key=lambda entry: entry[1].rank))
    return {
        "protocol": PROTOCOL,
        "version": __version__,
        "jobs": {name: describe_job(job) for name, job in found.items()},
        "measures": {name: meaning._asdict() for name, meaning in MEANINGS.items()},
    }


def describe_job(job: type[Job]) -> dict[str, Any]:
    """Describe one job: its words, its parameters as JSON Schema, its presets."""
    help = inspect.cleandoc(job.Config.__doc__ or "")
    return {
        "title": job.title,
        "page": job.page,
        "summary": help.splitlines()[0] if help else "",
        "help": help,
        "presets": [preset._asdict() for preset in job.presets()],
        "schema": _with_titles(job.Config.model_json_schema()),
    }


def _with_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Call the methods in a schema what their authors call them, in place of the names of their classes."""
    for method in registry.members(methods, Method).values():  # type: ignore[type-abstract]
        definition = schema.get("$defs", {}).get(method.Config.__name__)
        if definition is not None:
            definition["title"] = method.title
    return schema
