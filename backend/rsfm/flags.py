"""The flags of a job's command line, made from its config by pydantic-settings."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from rsfm.errors import UserError
from rsfm.job import Job
from rsfm.worker import user_error


class Flags(NamedTuple):
    """A parsed command line: values of the config, folder of the run, whether events are printed as JSON.

    Attributes:
        wait: for a device that other runs use.
    """

    values: dict[str, Any]
    run: Path | None
    json: bool
    wait: bool


def read_flags(job: type[Job], arguments: list[str]) -> Flags:
    """Read the command line of a job; `--preset` gives values that the other flags change.

    Raises:
        UserError: a flag that does not fit.
        SystemExit: for --help and unknown flags.
    """
    arguments = list(arguments)
    as_json, wait = "--json" in arguments, "--no-wait" not in arguments
    arguments = [argument for argument in arguments if argument not in {"--json", "--no-wait"}]
    run, preset = _take(arguments, "--run"), _take(arguments, "--preset")
    base = _preset(job, preset)
    return Flags(_merge(base, _parse(job, arguments)), Path(run) if run else None, as_json, wait)


def _parse(job: type[Job], arguments: list[str]) -> dict[str, Any]:
    """Return only what was said on the command line: defaults are the config's own affair."""
    settings = SettingsConfigDict(cli_prog_name=f"rsfm {job.name}", cli_kebab_case=True, extra="allow", frozen=False)
    made = create_model("Flags", __base__=(job.Config, BaseSettings), __doc__=_help(job))
    model = cast(type[BaseSettings], made)
    model.model_config.update(settings)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(model, cli_parse_args=arguments)
    except ValidationError as error:
        raise user_error(error) from error
    return dict(source())


def _help(job: type[Job]) -> str:
    presets = "\n".join(f"--preset {preset.name}: {preset.help}" for preset in job.presets())
    general = "--run DIR: folder of the run. --json: print events as JSON lines. --no-wait: not behind other runs."
    return "\n\n".join(part for part in (job.Config.__doc__, presets, general) if part)


def _preset(job: type[Job], name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    known = {preset.name: preset.values for preset in job.presets()}
    if name not in known:
        raise UserError(f"There is no preset '{name}'. Known presets: {', '.join(known) or 'none'}.")
    return known[name]


def _take(arguments: list[str], flag: str) -> str | None:
    """Take a flag and its value out of the arguments."""
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            del arguments[index]
            return arguments.pop(index)
        if argument.startswith(flag + "="):
            return arguments.pop(index).partition("=")[2]
    return None


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay values over others; a choice that names another member starts from that member's own defaults."""
    merged = dict(base)
    for name, value in changes.items():
        under = merged.get(name)
        if (
            isinstance(value, dict)
            and isinstance(under, dict)
            and value.get("name", under.get("name")) == under.get("name")
        ):
            merged[name] = _merge(under, value)
        else:
            merged[name] = value
    return merged
