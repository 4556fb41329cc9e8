"""A short copy of a scenario: the same happenings, closer together. For a first look, and for tests."""

from __future__ import annotations

from headgate.lab.scenario.description import Scenario, Traffic

LEAST_PART_S = 0.5
"""Durations are not cut below this."""


def shortened(scenario: Scenario, seconds: float, *, load: float = 1.0) -> Scenario:
    """The scenario in ``seconds`` (more than 0, at most what it takes): every moment of it is moved by the same
    factor. Deadlines, calls, capacities and speeds stay, so what comes out is not what the whole scenario gives.
    ``load`` multiplies the traffic and the size of herds.

    Raises:
        ValueError: ``seconds`` or ``load`` is out of range.
    """
    if not (0 < seconds <= scenario.seconds and load > 0):
        raise ValueError(f"seconds must be more than 0 and at most {scenario.seconds:g}, load more than 0")
    part = seconds / scenario.seconds
    restarts, over = scenario.restarts, scenario.recovered_from
    if restarts is not None:
        every, down = max(LEAST_PART_S, restarts.every * part), max(LEAST_PART_S, restarts.down * part)
        moved = {"since": restarts.since * part, "every": every, "down": down}
        restarts = restarts.model_copy(update=moved)
    troubles = tuple(
        one.model_copy(update={"since": one.since * part, "until": one.until * part}) for one in scenario.troubles
    )
    return scenario.model_copy(
        update={
            "seconds": seconds,
            "warm_up": scenario.warm_up * part,
            "recovered_from": None if over is None else over * part,
            "troubles": troubles,
            "traffic": _traffic(scenario.traffic, part, load),
            "restarts": restarts,
        }
    )


def _traffic(traffic: Traffic, part: float, load: float) -> Traffic:
    bursts = traffic.bursts
    if bursts is not None:
        lasts, pause = max(LEAST_PART_S, bursts.lasts * part), max(LEAST_PART_S, bursts.pause * part)
        bursts = bursts.model_copy(update={"lasts": lasts, "pause": pause})
    changes = [
        one.model_copy(update={"since": one.since * part, "until": one.until * part}) for one in traffic.changes
    ]
    herds = [
        one.model_copy(update={"at": one.at * part, "runs": max(1, round(one.runs * part * load))})
        for one in traffic.herds
    ]
    return traffic.model_copy(
        update={
            "load": traffic.load * load,
            "changes": tuple(changes),
            "herds": tuple(herds),
            "bursts": bursts,
            "day": None if traffic.day is None else traffic.day * part,
        }
    )
