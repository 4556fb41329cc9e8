"""Rules of advice about runs: their lines, the workers, lanes, tenants and ladders."""

from __future__ import annotations

import math
from collections.abc import Iterator

from headgate.config.workflow_settings import WorkflowSettings
from headgate.lab.advice.evidence import Evidence, part
from headgate.lab.advice.words import Word, percent, seconds
from headgate.lab.scenario.users import WORKFLOW

SEEN = 0.02
OFTEN = 0.05
"""Part of the time from which something is worth a word."""
FREE = 0.8
LATE = 0.03
"""Part of the accepted runs that may miss their deadline before it is worth a word."""
PUNCTUAL = 0.01
HALF = 0.5
FIRST_LANE = 0.99
TALL = 0.6
"""Pressure from which a ladder would begin."""
GOOD = 0.95
FAIR = 0.9


def slots(evidence: Evidence) -> Iterator[Word]:
    """Runs waited while every dependency had room: the workers are what is short."""
    names = list(evidence.scenario.dependencies)
    limits = {name: evidence.column(f"limit:{name}") for name in names}
    flying = {name: evidence.column(f"inflight:{name}") for name in names}

    def idle(place: int) -> bool:
        return all(
            evidence.busy(name)[place] < FREE and flying[name][place] < FREE * limits[name][place] for name in names
        )

    short = part(
        waiting > 0 and not evidence.troubled(at_s) and idle(place)
        for place, (at_s, waiting) in enumerate(zip(evidence.moments(), evidence.column("waiting"), strict=True))
    )
    if short >= OFTEN:
        yield Word(
            "workers.slots",
            f"raise workers.slots ({evidence.scenario.headgate.workers.slots}): {percent(short)} of the time runs "
            f"waited while no dependency was more than {percent(FREE)} busy",
            short,
        )


def late_in_line(evidence: Evidence) -> Iterator[Word]:
    """Accepted runs missed their deadlines before they had begun."""
    late, in_line = (
        evidence.measures.get("accepted-late", math.nan),
        evidence.measures.get("missed-in-line", math.nan),
    )
    if late > LATE and in_line >= HALF:
        where = f"workflows.{evidence.workflow}.queue.depth"
        yield Word(
            where,
            f"lower {where} ({_workflow(evidence).queue.depth}): {percent(late)} of the "
            f"accepted runs missed their deadlines, {percent(in_line)} of them without having begun",
            late,
        )


def late_at_work(evidence: Evidence) -> Iterator[Word]:
    """Accepted runs missed their deadlines after they had begun, and not for want of people who answer: a run that
    waits for a person has begun, and no other number of slots makes that person answer sooner."""
    late, in_line = (
        evidence.measures.get("accepted-late", math.nan),
        evidence.measures.get("missed-in-line", math.nan),
    )
    if late > LATE and in_line < HALF and not _people_are_short(evidence):
        number = evidence.scenario.headgate.workers.slots
        yield Word(
            "workers.slots",
            f"lower workers.slots ({number}): {percent(late)} of the accepted runs missed their deadlines, "
            f"{percent(1 - in_line)} of them while they ran; fewer at once end sooner",
            late,
        )


def people(evidence: Evidence) -> Iterator[Word]:
    """Accepted runs missed their deadlines while too few people answered their questions."""
    late, in_line = (
        evidence.measures.get("accepted-late", math.nan),
        evidence.measures.get("missed-in-line", math.nan),
    )
    asking = evidence.scenario.behaviours.asking
    if asking is not None and late > LATE and in_line < HALF and _people_are_short(evidence):
        where, depth = f"approvals.{asking.queue}.depth", evidence.scenario.headgate.approvals[asking.queue].depth
        yield Word(
            where,
            f"have more people answer `{asking.queue}` ({evidence.scenario.people[asking.queue].count}), or lower "
            f"{where} ({depth}): {percent(late)} of the accepted runs missed their deadlines, {percent(1 - in_line)} "
            "of them after they had begun, and at the pace of these people a question waited up to "
            f"{seconds(evidence.question_wait_s())}",
            late,
        )


def run_depth(evidence: Evidence) -> Iterator[Word]:
    """Runs were refused for a full line that was short in time."""
    offered = sum(lane.offered for lane in evidence.lanes.values())
    full = sum(lane.ends["refused: queue_full"] for lane in evidence.lanes.values())
    share = full / offered if offered else 0.0
    shortest_s = min(lane.deadline for lane in evidence.scenario.lanes.values())
    oldest_s = max(evidence.column("oldest_s"), default=math.inf)
    late = evidence.measures.get("accepted-late", math.nan)
    if share >= SEEN and late <= PUNCTUAL and oldest_s < HALF * shortest_s:
        where = f"workflows.{evidence.workflow}.queue.depth"
        yield Word(
            where,
            f"raise {where} ({_workflow(evidence).queue.depth}): {percent(share)} of the "
            f"runs were refused for a full line, while nothing waited longer than {seconds(oldest_s)} and "
            f"the shortest deadline is {seconds(shortest_s)}",
            share,
        )


def run_age(evidence: Evidence) -> Iterator[Word]:
    """Accepted runs became too old for their line well before their deadline."""
    queue_s = _workflow(evidence).queue.max_age
    for name, lane in evidence.lanes.items():
        settings, deadline_s = evidence.scenario.headgate.lanes[name], evidence.scenario.lanes[name].deadline
        expired = lane.ends["queue_expired"] / lane.admitted if lane.admitted else 0.0
        lane_s = settings.max_wait if settings.max_wait is not None else math.inf
        if expired < SEEN or min(queue_s, lane_s) >= deadline_s:
            continue
        where = f"lanes.{name}.max_wait" if lane_s < queue_s else f"workflows.{evidence.workflow}.queue.max_age"
        yield Word(
            where,
            f"raise {where} ({seconds(min(queue_s, lane_s))}): {percent(expired)} of the accepted `{name}` runs "
            f"expired in line, though their deadline was {seconds(deadline_s)}",
            expired,
        )


def lane_share(evidence: Evidence) -> Iterator[Word]:
    """The first lane did not get what it could have had, while lower ones were served."""
    first, *lower = evidence.scenario.headgate.lanes
    score = evidence.lanes.get(first)
    below = sum(evidence.lanes[name].on_time for name in lower if name in evidence.lanes)
    if score is None or not score.offered or score.share >= FIRST_LANE or not below:
        return
    share = evidence.scenario.headgate.lanes[first].share
    told = "an even part" if share is None else percent(share)
    yield Word(
        f"lanes.{first}.share",
        f"raise lanes.{first}.share ({told}): {percent(score.share)} of the `{first}` runs that could have been on "
        f"time were, while {below} runs of lower lanes were",
        1 - score.share,
    )


def sheddable(evidence: Evidence) -> Iterator[Word]:
    """Pressure is high, and no lane is declared to give way."""
    settings = evidence.scenario.headgate
    high = part(pressure >= settings.shed_at for pressure in evidence.column("pressure"))
    if high >= OFTEN and not any(lane.sheddable for lane in settings.lanes.values()):
        last = list(settings.lanes)[-1]
        yield Word(
            f"lanes.{last}.sheddable",
            f"declare lanes.{last}.sheddable: true: pressure was above shed_at ({percent(settings.shed_at)}) "
            f"{percent(high)} of the time, and no lane gives way first",
            high,
        )


def ladder(evidence: Evidence) -> Iterator[Word]:
    """Pressure is high, value is lost, and nothing is done more cheaply."""
    tall = part(pressure >= TALL for pressure in evidence.column("pressure"))
    goodput = evidence.measures.get("goodput", math.nan)
    if tall >= OFTEN and goodput < GOOD and not _workflow(evidence).degrade:
        yield Word(
            f"workflows.{evidence.workflow}.degrade",
            f"give workflows.{evidence.workflow} a degrade ladder: pressure was above {percent(TALL)} for "
            f"{percent(tall)} of the time and goodput was {percent(goodput)} of the bound, with nothing done more "
            "cheaply",
            tall,
        )


def tenants(evidence: Evidence) -> Iterator[Word]:
    """Some tenants got much more of the same than others, and nothing bounds a tenant's line."""
    jain, queue = evidence.measures.get("jain", math.nan), _workflow(evidence).queue
    if jain < FAIR and queue.per_tenant is None:
        where = f"workflows.{evidence.workflow}.queue.per_tenant"
        yield Word(
            where,
            f"bound {where} (a tenant may fill all {queue.depth} places): fairness "
            f"between tenants (Jain's index, 1 is even) was {jain:.2f}",
            1 - jain,
        )


def _people_are_short(evidence: Evidence) -> bool:
    shortest_s = min(lane.deadline for lane in evidence.scenario.lanes.values())
    return evidence.question_wait_s() >= HALF * shortest_s


def _workflow(evidence: Evidence) -> WorkflowSettings:
    return evidence.scenario.headgate.workflows.get(WORKFLOW, WorkflowSettings())
