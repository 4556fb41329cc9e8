"""The fixtures as users have them: in a test suite of their own."""

from __future__ import annotations

import subprocess
import sys

import openai
import pytest

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.process

SCENARIO = """
name: tiny
title: A tiny surge
seconds: 15s
dependencies:
  large: {kind: model, parallel: 6, most: 18, takes: 200ms, reads: 20000, writes: 600}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes: {standard: {part: 1.0, deadline: 20s, value: 2}}
tenants: {count: 3}
calls: {least: 3, most: 4}
traffic: {load: 0.6, changes: [{since: 4, until: 9, times: 6}]}
headgate: {models: {large: {}}, tools: {desk: {}}}
goals: [{measure: goodput, at_least: 0.1}]
"""
CONFIG = """
models: {large: {concurrency: 1..12}}
tools: {desk: {concurrency: 1..12}}
workflows: {triage: {lane: standard}}
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makefile(".yaml", tiny=SCENARIO, headgate=CONFIG)
    # a suite of users has none of our options; their plugins only cost time here
    pytester.makeini("[pytest]\naddopts = -p no:randomly -p no:xdist -p no:cacheprovider\n")
    return pytester


def test_five_lines_are_a_test_a_failure_is_a_table_and_mistakes_are_told(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from headgate import ConfigError

        def test_survives(headgate_lab):
            outcome = headgate_lab.play("tiny.yaml", config="headgate.yaml")
            outcome.must(goodput=0.1, standard_on_time=0.1, amplification=3).must_meet_goals()
            assert outcome.measures["goodput"] > 0.1

        def test_fails(headgate_lab):
            outcome = headgate_lab.play("tiny.yaml", config="headgate.yaml", seeds=2, seconds=8)
            outcome.must(goodput=1.5, amplification=9)

        @pytest.mark.parametrize(("more", "words"), [
            ({"seeds": 0}, "seeds must be at least 1"),
            ({"seconds": 16}, "at most 15, not 16"),
            ({"config": "nope.yaml"}, "nope.yaml: cannot be read"),
            ({"config": "headgate.yaml", "workflow": "nope"}, "declares no workflow 'nope'"),
        ])
        def test_mistake(headgate_lab, more, words):
            with pytest.raises(ConfigError, match=words):
                headgate_lab.play("tiny.yaml", **more)

        def test_measure(headgate_lab):
            with pytest.raises(ConfigError, match="no measure 'speed'; known: goodput, "):
                headgate_lab.play("tiny.yaml").must(speed=1)
            with pytest.raises(ConfigError, match="nothing is demanded"):
                headgate_lab.play("tiny.yaml", seconds=4).must()
        """
    )
    # a process of its own: in this one, modules that it imports would be imported anew by later tests
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*headgate in tiny (seeds 1, 2): 1 of 2 demands missed. A short copy of 8 s. Config*",
            "*MISSED*goodput ≥ 150.0 %*was *% ± *",
            "*met*amplification ≤ 9.00*was *",
            "*wasted work*was*%",
        ]
    )
    assert "in_tests.py" not in result.stdout.str()


def test_loading_the_plugin_imports_nothing_of_headgate() -> None:
    code = "import sys, headgate_pytest; print(sorted({name.split('.')[0] for name in sys.modules}))"
    python = [sys.executable, "-c", code]
    told = subprocess.run(python, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert "'headgate_pytest'" in told
    for heavy in ("headgate", "pydantic", "yaml", "httpx2", "matplotlib"):
        assert f"'{heavy}'" not in told


def test_the_provider_answers_an_sdk_and_keeps_a_ledger(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"""
        import openai
        assert openai.__version__ == {openai.__version__!r}

        def test_provider(headgate_provider):
            client = openai.OpenAI(base_url=headgate_provider.base_url, api_key="any", max_retries=0)

            def ask():
                question = [{{"role": "user", "content": "hello"}}]
                return client.chat.completions.create(model="small", messages=question, max_tokens=5)

            assert ask().usage.completion_tokens == 5
            headgate_provider.schedule([{{"start_s": 0, "end_s": 60, "models": ["small"], "errors": 1.0}}])
            try:
                ask()
            except openai.APIStatusError as error:
                status = str(error.status_code)
            ledger = headgate_provider.ledger()
            assert (ledger["received"], ledger["ok"]) == (2, 1)
            assert ledger["models"]["small"]["by_status"] == {{"200": 1, status: 1}}
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=1)
