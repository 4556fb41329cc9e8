"""Conformance of `headgate.store.protocols.Controls`."""

from __future__ import annotations

import dataclasses

from headgate.model.control import Control, ControlChange, ControlKind
from headgate.testing.store_conformance_ground import NOW, Ground

DAY_MS = 86400 * 1000
PAUSE = Control("lane:background", ControlKind.PAUSE, "night shift", "ann", NOW)
OVERRIDE = Control(
    "resource:github", ControlKind.OVERRIDE, "incident 7", "bob", NOW, NOW + 1000, 4, 100.0, 60.0, None
)


async def what_is_set_by_hand_survives(ground: Ground) -> None:
    assert await ground.store.controls.put(PAUSE) is None
    assert await ground.store.controls.put(OVERRIDE) is None
    assert await ground.store.controls.all(now_ms=NOW) == [PAUSE, OVERRIDE]
    await ground.open_again()
    assert await ground.store.controls.all(now_ms=NOW) == [PAUSE, OVERRIDE]


async def every_number_is_kept(ground: Ground) -> None:
    full = Control(
        "lane:a",
        ControlKind.OVERRIDE,
        "why",
        "bob",
        NOW,
        NOW + 9,
        1,
        2.0,
        3.0,
        4,
        5.0,
        0.25,
        7.0,
        0.5,
        9.0,
        60.0,
        True,
    )
    await ground.store.controls.put(full)
    assert await ground.store.controls.all(now_ms=NOW) == [full]
    assert all(getattr(full, field.name) is not None for field in dataclasses.fields(full))
    less = Control("lane:a", ControlKind.OVERRIDE, "why", "bob", NOW, weight=2.0)
    assert await ground.store.controls.put(less) == full
    assert await ground.store.controls.all(now_ms=NOW) == [less]


async def a_pause_may_stop_what_runs(ground: Ground) -> None:
    stops = dataclasses.replace(PAUSE, stops_running=True)
    await ground.store.controls.put(stops)
    assert await ground.store.controls.all(now_ms=NOW) == [stops]
    assert await ground.store.controls.put(PAUSE) == stops
    (told, _) = await ground.store.controls.changes()
    assert (told.was, told.became) == ("paused, running runs stop", "paused")


async def tenants_are_known_from_their_runs(ground: Ground) -> None:
    assert await ground.store.controls.tenants("a") == []
    for tenant in ("c", "a", "b", "a"):
        await ground.admit(tenant=tenant)
    assert await ground.store.controls.tenants("x") == ["a", "b", "c"]
    assert await ground.store.controls.tenants("c", limit=2) == ["c", "a"]


async def a_target_has_one_control_of_each_kind(ground: Ground) -> None:
    controls = ground.store.controls
    await controls.put(OVERRIDE)
    other = dataclasses.replace(OVERRIDE, limit_to=None, rate_amount=None, rate_window_s=None, depth_to=9)
    assert await controls.put(other) == OVERRIDE
    pause = dataclasses.replace(PAUSE, target=OVERRIDE.target)
    assert await controls.put(pause) is None
    assert await controls.all(now_ms=NOW) == [other, pause]


async def a_control_ends_by_itself(ground: Ground) -> None:
    controls = ground.store.controls
    await controls.put(OVERRIDE)
    assert await controls.all(now_ms=NOW + 999) == [OVERRIDE]
    assert await controls.all(now_ms=NOW + 1000) == []
    assert await controls.put(dataclasses.replace(OVERRIDE, set_ms=NOW + 1000, until_ms=None)) is None


async def a_dropped_control_is_gone(ground: Ground) -> None:
    controls = ground.store.controls
    await controls.put(PAUSE)
    kinds = (ControlKind.OVERRIDE, ControlKind.PAUSE, ControlKind.PAUSE)
    dropped = [await controls.drop(PAUSE.target, kind, by="eve", reason="over", now_ms=NOW + 1) for kind in kinds]
    assert dropped == [None, PAUSE, None]
    assert await controls.all(now_ms=NOW + 1) == []


async def every_change_is_recorded_newest_first(ground: Ground) -> None:
    controls = ground.store.controls
    await controls.put(PAUSE)
    await controls.put(OVERRIDE)
    await controls.put(dataclasses.replace(OVERRIDE, limit_to=2, rate_amount=None, rate_window_s=None))
    await controls.drop(PAUSE.target, ControlKind.PAUSE, by="eve", reason="over", now_ms=NOW + 1)
    await ground.open_again()
    told = await ground.store.controls.changes()
    assert told[0] == ControlChange(NOW + 1, PAUSE.target, ControlKind.PAUSE, "eve", "over", "paused", None, None)
    assert [(one.target, one.was, one.became) for one in told[1:]] == [
        (OVERRIDE.target, "limit 4, rate 100/min", "limit 2"),
        (OVERRIDE.target, None, "limit 4, rate 100/min"),
        (PAUSE.target, None, "paused"),
    ]
    assert await ground.store.controls.changes(target=PAUSE.target, limit=1) == told[:1]


async def the_record_is_kept_for_ninety_days(ground: Ground) -> None:
    controls = ground.store.controls
    await controls.put(PAUSE)
    later = dataclasses.replace(PAUSE, set_ms=NOW + 89 * DAY_MS)
    await controls.put(later)
    assert len(await controls.changes()) == 2
    await controls.put(dataclasses.replace(PAUSE, set_ms=NOW + 91 * DAY_MS))
    assert [one.at_ms for one in await controls.changes()] == [NOW + 91 * DAY_MS, NOW + 89 * DAY_MS]
    assert len(await controls.all(now_ms=NOW)) == 1


CASES = (
    what_is_set_by_hand_survives,
    every_number_is_kept,
    a_pause_may_stop_what_runs,
    tenants_are_known_from_their_runs,
    a_target_has_one_control_of_each_kind,
    a_control_ends_by_itself,
    a_dropped_control_is_gone,
    every_change_is_recorded_newest_first,
    the_record_is_kept_for_ninety_days,
)
