"""Conformance of `headgate.store.report_protocols.Reports`, and of forecasts inside `Admissions.admit`."""

from __future__ import annotations

import dataclasses

from headgate.model.decision import Admission, Refusal
from headgate.model.promise import read_promise
from headgate.model.reason import Reason
from headgate.model.resource_report import OwnerReport, ResourceReport, TrackSample
from headgate.policy.calibration import WINDOW
from headgate.policy.eta import WORKERS, Line, Prospect
from headgate.policy.feasibility import Wish
from headgate.testing.store_conformance_ground import NOW, Ground

SLOTS = ResourceReport(WORKERS, 4, 4, 1, 0, 17, 34.5)
TOOL = ResourceReport("github", 2, 8, 2, 5, 100, 81.25, 0.8, "open")
PROSPECT = Prospect(path_s=2.0, slots=1, lines=(Line(WORKERS, 2.0, 1.0, 1.0),))


async def what_a_process_told_last_counts_for_its_time(ground: Ground) -> None:
    reports = ground.store.reports
    await reports.put("a", [SLOTS], now_ms=NOW, until_ms=NOW + 100)
    await reports.put("b", [SLOTS, TOOL], now_ms=NOW + 10, until_ms=NOW + 1000)
    await reports.put("a", [TOOL], now_ms=NOW + 20, until_ms=NOW + 120)
    await ground.open_again()
    reports = ground.store.reports
    told = [OwnerReport("a", NOW + 20, (TOOL,)), OwnerReport("b", NOW + 10, (SLOTS, TOOL))]
    assert await reports.all(now_ms=NOW + 119) == told
    assert await reports.all(now_ms=NOW + 120) == told[1:]
    await reports.withdraw("b")
    assert await reports.all(now_ms=NOW + 30) == told[:1]


async def tracks_keep_their_latest_samples(ground: Ground) -> None:
    reports = ground.store.reports
    await reports.learn([], now_ms=NOW)
    assert await reports.tracks() == []
    await reports.learn([TrackSample("x", (1.0, 0.5)), TrackSample("y", (3.0,))], now_ms=NOW)
    first = await reports.tracks()
    assert {track.name: track.samples for track in first} == {"x": ((1.0, 0.5),), "y": ((3.0,),)}
    seen = max(track.revision for track in first)
    await reports.learn([TrackSample("x", (float(n), 0.0)) for n in range(WINDOW)], now_ms=NOW + 1)
    await ground.open_again()
    [changed] = await ground.store.reports.tracks(after=seen)
    assert changed.name == "x"
    assert changed.samples == tuple((float(n), 0.0) for n in range(WINDOW))
    for latest in ((0.25, 1.0), (0.1234, -2.0)):
        await ground.store.reports.learn([TrackSample("x", latest)], now_ms=NOW + 2)
    [slid] = await ground.store.reports.tracks(after=changed.revision)
    assert slid.samples == (*changed.samples[2:], (0.25, 1.0), (0.1234, -2.0))


async def a_run_is_told_its_times_with_the_runs_ahead_of_it(ground: Ground) -> None:
    wish = Wish(PROSPECT, cheaper=None, may_degrade=False, left_s=None)
    told = []
    for _ in range(3):
        answer = await ground.ask(wish=wish)
        assert isinstance(answer, Admission)
        told.append((answer.position, answer.eta_ms, answer.finish_ms))
    assert told[0] == (0, 0, 2000)
    assert told[1][0] == 1
    assert [eta for _, eta, _ in told if eta is not None] == sorted({eta for _, eta, _ in told if eta is not None})


async def what_was_promised_is_kept_where_it_is_wanted(ground: Ground) -> None:
    wish = Wish(PROSPECT, cheaper=None, may_degrade=False, left_s=None)
    for wanted in (False, True):
        answer = await ground.ask(wish=wish, remember_promise=wanted)
        assert isinstance(answer, Admission)
        promise = read_promise((await ground.get(answer.run)).promise)
        assert (promise is not None) is wanted
        if promise is not None:
            assert promise.finish_p50 == answer.finish_ms


async def what_would_come_too_late_takes_nothing(ground: Ground) -> None:
    wish = Wish(PROSPECT, cheaper=None, may_degrade=False, left_s=3.0)
    answers = [await ground.ask(wish=wish) for _ in range(4)]
    taken = [answer for answer in answers if isinstance(answer, Admission)]
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert taken
    assert {answer.reason for answer in refused} == {Reason.TOO_LATE}
    assert all(answer.retry_after_ms and answer.ahead == len(taken) for answer in refused)
    lane = next(queue for queue in (await ground.store.runs.overview()).queues if queue.lane)
    assert lane.depth == len(taken)
    degraded = await ground.ask(
        wish=dataclasses.replace(
            wish, may_degrade=True, plain=dataclasses.replace(PROSPECT, path_s=60.0), left_s=50.0
        )
    )
    assert isinstance(degraded, Admission)
    assert degraded.run.degraded


CASES = (
    what_a_process_told_last_counts_for_its_time,
    tracks_keep_their_latest_samples,
    a_run_is_told_its_times_with_the_runs_ahead_of_it,
    what_was_promised_is_kept_where_it_is_wanted,
    what_would_come_too_late_takes_nothing,
)
