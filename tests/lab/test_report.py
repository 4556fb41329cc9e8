"""Page, pictures and the documentation's table show what was measured; the page can be read in more than one way."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import ConfigError, HeadgateError
from headgate.lab.contest.compare import Entry
from headgate.lab.measures import judged, measure_of, shown, spread
from headgate.lab.report.about import About, sheet_of
from headgate.lab.report.driven import became, driven, not_there
from headgate.lab.report.folder import ABOUT, ENTRIES, put_together, read, save
from headgate.lab.report.lines import Line, chart, thinned
from headgate.lab.report.markdown import BEGIN, END, comparison, write_page, written_into
from headgate.lab.report.page import page
from headgate.lab.report.pictures import NoMatplotlib, draw
from headgate.lab.report.results import Results
from headgate.lab.scenario.description import Goal, Scenario, parse_scenario
from headgate.lab.scenario.facts import ResourceFacts
from headgate.lab.scenario.scores import LaneScore
from headgate.lab.scenario.timeline import Timeline

WORLD = """
name: tell
title: Less than <half> of it
seconds: 40s
dependencies:
  large: {kind: model, parallel: 8, most: 20}
lanes: {standard: {part: 1, deadline: 30s, value: 1}}
traffic: {load: 0.5, changes: [{since: 10, until: 20, times: 10}]}
troubles: [{since: 12, until: 18, on: large, slow: 5, errors: 0.25}]
headgate: {models: {large: {concurrency: 4, queue: {max_age: 5s}}}}
goals:
  - {measure: goodput, at_least: 0.75}
  - {measure: recovery-s, at_most: 30, of: worst}
"""
SCENARIO = parse_scenario(WORLD)


def entry(policy: str, seed: int, *, goodput: float, recovery: float = 5.0, scenario: str = "tell") -> Entry:
    columns = {
        name: [1.0, 2.0, 3.0] * 7 for name in ("offered", "admitted", "on_time", "errors", "waiting", "oldest_s")
    }
    columns |= {"inflight:large": [4.0] * 21, "limit:large": [4.0] * 21, "pressure": [math.nan] * 20 + [0.5]}
    facts = ResourceFacts(started=90, outcomes=Counter(ok=90), refused={"wait_expired": Counter({1: 10})})
    return Entry(
        scenario,
        policy,
        seed,
        {
            "goodput": goodput,
            "goodput-sizes-unknown": goodput / 0.8,
            "recovery-s": recovery,
            "accepted-late": 0.0,
            "jain": math.nan,
        },
        {"standard": LaneScore(100, 100, 90, 10, 1.0, Counter(succeeded=90))},
        100,
        50.0,
        90.0,
        "large",
        f"{policy}{seed}",
        Timeline(2.0, columns),
        {"large": facts} if policy.startswith("headgate") else {},
    )


@pytest.fixture
def results() -> Results:
    entries = [entry("none", seed, goodput=0.3, recovery=math.inf) for seed in (1, 2)]
    entries += [entry("headgate", seed, goodput=0.8 + seed / 50) for seed in (1, 2)]
    return put_together(entries, [SCENARIO], [1, 2])


class Outline(HTMLParser):
    """The tags of a page, checked for balance."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_the_page_needs_nothing_else_and_tells_every_number(results: Results) -> None:
    text = page(results)
    outline = Outline(text)
    names = [tag for tag, _ in outline.tags]
    assert "script" not in names
    assert "link" not in names
    assert re.findall(r"(?:https?:)?//", text) == []
    assert "src" not in {key for _, attributes in outline.tags for key in attributes}
    assert "83.0 % ± 1.0" in text  # goodput of headgate over two seeds
    assert "never in 2 of 2" in text
    assert "Less than &lt;half&gt; of it" in text
    assert "✗ 30.0 %" in text
    assert "✓ 83.0 %" in text


def test_the_page_can_be_read_without_eyes_in_the_dark_and_on_paper(results: Results) -> None:
    text = page(results)
    outline = Outline(text)
    drawings = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert len(drawings) >= 8
    assert all(one["role"] == "img" and "mean" in (one["aria-label"] or "") for one in drawings)
    tables = sum(tag == "table" for tag, _ in outline.tags)
    assert tables == sum(tag == "caption" for tag, _ in outline.tags) > 0
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in outline.tags if tag == "th")
    assert {"lang": "en"} in [attributes for tag, attributes in outline.tags if tag == "html"]
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_advice_is_on_the_page_with_its_number(results: Results) -> None:
    (advice,) = [one for one in results.about.sheets["tell"].advice if one.rule == "queue-age"]
    assert (advice.evidence, advice.plays, advice.of) == (0.1, 2, 2)
    assert "raise <code>large</code> queue.max_age (5 s): 10 % of its calls gave up waiting" in page(results)


def test_what_each_mechanism_brings_is_paired_by_seed(results: Results) -> None:
    without = [entry("headgate-without-breaker", seed, goodput=0.7 + seed / 50) for seed in (1, 2)]
    policies = {**results.about.policies, "headgate-without-breaker": "no breaker"}
    about = About(results.about.sheets, policies, (1, 2))
    (one,) = Results([*results.entries, *without], about).contributions("tell")
    assert one.mechanism == "breaker"
    assert one.goodput.mean == pytest.approx(0.1)
    assert one.goodput.deviation == pytest.approx(0.0)
    assert "+10.0 ± 0.0" in page(Results([*results.entries, *without], about))
    assert results.contributions("tell") == []


def test_several_scenarios_have_an_overview_and_the_best_is_marked() -> None:
    other = SCENARIO.model_copy(update={"name": "other"})
    entries = [entry(policy, 1, goodput=value, scenario=name) for policy, value in (("none", 0.2), ("headgate", 0.9))
               for name in ("tell", "other")]  # fmt: skip
    results = put_together(entries, [SCENARIO, other], [1])
    text = page(results)
    assert "Goodput by policy and scenario" in text
    assert text.count('class="best"') == 2
    assert results.mean_goodput("headgate").mean == pytest.approx(0.9)


def test_a_folder_keeps_a_comparison(results: Results, tmp_path: Path) -> None:
    path = save(results, tmp_path / "deep" / "out")
    again = read(path.parent)
    assert again.about == results.about
    assert page(again) == page(results) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "text"), [(ABOUT, "{"), (ABOUT, "{}"), (ENTRIES, "{}\n"), (ENTRIES, "[\n")])
def test_a_damaged_folder_is_told(results: Results, tmp_path: Path, name: str, text: str) -> None:
    save(results, tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError):
        read(tmp_path)


def test_an_empty_folder_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="headgate lab run SCENARIO --out DIR"):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_are_drawn_and_the_same_each_time(results: Results, tmp_path: Path, kind: str) -> None:
    (tmp_path / "again").mkdir()
    first = draw(results, tmp_path, kind=kind)
    second = draw(results, tmp_path / "again", kind=kind)
    assert [path.name for path in first] == [f"timeline-tell.{kind}", f"goodput.{kind}"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].stat().st_size > 10_000


def test_pictures_without_matplotlib_say_what_to_install(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NoMatplotlib, match=r'pip install "headgate\[lab\]"'):
        draw(results, tmp_path)


def test_a_chart_leaves_gaps_and_says_what_it_shows() -> None:
    svg = chart("Waits", [Line("a & b", [1.0, math.nan, 4.0])], 2.0, (), unit="seconds")
    Outline(svg)
    assert svg.count("M") - svg.count("Mean") == 2  # the pen is set down twice
    assert "a &amp; b: mean 2.5, most 4 seconds" in svg
    assert chart("Nothing", [Line("a", [math.nan])], 2.0, (), unit="s") == ""


def test_thinning_keeps_the_mean_and_bounds_the_points() -> None:
    values, each = thinned([float(one) for one in range(1000)], 100)
    assert (len(values), each) == (100, 10)
    assert values[0] == 4.5
    assert sum(values) / 100 == pytest.approx(499.5)


def test_numbers_are_shown_in_their_units() -> None:
    goodput, recovery = measure_of("goodput"), measure_of("recovery-s")
    assert shown(goodput, spread([0.8, 0.9])) == "85.0 % ± 5.0"
    assert shown(goodput, spread([0.8])) == "80.0 %"
    assert shown(goodput, spread([math.nan])) == "–"
    assert shown(recovery, spread([math.inf, 4.0])) == "never in 1 of 2"
    assert (measure_of("critical-on-time").better, measure_of("critical-on-time").unit) == ("more", "share")


@pytest.mark.parametrize(
    ("goal", "values", "met"),
    [
        ({"at_least": 0.5}, [0.4, 0.7], True),
        ({"at_least": 0.5, "of": "worst"}, [0.4, 0.7], False),
        ({"at_most": 0.5, "of": "worst"}, [0.4, 0.7], False),
        ({"at_most": 0.6}, [0.4, 0.7], True),
        ({"at_most": 0.6}, [math.nan], False),
        ({"at_most": 30.0}, [4.0, math.inf], False),
    ],
)
def test_goals_are_judged_by_mean_or_worst(goal: dict[str, Any], values: list[float], met: bool) -> None:
    assert judged(Goal(measure="x", **goal), [{"x": value} for value in values]).met is met


def test_a_sheet_names_surges_and_troubles() -> None:
    def told(scenario: Scenario) -> list[tuple[str, bool]]:
        return [(span.words, span.trouble) for span in sheet_of(scenario).spans]

    assert told(SCENARIO) == [("10x traffic", False), ("large: 5x slower, 25% mixed errors", True)]


POLICIES = {"none": "no limits", "fixed": "the right limit", "headgate": "headgate",
            "headgate-perfect-limits": "headgate that knows", "headgate-without-breaker": "no breaker"}  # fmt: skip


@pytest.fixture
def compared() -> Results:
    other = SCENARIO.model_copy(update={"name": "other"})
    goodput = {
        ("none", "tell"): 0.3, ("none", "other"): 0.5, ("fixed", "tell"): 0.6, ("fixed", "other"): 0.95,
        ("headgate", "tell"): 0.8, ("headgate", "other"): 0.9, ("headgate-perfect-limits", "tell"): 0.82,
        ("headgate-perfect-limits", "other"): 0.9, ("headgate-without-breaker", "tell"): 0.5,
        ("headgate-without-breaker", "other"): 0.92,
    }  # fmt: skip
    entries = [
        entry(policy, seed, goodput=value, scenario=scenario)
        for (policy, scenario), value in goodput.items()
        for seed in (1, 2)
    ]
    sheets = {one.name: sheet_of(one) for one in (SCENARIO, other)}
    return Results(entries, About(sheets, POLICIES, (1, 2)))


def test_claims_are_told_as_missed_where_they_are(compared: Results) -> None:
    text = comparison(compared)
    assert "| mean goodput ≥ 90.0 | **no** | 85.0 |" in text
    assert "| no scenario below 75.0 | yes | 80.0 in tell |" in text
    assert "| no other policy ahead in any scenario | **no** | fixed in other by 5.0 |" in text
    behind = "+1.0 points behind on average, +2.0 in tell"
    assert f"| within 3 points of perfect limits, on average | yes | {behind} |" in text
    assert "more than 0.5 points, but for steady | **no** | ahead in all that are not lost |" in text


def test_what_was_not_measured_is_not_met(compared: Results) -> None:
    nothing = [replace(one, measures={**one.measures, "amplification": math.nan}) for one in compared.entries]
    text = comparison(Results(nothing, compared.about))
    assert "| amplification ≤ 1.2 | **no** |" in text


def test_a_scenario_in_which_another_is_as_good_is_named(compared: Results) -> None:
    same = [
        replace(one, measures={**one.measures, "goodput": 0.8}) if one.policy == "fixed" else one
        for one in compared.entries
    ]
    assert "| level with the best: tell |" in comparison(Results(same, compared.about))


def test_every_number_is_there(compared: Results) -> None:
    text = comparison(compared)
    assert "2 scenarios, 5 policies, seeds 1 to 2, 2,000 calls. The plays took 30 min, added up." in text
    assert "| tell: Less than <half> of it | **80.0** ± 0.0 | 100.0 | 60.0 (fixed) | 82.0 | 2 of 2 |" in text
    assert "| breaker | +14.0 | +30.0 (tell) | -2.0 (other) |" in text
    assert "| headgate | 80 | 90 |" in text
    assert "headgate-without-breaker:" not in text  # it is no policy to choose
    assert text.index("| headgate-perfect-limits: ") < text.index("| headgate: ") < text.index("| none: ")


def test_goals_that_are_missed_are_listed(compared: Results) -> None:
    hard = SCENARIO.model_copy(update={"goals": tuple(g.model_copy(update={"at_least": 0.99}) if g.at_least else g
                                                      for g in SCENARIO.goals)})  # fmt: skip
    about = About({"tell": sheet_of(hard)}, POLICIES, (1, 2))
    text = comparison(Results([one for one in compared.entries if one.scenario == "tell"], about))
    assert "| tell | goodput ≥ 99.0 % | 80.0 % |" in text
    assert "None." in comparison(compared)


def test_a_page_keeps_everything_outside_the_markers(compared: Results, tmp_path: Path) -> None:
    page = tmp_path / "lab.md"
    page.write_text(f"# Lab\n\nwords\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    (tmp_path / "lab").mkdir()
    write_page(compared, page, [tmp_path / "lab" / "goodput.png"])
    first = page.read_text()
    assert first.startswith(f"# Lab\n\nwords\n\n{BEGIN}\n\n2 scenarios")
    assert first.endswith(f"\n\n{END}\n\nmore\n")
    assert "![goodput](lab/goodput.png)" in first
    assert "old" not in first
    write_page(compared, page, [tmp_path / "lab" / "goodput.png"])
    assert page.read_text() == first


@pytest.mark.parametrize("page", ["", BEGIN, END + BEGIN, f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_one_pair_of_markers_is_refused(page: str, tmp_path: Path, compared: Results) -> None:
    with pytest.raises(HeadgateError, match="needs one line"):
        written_into(page, "words")
    with pytest.raises(HeadgateError, match="cannot write the comparison"):
        write_page(compared, tmp_path / "nope.md")


def test_what_became_of_the_runs_is_told_over_all_lanes() -> None:
    lanes = {
        "critical": LaneScore(3, 2, 0, 2, 1.0, Counter({"error": 2, "refused: queue_full": 1})),
        "standard": LaneScore(5, 5, 1, 4, 1.0, Counter({"error": 4, "succeeded": 1})),
    }
    assert became(lanes) == "What became of 8 runs: 6 error, 1 refused: queue_full, 1 succeeded."
    assert became({"standard": LaneScore(0, 0, 0, 0, 1.0, Counter())}) == "No run came that is scored."


def test_troubles_that_a_live_service_does_not_have_are_told() -> None:
    told = not_there(SCENARIO)
    assert told == "Nothing went wrong there by itself: the file's trouble (on large) did not happen at the service."
    two = SCENARIO.model_copy(update={"troubles": SCENARIO.troubles * 2})
    assert "the file's 2 troubles (on large) did not happen" in not_there(two)


@pytest.mark.parametrize(
    ("goal", "value", "told"),
    [
        ({"measure": "critical-on-time", "at_least": 0.99}, 0.98996, "98.996 %"),
        ({"measure": "critical-on-time", "at_least": 0.99}, 0.9896, "98.96 %"),
        ({"measure": "critical-on-time", "at_least": 0.99}, 0.95, "95.0 %"),
        ({"measure": "critical-on-time", "at_least": 0.99}, 0.9901, "99.0 %"),
        ({"measure": "amplification", "at_most": 1.2}, 1.2004, "1.2004"),
        ({"measure": "recovery-s", "at_most": 30}, math.inf, "never"),
        ({"measure": "recovery-s", "at_most": 30}, math.nan, "–"),
    ],
)
def test_a_goal_missed_by_little_shows_by_how_much(goal: dict[str, Any], value: float, told: str) -> None:
    assert judged(Goal(**goal), [{goal["measure"]: value}]).shown == told


def test_goals_that_nobody_sees_from_outside_are_told_before_anything_is_driven() -> None:
    scenario = SCENARIO.model_copy(update={"goals": (Goal(measure="amplification", at_most=1.2),)})
    with pytest.raises(ConfigError, match="can be seen from outside"):
        driven(scenario, "http://127.0.0.1:9", seed=1, workflow="agent")


def test_one_of_something_is_told_as_one(compared: Results) -> None:
    one = Results(
        [entry for entry in compared.entries if entry.scenario == "tell" and entry.policy == "headgate"],
        About({"tell": compared.about.sheets["tell"]}, {"headgate": "headgate"}, (1,)),
    )
    assert "<p>1 scenario, 1 policy, 1 seed" in page(one)
    assert "<p>2 scenarios, 5 policies, 2 seeds" in page(compared)


def test_the_distance_to_perfect_limits_is_of_the_seeds_that_both_played(compared: Results) -> None:
    only_ours = entry("headgate", 3, goodput=0.1, scenario="tell")
    results = Results([*compared.entries, only_ours], compared.about)
    assert results.behind("tell", "headgate-perfect-limits").mean == pytest.approx(0.02)
    assert math.isnan(results.behind("tell", "nobody").mean)
