"""Loop detection: what repeats itself is found, what only looks like it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.policy.loops import BETWEEN_AT_MOST, KEPT, Level, LoopDetector, Thresholds

FEW = Thresholds(warn=3, refuse=5, stop=8)


def _make(
    detector: LoopDetector, call: object, result: object | None, *, model: bool = False, repeats: bool = False
) -> Level:
    """Make one call that gives ``result`` (``None``: fails); what the detector thinks of it."""
    asked = detector.ask(call, model=model, repeats=repeats)
    if asked.level is not Level.FINE:
        return asked.level
    begun = detector.begin()
    if result is None:
        return detector.failed(call, begun, repeats=repeats).level
    return detector.succeeded(call, result, begun, model=model, repeats=repeats).level


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


def test_a_call_that_is_meant_to_repeat_is_never_counted() -> None:
    detector = LoopDetector(FEW)
    for n in range(50):
        assert _make(detector, "status", "running" if n % 3 else None, repeats=True) is Level.FINE
    assert [_make(detector, "status", "running") for _ in range(3)] == [Level.FINE, Level.FINE, Level.WARN]


def test_what_a_poll_brings_is_progress_for_others() -> None:
    detector = LoopDetector(FEW)
    for n in range(20):
        assert _make(detector, "depth", n, repeats=True) is Level.FINE
        assert _make(detector, "beat", "ok") is Level.FINE


@given(st.lists(st.integers(0, 4), min_size=8, max_size=8), st.booleans())
def test_answers_of_a_model_are_no_progress_for_tools(thoughts: list[int], fails: bool) -> None:
    """An agent with a growing prompt: each answer is new, each search the same."""
    detector = LoopDetector(FEW)
    levels, prompt = [], 0
    for number in thoughts:
        for _ in range(number):
            prompt += 1
            assert _make(detector, f"prompt {prompt}", f"answer {prompt}", model=True) is Level.FINE
        levels.append(_make(detector, "search", None if fails else "nothing"))
    assert levels == SEQUENCE


def test_a_repeated_search_is_called_a_repetition_whatever_the_model_says() -> None:
    detector = LoopDetector(FEW)
    for n in range(5):
        _make(detector, f"prompt {n}", f"answer {n}", model=True)
        _make(detector, "search", "nothing")
    assert detector.ask("search").why == "repetition"


def test_many_answers_do_not_push_a_search_out_of_memory() -> None:
    detector = LoopDetector(FEW)
    levels = []
    for turn in range(5):
        for n in range(KEPT):
            _make(detector, f"prompt {turn} {n}", n, model=True)
        levels.append(_make(detector, "search", "nothing"))
    assert levels == SEQUENCE[:5]


def test_a_model_that_gives_the_same_answer_to_the_same_prompt_is_found() -> None:
    detector = LoopDetector(FEW)
    assert [_make(detector, "prompt", "same", model=True) for _ in range(8)] == SEQUENCE


@given(st.integers(1, 6))
def test_what_a_tool_brings_is_progress_for_models(every: int) -> None:
    detector = LoopDetector(FEW)
    levels = []
    for n in range(30):
        levels.append(_make(detector, "what next?", "read on", model=True))
        if n % every == 0:
            _make(detector, f"page {n}", "text")
    assert (max(levels) >= Level.WARN) == (every > FEW.warn - 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.booleans()), max_size=200))
def test_work_in_chunks_raises_no_alarm(steps: list[tuple[bool, int, bool]]) -> None:
    """Calls of models and tools with other arguments each time, few different results, some failures."""
    detector = LoopDetector(FEW)
    for chunk, (model, result, fails) in enumerate(steps):
        assert _make(detector, f"chunk {chunk}", None if fails else result, model=model) is Level.FINE


@given(st.lists(st.integers(0, 3), min_size=20, max_size=120), st.integers(0, BETWEEN_AT_MOST))
def test_a_moving_poll_beside_calls_that_stand_still_is_no_loop(gauge: list[int], beside: int) -> None:
    detector = LoopDetector(FEW)
    for value in [value for n, value in enumerate(gauge) if n == 0 or value != gauge[n - 1]]:
        assert _make(detector, "depth", value) is Level.FINE
        for other in range(beside):
            assert _make(detector, f"beat {other}", "ok") is Level.FINE


@given(st.lists(st.one_of(st.just("depth"), st.integers(0, 30)), max_size=200), st.integers(2, 5))
def test_a_call_whose_result_changes_every_time_is_never_refused(calls: list[object], values: int) -> None:
    detector = LoopDetector(FEW)
    looked = 0
    for call in calls:
        if call == "depth":
            looked += 1
            assert _make(detector, call, looked % values) is Level.FINE
        else:
            _make(detector, call, "ok")


@given(st.lists(st.integers(1, 30), min_size=4, max_size=4), st.booleans())
def test_a_batch_of_refused_calls_is_one_refusal(batches: list[int], fails: bool) -> None:
    detector = LoopDetector(FEW)
    for _ in range(FEW.refuse):
        _make(detector, "search", None if fails else "nothing")
    batch_levels = []
    for size in batches:
        aware = detector.refusals
        judged = [detector.ask("search", aware=aware) for _ in range(size)]
        assert [one.counted for one in judged] == [True] + [False] * (size - 1)
        assert len({one.count for one in judged}) == 1
        batch_levels.append(judged[0].level)
        if batch_levels[-1] is Level.STOP:
            break
        assert {one.level for one in judged} == {Level.REFUSE}
    assert batch_levels == [Level.REFUSE, Level.REFUSE, Level.STOP]


@given(st.integers(1, 8), st.integers(1, 20))
def test_branches_that_insist_together_are_stopped(branches: int, thresholds: int) -> None:
    """Each branch asks again once it was refused: however many they are, a round of them counts."""
    limits = Thresholds(1, 1, thresholds)
    detector = LoopDetector(limits)
    _make(detector, "search", "nothing")
    aware = [0] * branches
    levels = []
    for _ in range(max(2, thresholds)):
        for branch in range(branches):
            levels.append(detector.ask("search", aware=aware[branch]).level)
            aware[branch] = detector.refusals
    assert Level.STOP in levels


def test_nobody_is_stopped_by_the_first_refusal() -> None:
    detector = LoopDetector(Thresholds(warn=2, refuse=2, stop=2))
    levels = [_make(detector, "a", "same") for _ in range(2)] + [detector.ask("a").level for _ in range(2)]
    assert levels[2:] == [Level.REFUSE, Level.STOP]


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
            level = _make(detector, arguments, result, model=call.startswith("model"))
            assert level is Level.FINE, (turn, call)
        if turn % 4 == 0:
            assert _make(detector, f"search {turn}", None) is Level.FINE


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), unique_by=lambda one: one[0], max_size=300))
def test_different_calls_are_never_a_loop(calls: list[tuple[int, bool]]) -> None:
    detector = LoopDetector(FEW)
    for call, fails in calls:
        assert _make(detector, call, None if fails else "same for all") is Level.FINE


@given(
    st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 2)), st.booleans()), max_size=400),
    st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3)),
)
def test_a_call_is_stopped_only_after_it_was_refused(
    moves: list[tuple[int, int | None, bool]], thresholds: tuple[int, int, int]
) -> None:
    warn, more, yet_more = thresholds
    detector = LoopDetector(Thresholds(warn, warn + more, warn + more + yet_more))
    refused: set[tuple[int, bool]] = set()
    for call, result, model in moves:
        level = detector.ask((call, model), model=model).level
        if level is Level.STOP:
            assert (call, model) in refused
            return
        if level is Level.REFUSE:
            refused.add((call, model))
            continue
        if result is None:
            detector.failed((call, model), detector.begin())
        else:
            detector.succeeded((call, model), result, detector.begin(), model=model)


@given(st.integers(1, 2000))
def test_memory_is_bounded(calls: int) -> None:
    detector = LoopDetector(FEW)
    for n in range(calls):
        _make(detector, n, None if n % 3 == 0 else n % 5, model=n % 2 == 0)
    assert len(detector._failing) <= KEPT
    for memory in (detector._tools, detector._models):
        assert max(len(memory.seen), len(memory.latest), len(memory.turning)) <= KEPT


@given(st.lists(st.integers(0, 5), min_size=2, max_size=300), st.booleans())
def test_one_call_whose_results_keep_changing_is_never_a_loop(gauge: list[int], model: bool) -> None:
    detector = LoopDetector(FEW)
    moving = [value for n, value in enumerate(gauge) if n == 0 or value != gauge[n - 1]]
    for value in moving:
        assert _make(detector, "depth of the queue", value, model=model) is Level.FINE


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
    judged = [detector.succeeded("status", "running", detector.begin()) for _ in range(4)][-1]
    assert (judged.level, judged.refuse_at, judged.stop_at) == (Level.WARN, 5, 8)
    judged = [detector.failed("broken", detector.begin()) for _ in range(3)][-1]
    assert (judged.level, judged.refuse_at, judged.stop_at) == (Level.WARN, 5, 8)
