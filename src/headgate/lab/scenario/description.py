"""What a scenario file may say. Strict: a mistake is told as ``file:line:column: message``."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from headgate.config.document import LARGEST_BYTES, Document, Unreadable, read_document
from headgate.config.fields import Count, Name, Names, Settings
from headgate.config.schema import without_emptiness
from headgate.config.settings import GateSettings
from headgate.config.units import Amount, Flag, Number, Seconds, Share, Whole
from headgate.config.words import complaints, did_you_mean
from headgate.errors import ConfigError
from headgate.lab.scenario.behaviours import Answerers, Behaviours, Restarts
from headgate.lab.scenario.references import check_references

Positive = Annotated[Number, Field(gt=0, le=1_000_000)]
Times = Annotated[Number, Field(ge=0, le=1_000)]
Luck = Annotated[Number, Field(ge=0, le=1)]
Fault = Literal["mixed", "500", "503", "529", "429", "hang", "reset", "empty", "malformed", "slow_start"]
Moment = Annotated[float, Field(ge=0, le=86_400)]
"""Seconds after the start: a plain number, because durations of the configuration cannot be nothing."""


class Dependency(Settings):
    """One dependency of the simulated world; see `headgate.lab.provider.physics.ModelSpec`."""

    kind: Literal["model", "tool"]
    parallel: Count
    """Calls that advance at full speed: its knee."""
    most: Count
    """Calls in flight beyond which it answers 429."""
    takes: Seconds = 0.05
    """What every call takes alone, whatever its size."""
    reads: Positive = 100_000.0
    """Prompt model tokens read per second."""
    writes: Positive = 600.0
    """Model tokens written per second."""
    noise: Annotated[Number, Field(ge=0, le=3)] = 0.3
    """Sigma of the lognormal noise on a call's work."""
    thrash: Annotated[Number, Field(ge=0, le=10)] = 0.2
    """Speed lost per ``parallel`` calls too many."""
    requests_per_min: Amount | None = None
    tokens_per_min: Amount | None = None
    price_per_1k: Positive | None = None
    """Money for 1000 model tokens."""
    goes_on: Flag = True
    """Whether work goes on after its caller went away."""
    in_place_of: Name | None = None
    """The model that this one can stand in for: the bound counts both capacities together."""


class Stretch(Settings):
    """From one moment to a later one."""

    since: Moment
    until: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since >= self.until:
            raise ValueError(f"since ({self.since:g}) must be before until ({self.until:g})")
        return self


class Trouble(Stretch):
    """A stretch in which dependencies do badly; several may overlap."""

    on: Annotated[Names, Field(min_length=1)]
    capacity: Share = 1.0
    """Part of the capacity that is left."""
    slow: Annotated[Number, Field(ge=1, le=1000)] = 1.0
    errors: Luck = 0.0
    fault: Fault = "mixed"
    stalled: Flag = False


class LaneTraffic(Settings):
    """What the runs of one lane are."""

    part: Luck
    """Part of all runs."""
    deadline: Seconds
    value: Positive
    """What a run is worth that finishes in time."""


class Change(Stretch):
    """A stretch with another rate of arrivals."""

    times: Times
    """As many runs as otherwise, times this."""
    tenants: Names = ()
    """Only these; empty is all."""
    lane: Name | None = None
    """Only runs of this lane."""


class Bursts(Settings):
    """A rate that jumps between two levels at random (a Markov-modulated Poisson process of two states)."""

    times: Positive
    """The rate in a burst, as a multiple of the rate outside."""
    lasts: Seconds
    pause: Seconds


class Herd(Settings):
    """Many at the same moment."""

    at: Moment
    runs: Count
    within: Seconds = 1.0
    lane: Name | None = None
    """All of them in this lane; by the lanes' parts without it."""


class Tenants(Settings):
    """Who asks."""

    count: Annotated[Whole, Field(ge=1, le=10_000)] = 20
    skew: Annotated[Number, Field(ge=0, le=3)] = 0.0
    """Zipf exponent: 0 is equal parts."""
    users: Count = 5
    """People in each tenant."""


class Traffic(Settings):
    """How many runs come, and when."""

    load: Positive
    """Runs per second as a multiple of what the bottleneck of the undisturbed world carries."""
    shape: Literal["poisson", "trace"] = "poisson"
    """``trace``: arrivals, sessions and sizes of the shipped hour of conversations."""
    changes: tuple[Change, ...] = ()
    bursts: Bursts | None = None
    herds: tuple[Herd, ...] = ()
    day: Seconds | None = None
    """Length of a day: the rate swings by ``swing`` around its mean once in so long."""
    swing: Luck = 0.0


class Calls(Settings):
    """What one run does."""

    shape: Literal["mixed", "agent"] = "mixed"
    """``mixed``: ``least`` to ``most`` calls, models and tools in turn. ``agent``: drawn from ``agent_shape.json``,
    played ``pace`` times as fast."""
    least: Count = 3
    most: Count = 12
    pace: Positive = 10.0
    repairs: Annotated[Whole, Field(ge=0, le=20)] = 0
    """When what a tool gave is unusable, a model is asked to repair the request and the tool is called again, so many
    times; then the run fails."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 3 <= self.least <= self.most <= 400:
            raise ValueError("least and most are whole numbers with 3 <= least <= most <= 400")
        return self


class Users(Settings):
    """What people do when they are refused, and how long they stay."""

    polite: Luck = 0.5
    """Part that comes back when it was told to, if that still helps, up to ``tries`` times."""
    rude: Luck = 0.1
    """Part that comes back every second, whatever it was told."""
    tries: Count = 3
    impatient: Luck = 0.0
    """Part that goes away (and cancels) after ``patience`` of its deadline."""
    patience: Share = 0.5

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if self.polite + self.rude > 1:
            raise ValueError("polite and rude are parts of all people and cannot be more than 1 together")
        return self


class Goal(Settings):
    """What must come out, over all seeds."""

    measure: Name
    at_least: Number | None = None
    at_most: Number | None = None
    of: Literal["mean", "worst"] = "mean"

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a goal needs either at_least or at_most")
        return self

    def met(self, value: float) -> bool:
        """Whether ``value`` reaches the goal; not a number never does."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most


def _by_queue(given: object) -> object:
    """``people: {count: 1}`` leaves out whom the question goes to, which the mistake should say."""
    if isinstance(given, dict) and any(
        key in Answerers.model_fields and not isinstance(value, dict | Answerers) for key, value in given.items()
    ):
        raise ValueError("name the approval queue first, for example people: {managers: {count: 1, takes: 5s}}")
    return given


class Scenario(Settings):
    """One file of ``lab/scenarios``."""

    name: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    seconds: Seconds
    """How long runs arrive; then those that were accepted are waited for."""
    warm_up: Moment = 0.0
    """Runs that come before are played but not scored."""
    recovered_from: Moment | None = None
    """When the last trouble ends; from here the return to normal is timed."""
    dependencies: Annotated[dict[Name, Dependency], Field(min_length=1)]
    troubles: tuple[Trouble, ...] = ()
    lanes: Annotated[dict[Name, LaneTraffic], Field(min_length=1)]
    tenants: Tenants = Tenants()
    traffic: Traffic
    calls: Calls = Calls()
    users: Users = Users()
    behaviours: Behaviours = Behaviours()
    people: Annotated[dict[Name, Answerers], BeforeValidator(_by_queue), Field(default_factory=dict)]
    """Queue → who answers its questions."""
    gates: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Processes that take in and carry out runs, on one store."""
    restarts: Restarts | None = None
    headgate: GateSettings
    """The configuration, as its users would write it."""
    goals: tuple[Goal, ...] = ()

    @model_validator(mode="after")
    def _parts_are_all(self) -> Self:
        if abs(sum(lane.part for lane in self.lanes.values()) - 1) > 1e-6:
            raise ValueError("the lanes' parts must add up to 1")
        return self

    @model_validator(mode="after")
    def _models_and_gates_are_there(self) -> Self:
        models = [name for name, one in self.dependencies.items() if one.kind == "model" and one.in_place_of is None]
        if not models and (self.calls.repairs or self.behaviours.looping is not None):
            raise ValueError("looping and repairs need a model among the dependencies")
        if self.restarts is not None and self.gates < 2:
            raise ValueError("restarts: one after the other needs gates: 2 or more")
        return self


def shipped() -> dict[str, Traversable]:
    """The scenarios of the package by name, in order."""
    room = files("headgate.lab") / "scenarios"
    found = {one.name.removesuffix(".yaml"): one for one in room.iterdir() if one.name.endswith(".yaml")}
    return {name: found[name] for name in sorted(found) if not name.startswith("world-")}


def _worlds() -> list[str]:
    room = files("headgate.lab") / "scenarios"
    found = (one.name for one in room.iterdir() if one.name.startswith("world-"))
    return [name.removeprefix("world-").removesuffix(".yaml") for name in found]


def load_scenario(name: str) -> Scenario:
    """A shipped scenario, or the one in a file of one's own: what ends in ``.yaml`` or ``.yml`` is a path.

    Raises:
        ConfigError: there is none of that name, or its file cannot be read or has mistakes.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            with Path(name).open("rb") as stream:
                text = stream.read(LARGEST_BYTES + 1).decode("utf-8")  # a larger one is refused by its length
            return parse_scenario(text, name)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([f"{name}: cannot be read: {error}"]) from error
    known = shipped()
    if name not in known:
        raise ConfigError([f"there is no scenario {name!r}; known: {', '.join(known)}"])
    return parse_scenario(known[name].read_text(encoding="utf-8"), f"{name}.yaml")


def parse_scenario(text: str, filename: str = "scenario.yaml") -> Scenario:
    """The scenario in ``text``. ``like: NAME`` takes every key that is not here from ``world-NAME.yaml``; the keys
    under ``headgate`` are taken one by one.

    Raises:
        ConfigError: ``text`` has mistakes; all of them are listed as ``filename:line:column: message``.
    """
    document = _read(text, filename)
    values = document.value
    if not isinstance(values, dict):
        raise ConfigError([f"{filename}:1:1: a scenario is a mapping, for example name: my-surge"])
    values = dict(values)
    scenario = None
    whole = True
    if "like" in values:
        like = str(values.pop("like"))
        world = files("headgate.lab") / "scenarios" / f"world-{like}.yaml"
        if not like.isidentifier() or not world.is_file():
            document.problem(("like",), f"there is no world {like!r}{did_you_mean(like, _worlds())}")
            whole = False
        else:
            values = _over(_read(world.read_text(encoding="utf-8"), world.name).value, values)
    if not document.problems or not whole:
        try:
            scenario = Scenario.model_validate(without_emptiness(values, Scenario))
        except ValidationError as error:
            for path, key, message in complaints(error, Scenario):
                if whole or path:  # what a world would bring is missing in the whole
                    document.problem(path, message, key=key)
    if scenario is not None and whole:
        check_references(scenario, document)
    if scenario is None or document.problems:
        lines = [f"{filename}:{p.place.line}:{p.place.column}: {p.message}" for p in sorted(set(document.problems))]
        raise ConfigError(lines)
    return scenario


def _read(text: str, filename: str) -> Document:
    try:
        return read_document(text, {})
    except Unreadable as error:
        (line, column), message = error.problem
        raise ConfigError([f"{filename}:{line}:{column}: {message}"]) from error


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    if isinstance(below.get("headgate"), dict) and isinstance(above.get("headgate"), dict):
        merged["headgate"] = {**below["headgate"], **above["headgate"]}
    return merged
