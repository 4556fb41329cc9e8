"""What would be in force if nothing were set by hand, beside what is."""

from __future__ import annotations

from headgate.config.settings import GateSettings, LimitAmounts, ModelSettings
from headgate.config.units import Rate
from headgate.controls.targets import numbers_of
from headgate.model.control import Control, ControlKind, rate_words

NO_LIMIT = "none"
_ORDER = ("limit", "rate", "model_tokens", "depth", "max_age", "share", "weight", "shed_at")


def declared_words(control: Control, settings: GateSettings) -> str | None:
    """The declared numbers in the place of which an override stands, in words such as ``limit 8, rate 100/min``;
    ``None`` for pauses, and for what only exists in code."""
    if control.kind is ControlKind.PAUSE:
        return None
    known, set_by_hand = _of(control.target, settings), numbers_of(control)
    words = [f"{name.replace('_', ' ')} {known[name]}" for name in _ORDER if name in known and name in set_by_hand]
    return ", ".join(words) or None


def _of(target: str, settings: GateSettings) -> dict[str, str]:
    what, _, name = target.partition(":")
    if what == "lane" and name in settings.lanes:
        lane = settings.lanes[name]
        share = "what is left" if lane.share is None else f"{100 * lane.share:g}%"
        return {"share": share, "depth": _number(lane.depth), "max_age": _seconds(lane.max_wait)}
    if what == "workflow" and name in settings.workflows:
        queue = settings.workflows[name].queue
        return {"depth": _number(queue.depth), "max_age": _seconds(queue.max_age)}
    if what == "tenant":
        return {"weight": _number(settings.tenants[name].weight if name in settings.tenants else 1.0)}
    if what == "fleet":
        return {"shed_at": f"{100 * settings.shed_at:g}%"}
    if what == "budget":
        value = getattr(settings.budget, name, None)
        return {"rate": _rate(value)} if isinstance(value, Rate) else {"limit": _number(value)}
    return _limit(name, settings) if what == "limit" else _resource(name, settings)


def _resource(name: str, settings: GateSettings) -> dict[str, str]:
    declared = {**settings.tools, **settings.models, **settings.stages}.get(name)
    if declared is None:
        return {}
    wide = declared.concurrency
    limit = str(wide.most) if wide.least == wide.most else f"{wide.least}..{wide.most}"
    tokens = declared.model_tokens if isinstance(declared, ModelSettings) else None
    return {"limit": limit, "rate": _rate(declared.rate), "model_tokens": _rate(tokens)}


def _limit(name: str, settings: GateSettings) -> dict[str, str]:
    name, _, tenant = name.partition("@")
    rule = next((one for one in settings.limits if one.name == name), None)
    if rule is None:
        return {}
    own = settings.tenants[tenant].limits.get(name) if tenant in settings.tenants else None
    amounts, own = rule.amounts, own or LimitAmounts()
    rates = {**amounts.rates, **own.rates}
    first = next((rates[unit] for unit in amounts.rates), None)
    return {
        "limit": _number(own.concurrent or amounts.concurrent),
        "rate": _rate(first),
        "model_tokens": _rate(rates.get("model_tokens")),
    }


def _rate(rate: Rate | None) -> str:
    return NO_LIMIT if rate is None else rate_words(rate.amount, rate.window_s)


def _number(value: float | None) -> str:
    return NO_LIMIT if value is None else f"{value:.10g}"


def _seconds(value: float | None) -> str:
    return NO_LIMIT if value is None else f"{value:g}s"
