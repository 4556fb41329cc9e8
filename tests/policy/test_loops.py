"""Loop detection: what repeats itself is found, what only looks like it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.loops import KEPT, PURE_TIMES, Level, LoopDetector, Thresholds

FEW = Thresholds(warn=3, refuse=5, stop=8)


def _make(detector: LoopDetector, call: object, result: object | None, *, pure: bool = False) -> Level:
    """Make one call that gives ``result`` (``None``: fails); what the detector thinks of it."""
    asked = detector.ask(call, pure=pure)
    if asked.level is not Level.FINE:
        return asked.level
    begun = detector.begin()
    if result is None:
        return detector.failed(call, begun).level
    return detector.succeeded(call, result, begun, pure=pure).level


SEQUENCE = [Level.FINE, Level.FINE, Level.WARN, Level.WARN, Level.REFUSE, Level.REFUSE, Level.REFUSE, Level.STOP]


def test_the_same_failure_is_warned_of_then_refused_then_stopped() -> None:
    detector = LoopDetector(FEW)
    assert [_make(detector, "a", None) for _ in range(8)] == SEQUENCE


def test_failures_count_whatever_is_done_in_between_until_one_success() -> None:
    detector = LoopDetector(FEW)
    levels = []
    for n in range(4):
        levels.append(_make(detector, "a", None))
        assert _make(detector, f"other {n}", n) is Level.FINE
    assert levels == [Level.FINE, Level.FINE, Level.WARN, Level.WARN]
    assert _make(detector, "a", "at last") is Level.FINE
    assert _make(detector, "a", None) is Level.FINE


def test_repetition_without_progress_is_found() -> None:
    detector = LoopDetector(FEW)
    assert [_make(detector, "a", "same") for _ in range(8)] == SEQUENCE
    assert detector.ask("a").why == "repetition"


def test_a_ping_pong_is_found_and_named() -> None:
    detector = LoopDetector(FEW)
    rounds = [(_make(detector, "a", 1), _make(detector, "b", 2)) for _ in range(5)]
    # The first result of b is new, which begins the count of a again.
    assert rounds[3] == (Level.WARN, Level.WARN)
    judged = detector.ask("b")
    assert (judged.level, judged.why) == (Level.REFUSE, "ping_pong")


def test_anything_new_is_progress() -> None:
    detector = LoopDetector(FEW)
    for n in range(50):
        assert _make(detector, "status", "running") is Level.FINE
        assert _make(detector, "log", n) is Level.FINE


def test_polling_without_effects_has_more_room() -> None:
    detector = LoopDetector(FEW)
    levels = [_make(detector, "status", "running", pure=True) for _ in range(FEW.stop * PURE_TIMES)]
    assert levels.index(Level.WARN) == FEW.warn * PURE_TIMES - 1
    assert levels.index(Level.REFUSE) == FEW.refuse * PURE_TIMES - 1
    assert levels[-1] is Level.STOP


def test_a_fan_out_over_the_same_arguments_counts_once() -> None:
    detector = LoopDetector(FEW)
    begun = [detector.begin() for _ in range(20)]
    assert {detector.succeeded("vote", "yes", one).level for one in begun} == {Level.FINE}
    begun = [detector.begin() for _ in range(20)]
    assert {detector.failed("map", one).level for one in begun} == {Level.FINE}


def test_what_is_remembered_is_known_and_not_counted_again() -> None:
    detector = LoopDetector(FEW)
    assert {detector.succeeded("a", "same", -1).level for _ in range(20)} == {Level.FINE}
    assert _make(detector, "a", "same") is Level.FINE  # the second in fact


def test_a_realistic_trace_raises_no_alarm() -> None:
    """An agent that fixes a bug: reads, edits, runs tests that fail in other ways, reads the same file again."""
    detector = LoopDetector(FEW)
    for turn in range(12):
        trace = [
            ("read main.py", f"version {turn // 2}"),
            ("model", f"think {turn}"),
            ("edit main.py", "ok"),
            ("test", f"{12 - turn} failed"),
            ("status", "clean" if turn % 2 else "dirty"),
            ("read notes.md", "notes"),
        ]
        for call, result in trace:
            arguments = f"{call} {turn}" if call.startswith(("model", "edit")) else call
            assert _make(detector, arguments, result) is Level.FINE, (turn, call)
        if turn % 4 == 0:
            assert _make(detector, f"search {turn}", None) is Level.FINE


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), unique_by=lambda one: one[0], max_size=300))
def test_different_calls_are_never_a_loop(calls: list[tuple[int, bool]]) -> None:
    detector = LoopDetector(FEW)
    for call, fails in calls:
        assert _make(detector, call, None if fails else "same for all") is Level.FINE


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 2)), st.booleans()), max_size=400))
def test_a_call_is_stopped_only_after_it_was_refused(moves: list[tuple[int, int | None, bool]]) -> None:
    detector = LoopDetector(FEW)
    refused: set[int] = set()
    for call, result, pure in moves:
        level = detector.ask(call, pure=pure).level
        if level is Level.STOP:
            assert call in refused
            return
        if level is Level.REFUSE:
            refused.add(call)
            continue
        if result is None:
            detector.failed(call, detector.begin())
        else:
            detector.succeeded(call, result, detector.begin(), pure=pure)


@given(st.integers(1, 2000))
def test_memory_is_bounded(calls: int) -> None:
    detector = LoopDetector(FEW)
    for n in range(calls):
        _make(detector, n, None if n % 3 == 0 else n % 5)
    assert max(len(detector._failing), len(detector._seen), len(detector._last_result)) <= KEPT
    assert len(detector._turning) <= KEPT


@given(st.lists(st.integers(0, 5), min_size=2, max_size=300), st.booleans())
def test_one_call_whose_results_keep_changing_is_never_a_loop(gauge: list[int], pure: bool) -> None:
    detector = LoopDetector(FEW)
    moving = [value for n, value in enumerate(gauge) if n == 0 or value != gauge[n - 1]]
    for value in moving:
        assert _make(detector, "depth of the queue", value, pure=pure) is Level.FINE


def test_a_poll_that_stands_still_is_found_after_it_moved() -> None:
    detector = LoopDetector(FEW)
    for value in (3, 4, 3, 4, 3):
        assert _make(detector, "depth", value) is Level.FINE
    assert [_make(detector, "depth", 3) for _ in range(4)] == [Level.FINE, Level.WARN, Level.WARN, Level.REFUSE]


def test_a_ping_pong_of_calls_that_flip_each_other_is_found() -> None:
    detector = LoopDetector(FEW)
    levels = []
    for turn in range(12):
        levels += [_make(detector, f"set {turn % 2}", "ok"), _make(detector, "look", turn % 2)]
    assert levels[:4] == [Level.FINE] * 4
    assert Level.REFUSE in levels[:24]


def test_a_judgement_says_from_when_on_it_is_refused_and_stopped() -> None:
    detector = LoopDetector(FEW)
    judged = [detector.succeeded("status", "running", detector.begin(), pure=True) for _ in range(12)][-1]
    assert (judged.level, judged.refuse_at, judged.stop_at) == (Level.WARN, 20, 32)
    judged = [detector.failed("broken", detector.begin()) for _ in range(3)][-1]
    assert (judged.level, judged.refuse_at, judged.stop_at) == (Level.WARN, 5, 8)
