"""Rules of advice about resources: their lines, limits, timeouts, retries and stand-ins."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from statistics import fmean

from headgate.lab.advice.evidence import Evidence, part
from headgate.lab.advice.words import Word, percent, seconds
from headgate.lab.scenario.facts import BIN_S, ResourceFacts

SEEN = 0.02
"""Part of a resource's calls from which something is worth a word."""
FREE = 0.8
"""A dependency less busy than this has room."""
MOSTLY = 0.5
OFTEN = 0.10
"""Part of the time from which something is worth a word."""
PAST_KNEE = 1.1
REPEATS = 0.15
FAILING = 0.3
LOST = 0.10
IDLE = 0.5
TIMES_USUAL = 5.0
"""A timeout of more than so many usual calls keeps slots for nothing when calls hang."""


def queue_age(evidence: Evidence) -> Iterator[Word]:
    """Calls gave up waiting, and soon after there was room."""
    for section, name, settings, facts in evidence.guarded:
        share = facts.refusals("wait_expired") / facts.asked
        age_s = settings.queue.max_age
        found = evidence.found_room(name, facts.refused.get("wait_expired", Counter()), age_s, FREE)
        if share >= SEEN and found >= MOSTLY:
            yield Word(
                f"{section}.{name}.queue.max_age",
                f"raise `{name}` queue.max_age ({seconds(age_s)}): {percent(share)} of its calls gave up waiting, "
                f"and {percent(found)} of those would have found free capacity within another {seconds(age_s)}",
                share,
            )


def queue_depth(evidence: Evidence) -> Iterator[Word]:
    """Calls found the line full, and soon after there was room."""
    for section, name, settings, facts in evidence.guarded:
        share = facts.refusals("queue_full") / facts.asked
        soon_s = settings.queue.max_age / 2
        found = evidence.found_room(name, facts.refused.get("queue_full", Counter()), soon_s, FREE)
        if share >= SEEN and found >= MOSTLY:
            yield Word(
                f"{section}.{name}.queue.depth",
                f"raise `{name}` queue.depth ({settings.queue.depth}): {percent(share)} of its calls found the line "
                f"full, and {percent(found)} of those would have found free capacity within {seconds(soon_s)}",
                share,
            )


def concurrency_low(evidence: Evidence) -> Iterator[Word]:
    """All configured slots were taken while the dependency had room."""
    for section, name, settings, _ in evidence.guarded:
        most, knee = settings.concurrency[1], evidence.scenario.dependencies[name].parallel
        taken = part(
            flying >= most and busy < FREE
            for flying, busy in zip(evidence.column(f"inflight:{name}"), evidence.busy(name), strict=True)
        )
        if taken >= OFTEN:
            yield Word(
                f"{section}.{name}.concurrency",
                f"raise `{name}` concurrency (at most {most}): {percent(taken)} of the time all its slots were taken "
                f"while it had room; at full speed it carries {knee}",
                taken,
            )


def concurrency_high(evidence: Evidence) -> Iterator[Word]:
    """More calls in flight than the dependency carries, allowed by the configuration."""
    for section, name, settings, _ in evidence.guarded:
        most, knee = settings.concurrency[1], evidence.scenario.dependencies[name].parallel
        past = part(busy > PAST_KNEE for busy in evidence.busy(name) if math.isfinite(busy))
        if past < OFTEN or most <= PAST_KNEE * knee:
            continue
        if settings.concurrency.fixed:
            change = f"let `{name}` adapt (concurrency: 1..{most} instead of {most})"
        else:
            change = f"lower the top of `{name}` concurrency ({settings.concurrency[0]}..{most})"
        yield Word(
            f"{section}.{name}.concurrency",
            f"{change}: {percent(past)} of the time more calls were in flight than it carries at full speed",
            past,
        )


def retries(evidence: Evidence) -> Iterator[Word]:
    """Many repeats, into a dependency that fails."""
    for section, name, settings, facts in evidence.guarded:
        if not facts.started or settings.retry.attempts == 1:
            continue
        repeats, failing = facts.retried / facts.started, _bad(facts) / facts.started
        if repeats >= REPEATS and failing >= FAILING:
            yield Word(
                f"{section}.{name}.retry.attempts",
                f"repeat `{name}` less (retry.attempts: {settings.retry.attempts}, budget: "
                f"{percent(settings.retry.budget)}): {percent(repeats)} of its calls were repeated, and "
                f"{percent(failing)} of all its calls failed",
                repeats,
            )


def timeout_short(evidence: Evidence) -> Iterator[Word]:
    """Calls were cut off though the dependency was well."""
    for section, name, settings, facts in evidence.guarded:
        calm = sum(n for place, n in facts.timeouts.items() if not _troubled(evidence, name, place, settings.timeout))
        share = calm / max(1, facts.started)
        if share >= SEEN:
            yield Word(
                f"{section}.{name}.timeout",
                f"raise `{name}` timeout ({seconds(settings.timeout)}) or ask it for less at once: {percent(share)} "
                "of its calls were cut off while it was not in trouble",
                share,
            )


def timeout_long(evidence: Evidence) -> Iterator[Word]:
    """Calls hung until a timeout far above what a call usually takes."""
    for section, name, settings, facts in evidence.guarded:
        usual_s = evidence.usual_s(name)
        hung = sum(n for place, n in facts.timeouts.items() if _troubled(evidence, name, place, settings.timeout))
        share = hung / max(1, facts.started)
        if share >= SEEN and settings.timeout > TIMES_USUAL * usual_s:
            yield Word(
                f"{section}.{name}.timeout",
                f"lower `{name}` timeout ({seconds(settings.timeout)}): {percent(share)} of its calls hung until it "
                f"while it was in trouble; over the whole play a call took {seconds(usual_s)}",
                share,
            )


def fallback(evidence: Evidence) -> Iterator[Word]:
    """A model lost many calls while one that could stand in had room."""
    for section, name, settings, facts in evidence.guarded:
        lost = (_bad(facts) + facts.asked - facts.started) / facts.asked
        if section != "models" or settings.fallback or lost < LOST:
            continue
        for other in evidence.stand_ins(name):
            busy = [one for one in evidence.busy(other) if math.isfinite(one)]
            used = fmean(busy) if busy else 0.0
            if used < IDLE:
                yield Word(
                    f"{section}.{name}.fallback",
                    f"give `{name}` the fallback `{other}`: {percent(lost)} of its calls were refused or failed "
                    f"while `{other}` was {percent(used)} busy",
                    lost,
                )


def breaker(evidence: Evidence) -> Iterator[Word]:
    """Many calls into a dependency that fails, and nothing that holds them back."""
    for section, name, settings, facts in evidence.guarded:
        failing = _bad(facts) / max(1, facts.started)
        if settings.breaker is None and failing >= LOST:
            yield Word(
                f"{section}.{name}.breaker",
                f"give `{name}` a breaker (leave out breaker: null): {percent(failing)} of its calls failed, and all "
                "of them were made",
                failing,
            )


def _bad(facts: ResourceFacts) -> int:
    return sum(facts.outcomes[outcome] for outcome in ("failed", "timeout", "overloaded"))


def _troubled(evidence: Evidence, name: str, place: int, timeout_s: float) -> bool:
    """Whether a call that ran into its timeout in this bin met trouble while it was under way."""
    since, until = place * BIN_S - timeout_s, (place + 1) * BIN_S
    return any(one.since < until and since < one.until and name in one.on for one in evidence.scenario.troubles)
