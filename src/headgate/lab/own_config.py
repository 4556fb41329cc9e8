"""A scenario played with somebody's own ``headgate.yaml`` in place of the one it brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from headgate.config.load import load_settings
from headgate.config.settings import GateSettings
from headgate.errors import ConfigError
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.references import people_missing
from headgate.lab.scenario.users import WORKFLOW

OWN_SCENARIO = "a scenario file of your own names your dependencies: docs/how-to/test-your-limits.md"
YAML = (".yaml", ".yml")


def with_config(scenario: Scenario, config: str | Path, *, workflow: str | None = None) -> Scenario:
    """The scenario with the settings of the file ``config``; see `with_settings`.

    Raises:
        ConfigError: the file has mistakes, or does not declare what the scenario needs.
    """
    return with_settings(scenario, load_settings(config), str(config), workflow=workflow)


def with_settings(
    scenario: Scenario, settings: GateSettings, filename: str, *, workflow: str | None = None
) -> Scenario:
    """The scenario with other settings. They must declare the resources and lanes that its runs use. The runs have
    the settings of ``workflow``; by default those of ``agent``, or of the only workflow there is.

    Raises:
        ConfigError: something is missing; each line says what, and what there is instead.
    """
    problems = _missing(scenario, settings, filename)
    chosen = workflow or workflow_of(settings)
    if chosen is None:
        known = ", ".join(settings.workflows)
        problems.append(f"{filename}: has several workflows ({known}); say which one the runs are: --workflow NAME")
    elif workflow is not None and workflow not in settings.workflows:
        known = ", ".join(settings.workflows) or "none"
        problems.append(f"{filename}: declares no workflow {workflow!r}; it has: {known}")
    if problems:
        raise ConfigError(problems)
    if chosen in settings.workflows and chosen != WORKFLOW:
        settings = settings.model_copy(
            update={"workflows": {**settings.workflows, WORKFLOW: settings.workflows[chosen]}}
        )
    values = {name: getattr(scenario, name) for name in Scenario.model_fields} | {"headgate": settings}
    try:
        found = Scenario.model_validate(values)
    except ValidationError as error:
        told = [one["msg"].removeprefix("Value error, ") for one in error.errors()]
        raise _misfit(scenario, filename, told) from error
    if told := [words for _, words in people_missing(found)]:
        raise _misfit(scenario, filename, told)
    return found


def _misfit(scenario: Scenario, filename: str, told: Sequence[str]) -> ConfigError:
    return ConfigError([f"{filename}: does not fit scenario {scenario.name}: {one}" for one in told])


def workflow_of(settings: GateSettings) -> str | None:
    """Whose settings the runs of a scenario have: those of ``agent``, or of the only workflow there is; ``None`` if
    that is not clear."""
    names = list(settings.workflows)
    if WORKFLOW in names or not names:
        return WORKFLOW
    return names[0] if len(names) == 1 else None


def workflow_in(config: str | Path | None, workflow: str | None) -> str:
    """How the configuration that is played calls the runs' workflow: ``workflow``, or what `workflow_of` finds in the
    file ``config``; ``agent`` without a file.

    Raises:
        ConfigError: the file has mistakes.
    """
    if workflow is not None or config is None:
        return workflow or WORKFLOW
    return workflow_of(load_settings(config)) or WORKFLOW


def _missing(scenario: Scenario, settings: GateSettings, filename: str) -> list[str]:
    problems: list[str] = []
    for name, one in scenario.dependencies.items():
        section = "models" if one.kind == "model" else "tools"
        known = settings.models if one.kind == "model" else settings.tools
        if name not in known:
            there = ", ".join(known) or "none"
            problems.append(
                f"{filename}: declares no {one.kind} {name!r}, which scenario {scenario.name} calls "
                f"({section} there: {there})"
            )
    problems += [
        f"{filename}: has no lane {lane!r}, in which scenario {scenario.name} submits runs "
        f"(lanes there: {', '.join(settings.lanes)})"
        for lane in scenario.lanes
        if lane not in settings.lanes
    ]
    return [*problems, OWN_SCENARIO] if problems else []
