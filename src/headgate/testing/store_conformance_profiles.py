"""Conformance of `headgate.store.profile_protocols.Profiles`."""

from __future__ import annotations

import asyncio

from headgate.model.cost import ResourceUse, RunSample
from headgate.policy import cost_profile
from headgate.policy.cost_profile import WHOLE
from headgate.testing.store_conformance_ground import NOW, Ground


async def what_runs_take_is_learned_by_size(ground: Ground) -> None:
    profiles = ground.store.profiles
    assert await profiles.all() == []
    await profiles.learn([], now_ms=NOW)
    assert await profiles.all() == []
    small = RunSample("triage", 10, model_tokens=100, per_resource={"large": ResourceUse(2, 1.5, 100)})
    large = RunSample("triage", 5000, model_tokens=900)
    await profiles.learn([small, large, small], now_ms=NOW)
    await profiles.learn([RunSample("report", 10, money=2.5)], now_ms=NOW + 1)
    known = {(one.workflow, one.size_class): one for one in await profiles.all()}
    sizes = (cost_profile.size_class(10), cost_profile.size_class(5000))
    assert set(known) == {
        *(("triage", kind) for kind in (WHOLE, *sizes)),
        ("report", WHOLE),
        ("report", sizes[0]),
    }
    assert known["triage", WHOLE].profile == cost_profile.load(
        cost_profile.dump(cost_profile.fold(None, [small, large, small]))
    )
    assert known["triage", sizes[1]].profile.ends == 1
    await ground.open_again()
    assert {(one.workflow, one.size_class): one for one in await ground.store.profiles.all()} == known


async def only_what_changed_is_read_again(ground: Ground) -> None:
    profiles = ground.store.profiles
    await profiles.learn([RunSample("triage", 10, calls=3)], now_ms=NOW)
    first = await profiles.all()
    revision = first[-1].revision
    assert [one.revision for one in first] == sorted(one.revision for one in first)
    assert await profiles.all(after=revision) == []
    await profiles.learn([RunSample("report", 10, calls=3)], now_ms=NOW)
    changed = await profiles.all(after=revision)
    assert {one.workflow for one in changed} == {"report"}
    assert all(one.revision > revision for one in changed)


async def what_many_learn_adds_up(ground: Ground) -> None:
    profiles = ground.store.profiles
    await asyncio.gather(*(profiles.learn([RunSample("triage", 10, calls=1)], now_ms=NOW) for _ in range(20)))
    assert {one.profile.ends for one in await profiles.all()} == {20}


CASES = (what_runs_take_is_learned_by_size, only_what_changed_is_read_again, what_many_learn_adds_up)
