"""Conformance of claiming: whose run is next, what it is charged, and what does not stand in the way."""

from __future__ import annotations

import random

from headgate.model.run import RunRecord
from headgate.policy.lane_shares import STARVED_AT_MOST_S
from headgate.store.protocols import Claim, ClaimRequest
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground


async def _next(ground: Ground, count: int = 1, **changes: object) -> list[str]:
    """Claim, and say whose runs came: ``tenant/user``, or the tenant alone."""
    claims = await ground.claim(count, **changes)  # type: ignore[arg-type]  # the fields of `Ground.claim`
    return [f"{claim.run.tenant}/{claim.run.user}" if claim.run.user else claim.run.tenant for claim in claims]


async def the_end_corrects_what_was_charged(ground: Ground) -> None:
    for tenant in ("a", "b"):
        for _ in range(6):
            await ground.admit(tenant=tenant)
    (first,) = await ground.claim(1)
    assert await ground.finish(first.run, cost=4.0)
    assert (await ground.get(first.run)).spent == 4.0
    assert await _next(ground, 5) == ["b", "b", "b", "b", "a"]


async def what_was_charged_too_much_is_given_back(ground: Ground) -> None:
    for tenant in ("a", "b"):
        for _ in range(3):
            await ground.admit(tenant=tenant, cost=10.0)
    (first,) = await ground.claim(1)
    await ground.finish(first.run, cost=2.0)
    assert await _next(ground, 4) == ["b", "a", "b", "a"]


async def an_overrun_is_charged_while_it_runs(ground: Ground) -> None:
    for tenant in ("a", "b"):
        for _ in range(6):
            await ground.admit(tenant=tenant)
    (first,) = await ground.claim(1)
    held = [(first.run.id, 1)]
    extend = ground.store.claims.extend
    for cost in (0.5, 3.0, 3.0, 2.0):  # totals; less than was charged changes nothing
        await extend("w1", held, now_ms=NOW, lease_until_ms=NOW + LEASE, costs={first.run.id: cost})
    await ground.open_again()
    assert await _next(ground, 4) == ["b", "b", "b", "a"]
    await ground.finish(first.run, cost=3.0)
    assert await _next(ground, 2) == ["b", "a"]


async def only_its_holder_charges_a_run(ground: Ground) -> None:
    for tenant in ("a", "a", "b", "b"):
        await ground.admit(tenant=tenant)
    (first,) = await ground.claim(1)
    for owner, term in (("w2", 1), ("w1", 2)):
        await ground.store.claims.extend(
            owner, [(first.run.id, term)], now_ms=NOW, lease_until_ms=NOW + LEASE, costs={first.run.id: 99.0}
        )
    assert await _next(ground, 3) == ["b", "a", "b"]


async def a_run_put_back_pays_only_for_what_it_did(ground: Ground) -> None:
    for tenant in ("a", "b"):
        for _ in range(4):
            await ground.admit(tenant=tenant, cost=4.0)
    (first,) = await ground.claim(1)
    assert await ground.store.claims.release(first.run.id, "w1", 1, now_ms=NOW, reason="interrupted", cost=1.0)
    assert (await ground.get(first.run)).spent == 1.0
    claims = await ground.claim(3)
    # b at 0, then a (at 1) goes on and is charged the 3 that are left, then both stand at 4
    assert [claim.run.tenant for claim in claims] == ["b", "a", "a"]
    assert claims[1].run.id == first.run.id
    assert claims[1].run.spent == 1.0


async def users_of_a_tenant_take_turns_by_cost(ground: Ground) -> None:
    for user in ("ann", "ann", "ann", "ann", "bob", "bob", None):
        await ground.admit(tenant="a", user=user)
    for _ in range(3):
        await ground.admit(tenant="b")
    assert await _next(ground, 6) == ["a/ann", "b", "a/bob", "b", "a", "b"]
    (claim,) = await ground.claim(1)
    assert claim.run.user == "ann"
    await ground.finish(claim.run, cost=3.0)
    assert await _next(ground, 3) == ["a/bob", "a/ann", "a/ann"]


async def a_user_who_was_idle_earns_no_credit(ground: Ground) -> None:
    for _ in range(8):
        await ground.admit(user="ann")
    assert await _next(ground, 5) == ["acme/ann"] * 5
    for _ in range(3):
        await ground.admit(user="bob")
    assert sorted(await _next(ground, 4)) == ["acme/ann", "acme/ann", "acme/bob", "acme/bob"]


async def a_weight_counts_from_when_it_is_known(ground: Ground) -> None:
    for _ in range(6):
        await ground.admit(tenant="a")
        await ground.admit(tenant="b")
    await ground.admit(tenant="a", weight=2.0)
    got = await _next(ground, 9)
    assert (got.count("a"), got.count("b")) == (6, 3)


async def a_delayed_run_waits_for_its_moment(ground: Ground) -> None:
    late = await ground.admit(tenant="a", available_ms=NOW + 100)
    await ground.admit(tenant="a")
    other = await ground.admit(tenant="b", available_ms=NOW + 200)
    assert await _next(ground, 5, now_ms=NOW + 99) == ["a"]
    (claim,) = await ground.claim(now_ms=NOW + 100)
    assert claim.run.id == late.id
    await ground.store.runs.cancel(other.id, tenant=None, now_ms=NOW + 150, detail="by ann")
    assert await ground.claim(now_ms=NOW + 300) == []
    await ground.check_counters()


async def a_tenants_work_for_others_does_not_hold_up_its_own(ground: Ground) -> None:
    for _ in range(3):
        await ground.admit(tenant="a", workflow="elsewhere")
        await ground.admit(tenant="b", workflow="elsewhere")
        await ground.admit(tenant="b")
    assert await _next(ground, 5) == ["b", "b", "b"]
    both = ("triage", "elsewhere")
    assert await _next(ground, 6, workflows=both) == ["a", "a", "a", "b", "b", "b"]


async def runs_of_several_workflows_keep_one_order(ground: Ground) -> None:
    names = ["x", "y", "y", "x", "y"]
    for index, workflow in enumerate(names):
        await ground.admit(workflow=workflow, now_ms=NOW + index)
    claims = await ground.claim(5, now_ms=NOW + 9, workflows=("y", "x"))
    assert [claim.run.workflow for claim in claims] == names


async def a_user_may_be_served_by_deadline(ground: Ground) -> None:
    runs = [await ground.admit(order_ms=NOW + place) for place in (300, 100, 200)]
    claims = await ground.claim()
    assert [claim.run.id for claim in claims] == [runs[1].id, runs[2].id, runs[0].id]


async def the_newest_go_first_while_the_oldest_is_late(ground: Ground) -> None:
    runs = [await ground.admit(now_ms=NOW + index) for index in range(4)]

    async def take(now_ms: int) -> list[str]:
        request = ClaimRequest(
            "w1", now_ms, now_ms + LEASE, (("standard", 1),), ("triage",), newest_after=(("standard", 1000),)
        )
        return [claim.run.id for claim in await ground.store.claims.claim(request)]

    assert await take(NOW + 1000) == [runs[0].id]
    assert await take(NOW + 1002) == [runs[3].id]
    assert await take(NOW + 1001) == [runs[1].id]


async def a_busy_fleet_leaves_a_place_to_every_lane(ground: Ground) -> None:
    for _ in range(40):
        for lane in ("high", "low"):
            await ground.admit(lane=lane)
    now, got, running = NOW, [], []

    async def take(owner: str) -> list[Claim]:
        request = ClaimRequest(
            owner, now, now + LEASE, (("high", 4), ("low", 4)), ("triage",), max_running=2, total=4,
            shares=(("high", 0.9), ("low", 0.1)),
        )  # fmt: skip
        return await ground.store.claims.claim(request)

    for turn in range(20):
        now += round(1000 * STARVED_AT_MOST_S / 4)
        for claim in await take(f"w{turn % 3}"):
            got.append(claim.run.lane)
            running.append(claim.run)
        assert len(running) <= 2
        await ground.finish(running.pop(0), now_ms=now)
    assert 2 <= got.count("low") <= 6


async def service_stays_within_the_bound(ground: Ground) -> None:
    """Flows of equal weight that always wait differ by at most (largest cost) * (slots + 1) in charged service."""
    rng = random.Random(11)
    slots, largest = 4, 0.0
    served = dict.fromkeys(("a", "b", "c"), 0.0)
    for tenant in served:
        for _ in range(80):
            await ground.admit(tenant=tenant, cost=rng.uniform(0.5, 3.0))
    running: list[RunRecord] = []
    for _ in range(120):
        for claim in await ground.claim(slots - len(running)):
            served[claim.run.tenant] += claim.run.cost
            running.append(claim.run)
        run = running.pop(rng.randrange(len(running)))
        cost = run.cost * rng.uniform(0.3, 3.0)
        largest = max(largest, run.cost, cost)
        assert await ground.finish(run, cost=cost)
        served[run.tenant] += cost - run.cost
        assert max(served.values()) - min(served.values()) <= largest * (slots + 1), served


async def a_tenant_that_is_left_out_waits_and_saves_up_nothing(ground: Ground) -> None:
    for tenant in ("left", "other"):
        for _ in range(10):
            await ground.admit(tenant=tenant, cost=1.0)
    for _ in range(6):
        (claimed,) = await ground.claim(1, not_tenants=("left",))
        assert claimed.run.tenant == "other"
    assert await ground.claim(100, workflows=("triage",), not_tenants=("left", "other")) == []
    assert set(await ground.store.runs.heads(["standard"], ["triage"], now_ms=NOW)) == {"standard"}
    heads = await ground.store.runs.heads(["standard"], ["triage"], now_ms=NOW, not_tenants=("left", "other"))
    assert heads == {}
    back = [one.run.tenant for _ in range(8) for one in await ground.claim(1)]
    assert back.count("left") in (4, 5)


CASES = (
    a_tenant_that_is_left_out_waits_and_saves_up_nothing,
    the_end_corrects_what_was_charged,
    what_was_charged_too_much_is_given_back,
    an_overrun_is_charged_while_it_runs,
    only_its_holder_charges_a_run,
    a_run_put_back_pays_only_for_what_it_did,
    users_of_a_tenant_take_turns_by_cost,
    a_user_who_was_idle_earns_no_credit,
    a_weight_counts_from_when_it_is_known,
    a_delayed_run_waits_for_its_moment,
    a_tenants_work_for_others_does_not_hold_up_its_own,
    runs_of_several_workflows_keep_one_order,
    a_user_may_be_served_by_deadline,
    the_newest_go_first_while_the_oldest_is_late,
    a_busy_fleet_leaves_a_place_to_every_lane,
    service_stays_within_the_bound,
)
