"""docs/configuration.md names every key of the settings, and only those, with the real defaults."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from headgate.config import settings
from headgate.config.load import parse_settings

from .source import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \|[^|]*\|([^|]*)\|", re.MULTILINE)


def _section(title: str) -> dict[str, str]:
    """The keys of a section of the page and what its default column says."""
    text = re.split(rf"^## {title}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]
    return {key: default.strip() for key, default in ROW.findall(text)}


SECTIONS: dict[str, tuple[list[type[BaseModel]], set[str]]] = {
    "The file": ([settings.GateSettings], set()),
    "server": ([settings.ServerSettings], set()),
    "workers": ([settings.WorkerSettings], set()),
    "background": ([settings.BackgroundSettings], set()),
    "lanes": ([settings.LaneSettings], set()),
    "preemption": ([settings.PreemptionSettings], set()),
    "budget": ([settings.FleetBudget], set()),
    "limits": ([settings.LimitRule], set()),
    "tenants": ([settings.TenantSettings], set()),
    "tools, models and stages": ([settings.ModelSettings], {"queue", "breaker", "retry", "stale"}),
    "plain": ([settings.PlainSettings], set()),
    "pause_when": ([settings.PauseWhen], {"until"}),
    "workflows": (
        [settings.WorkflowSettings, settings.LoopSettings, settings.DegradeStep],
        {"queue", "budget", "expects", "duplicates", "delay"},
    ),
    "approvals": ([settings.ApprovalSettings], set()),
}
"""Title → whose keys it lists, and which of them are spread out with a dot."""


def _keys(model: type[BaseModel], spread: set[str]) -> dict[str, Any]:
    """Dotted key → default; ``...`` for a required one."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = field.default
        if name in spread:
            found.update({f"{name}.{key}": value for key, value in _keys(type(inner), set()).items()})
        else:
            found[name] = ... if field.is_required() else inner
    return found


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_is_listed(title: str) -> None:
    models, spread = SECTIONS[title]
    expected = {key for model in models for key in _keys(model, spread)}
    heading = {"breaker"} if "breaker" in spread else set()
    assert set(_section(title)) - heading == expected


@pytest.mark.parametrize("title", SECTIONS)
def test_defaults_are_the_real_ones(title: str) -> None:
    models, spread = SECTIONS[title]
    told = _section(title)
    for model in models:
        for key, default in _keys(model, spread).items():
            words = told[key]
            if default is ...:
                assert words == "required", key
            elif default is None:
                assert words == "–", key
            elif isinstance(default, BaseModel) or key == "lanes":
                assert "`" not in words, key
            else:
                assert _read(model, key, words) == default, key


def _read(model: type[BaseModel], key: str, words: str) -> Any:
    value = yaml.safe_load(words.strip("`"))
    first, _, second = key.partition(".")
    inner = type(model.model_fields[first].default) if second else model
    name = second or first
    annotation = inner.model_fields[name].rebuild_annotation()
    return TypeAdapter(annotation).validate_python(tuple(value) if value == [] else value)


def test_every_settings_class_has_its_section() -> None:
    spread = {settings.WaitQueueSettings, settings.BreakerSettings, settings.RetrySettings, settings.RunQueueSettings}
    spread |= {settings.DelaySettings, settings.DuplicateSettings}
    spread |= {settings.PauseUntil, settings.ExpectedCost, settings.LimitAmounts}
    spread |= {settings.StaleSettings, settings.RunBudget, settings.ResourceSettings, settings.Settings}
    told = {model for models, _ in SECTIONS.values() for model in models}
    every = {
        value for value in vars(settings).values() if isinstance(value, type) and issubclass(value, settings.Settings)
    }
    assert every == told | spread


def test_the_example_is_valid() -> None:
    example = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(example) == 1
    assert parse_settings(example[0]).models["large"].fallback == ("small",)
