"""Ceilings of model tokens: held before, settled after, refunded on refusal, never overshot."""

import asyncio
from typing import Any

import pytest

from headgate.config.units import Rate
from headgate.errors import Overloaded
from headgate.guard.ambient import Ambient, ambient
from headgate.guard.model_tokens import Buckets, TokenEstimate, wish
from headgate.guard.resource import Resource
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources, told, usage_answer

QUIET: dict[str, Any] = {"breaker": None, "retry": {"attempts": 1}, "queue": {"depth": 1000, "max_age": "10s"}}


def model(clock: LoopClock, *, limits: list[Any] | None = None, budget: Any = None, **settings: Any) -> Resource:
    models = {"large": {**QUIET, "concurrency": 100, "tokens_per_call": 1000, **settings}}
    return resources(clock, models=models, limits=limits or [], budget=budget or {}).get("large")


@pytest.mark.parametrize("parallel", [5, 50])
def test_parallel_calls_never_overshoot(parallel: int) -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, model_tokens="20k/min", queue={"depth": 1000, "max_age": "10m"})
        spent: list[tuple[float, int]] = []

        async def ask() -> dict[str, Any]:
            spent.append((clock.monotonic(), 3000))
            await asyncio.sleep(0.5)
            return usage_answer(3000)

        await asyncio.gather(*(large.with_options(model_tokens=3000).call(ask) for _ in range(parallel)))
        assert len(spent) == parallel
        for moment, _ in spent:
            so_far = sum(tokens for at, tokens in spent if at <= moment)
            assert so_far <= 20_000 + 20_000 * moment / 60 + 1
        assert at_rest(large)

    run_virtual(main)


def test_the_hold_is_settled_to_what_was_reported() -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, model_tokens="10k/min").with_options(model_tokens=10_000, max_wait=0)
        spender = Provider(seconds=0, answer=lambda _: usage_answer(2_000))
        assert (await large.perform(spender, (), {})).model_tokens == 2_000
        cheap = large.with_options(model_tokens=3_000)
        await cheap.call(Provider(seconds=0, answer=lambda _: usage_answer(3_000)))  # 8000 were given back
        with pytest.raises(Overloaded):
            await large.call(spender)

    run_virtual(main)


@pytest.mark.parametrize(("answer", "room"), [(ProviderError(429), True), (ProviderError(500), False)])
def test_refused_calls_cost_nothing_and_failed_ones_their_estimate(answer: Any, room: bool) -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, model_tokens="10k/min").with_options(model_tokens=6_000, max_wait=0)
        with pytest.raises(ProviderError):
            await large.call(Provider(seconds=0, answer=lambda _: answer))
        again = large.call(Provider(seconds=0))
        if room:
            await again
        else:
            with pytest.raises(Overloaded):
                await again

    run_virtual(main)


@pytest.mark.parametrize("whose", ["resource:large", "fleet"])
def test_a_wait_for_model_tokens_that_cannot_fit_is_refused_at_once_with_its_true_length(whose: str) -> None:
    async def main(clock: LoopClock) -> None:
        rate = {"model_tokens": "10k/min"}
        large = model(clock, **(rate if whose == "resource:large" else {"budget": rate})).with_options(
            model_tokens=10_000
        )
        await large.call(Provider(seconds=0))
        (room,) = large._resource.statistics().token_rooms
        assert (room.scope, room.limit, room.window_s, room.remaining) == (whose, 10_000, 60, 0)
        with pytest.raises(Overloaded) as refused:
            await large.call(Provider())
        assert clock.monotonic() == 0
        assert (refused.value.reason, refused.value.scope) == ("rate_limited", whose)
        assert 60 <= (refused.value.retry_after_s or 0.0) <= 72
        await asyncio.sleep(51)  # now it fits into max_age
        assert await large.call(Provider(seconds=0)) == 0
        assert clock.monotonic() == pytest.approx(60)

    run_virtual(main)


def test_who_waits_behind_others_for_model_tokens_is_told_their_part_too() -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, model_tokens="10k/min", queue={"depth": 9, "max_age": "100s"})
        large = large.with_options(model_tokens=10_000)  # type: ignore[assignment]
        await large.call(Provider(seconds=0))
        second = asyncio.create_task(large.call(Provider(seconds=0)))
        await asyncio.sleep(10)
        with pytest.raises(Overloaded) as refused:
            await large.call(Provider())
        assert clock.monotonic() == 10
        assert 110 <= (refused.value.retry_after_s or 0.0) <= 132
        second.cancel()
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await large.with_options(max_wait=0).call(Provider())
        assert 50 <= (refused.value.retry_after_s or 0.0) <= 60

    run_virtual(main)


def test_a_call_that_can_never_fit_is_told_so() -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, model_tokens="10k/min", limits=[{"per": "tenant", "model_tokens": "5k/min"}])
        for tokens, scope in ((7_000, "tenant:acme"), (11_000, "tenant:acme")):
            with ambient(Ambient(tenant="acme")), pytest.raises(Overloaded) as refused:
                await large.with_options(model_tokens=tokens).call(Provider())
            assert (refused.value.reason, refused.value.scope) == ("never_fits", scope)
            assert not refused.value.retryable
        alone = model(clock, model_tokens="10k/min")
        with pytest.raises(Overloaded) as refused:
            await alone.with_options(model_tokens=11_000).call(Provider())
        assert (refused.value.reason, refused.value.scope) == ("never_fits", "resource:large")

    run_virtual(main)


@pytest.mark.parametrize("given", [None, 2_000])
@pytest.mark.parametrize("shared", [True, False])
def test_a_costly_call_does_not_shut_the_model_for_good(given: int | None, shared: bool) -> None:
    async def main(clock: LoopClock) -> None:
        large = (
            model(clock, model_tokens="10k/min")
            if shared
            else model(clock, limits=[{"per": "tenant", "model_tokens": "10k/min"}])
        )
        view = large.with_options(model_tokens=given)
        for used in (60_000, 60_000, 500):
            await view.call(lambda used=used: usage_answer(used))  # type: ignore[call-overload]
            await asyncio.sleep(900)  # until what it took beyond the ceiling is paid off
        with pytest.raises(Overloaded) as refused:
            await large.with_options(model_tokens=11_000).call(Provider())
        assert refused.value.reason == "never_fits"

    run_virtual(main)


def test_each_tenant_and_user_has_its_own_bucket() -> None:
    async def main(clock: LoopClock) -> None:
        limits = [{"per": "tenant", "model_tokens": "10k/min"}, {"per": "user", "model_tokens": "6k/min"}]
        large = model(clock, limits=limits).with_options(model_tokens=4_000, max_wait=0)
        provider = Provider(seconds=0)

        async def ask(tenant: str, user: str) -> str | None:
            with ambient(Ambient(tenant=tenant, user=user)):
                try:
                    await large.call(provider)
                except Overloaded as refusal:
                    return refusal.scope if refusal.retryable else "terminal"
            return None

        answers = [await ask(*who) for who in (("a", "x"), ("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"))]
        assert answers == [None, "user:x", None, "tenant:a", None]
        assert provider.calls == 3

    run_virtual(main)


def test_a_tenants_calls_wait_for_their_reserved_moments() -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, limits=[{"per": "tenant", "model_tokens": "60k/min", "burst": 1000}])
        provider = Provider(seconds=0, answer=lambda _: usage_answer(1000))
        ask = large.with_options(model_tokens=1000)
        results = await asyncio.gather(*(ask.call(provider) for _ in range(20)), return_exceptions=True)
        assert provider.started_at == pytest.approx([float(second) for second in range(11)], abs=0.02)
        refused = [one for one in results if isinstance(one, Overloaded)]
        assert len(refused) == 9
        assert {(one.reason, one.scope) for one in refused} == {("rate_limited", "tenant:default")}
        assert at_rest(large)

    run_virtual(main)


def test_a_cancelled_wait_gives_its_reservation_back() -> None:
    async def main(clock: LoopClock) -> None:
        large = model(clock, limits=[{"per": "tenant", "model_tokens": "60k/min", "burst": 5000}])
        ask = large.with_options(model_tokens=5000)
        await ask.call(Provider(seconds=0))
        waiting = asyncio.create_task(ask.call(Provider(seconds=0)))
        await asyncio.sleep(1)
        assert large.statistics().waiting == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert at_rest(large)
        await ask.call(Provider(seconds=0))
        assert clock.monotonic() == pytest.approx(5.0, abs=0.02)  # not 10: the cancelled one took nothing

    run_virtual(main)


def test_the_fleets_budget_is_shared_by_all_models() -> None:
    async def main(clock: LoopClock) -> None:
        both = resources(
            clock,
            budget={"model_tokens": "10k/min"},
            models={name: {**QUIET, "tokens_per_call": 4000} for name in ("a", "b")},
        )
        provider = Provider(seconds=0)
        for name in ("a", "b"):
            await both.get(name).with_options(max_wait=0).call(provider)
        with pytest.raises(Overloaded):
            await both.get("a").with_options(max_wait=0).call(provider)

    run_virtual(main)


def test_a_limit_in_shadow_mode_only_counts() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        large = resources(
            clock,
            heard=heard,
            models={"large": QUIET},
            limits=[{"per": "tenant", "model_tokens": "1k/min", "mode": "shadow"}],
        ).get("large")
        for _ in range(3):
            await large.with_options(model_tokens=900).call(Provider(seconds=0))
        assert [(fields["scope"], fields["shadow"]) for fields in told(heard, "call_refused")] == [
            ("tenant:default", True)
        ] * 2

    run_virtual(main)


def test_estimates_correct_themselves() -> None:
    guessed = TokenEstimate(2000)
    for _ in range(60):
        guessed.learn(500, None)
    assert guessed.guess(None) == pytest.approx(500, rel=0.1)
    given = TokenEstimate(2000)
    for _ in range(60):
        given.learn(3000, 1000)
    assert given.guess(2000) == pytest.approx(6000, rel=0.01)
    for _ in range(200):
        given.learn(1_000_000, 1)
    assert given.guess(10) == 40


def test_buckets_are_all_taken_or_none_and_their_number_is_bounded() -> None:
    buckets = Buckets(most=5)
    wide, narrow = wish("wide", "wide", Rate(1000, 60)), wish("narrow", "narrow", Rate(100, 60))
    assert buckets.take([wide, narrow], 200, now=0.0, most_wait_s=0.0).refused is narrow
    assert len(buckets) == 0
    assert buckets.take([wide], 1000, now=0.0, most_wait_s=0.0).refused is None  # the whole bucket is still there
    for key in range(50):
        buckets.take([wish(str(key), "one", Rate(10, 60))], 1, now=0.0, most_wait_s=0.0)
    assert len(buckets) == 5
