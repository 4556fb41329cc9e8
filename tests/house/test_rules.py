"""The rules hold for every file of the project."""

from __future__ import annotations

import pytest

from . import checks
from .source import ROOT, Check, problems, read

EVERYWHERE = [
    checks.function_length,
    checks.names,
    checks.swallowed_errors,
    checks.code_from_data,
    checks.unfinished,
]
IN_SOURCE = [checks.file_length, checks.real_time, checks.own_chance]
IN_TESTS = [checks.sleeps, checks.assertions]


def _id(check: Check) -> str:
    return check.__name__


@pytest.mark.parametrize("check", [*EVERYWHERE, *IN_SOURCE], ids=_id)
def test_source(check: Check) -> None:
    assert problems(check, read("src")) == []


@pytest.mark.parametrize("check", [checks.code_from_data, checks.names], ids=_id)
def test_everything_beside_the_source(check: Check) -> None:
    assert problems(check, read("tests", "bench", "demo", "examples")) == []


@pytest.mark.parametrize("check", IN_TESTS, ids=_id)
def test_tests(check: Check) -> None:
    assert problems(check, read("tests")) == []


@pytest.mark.parametrize("check", [checks.purity, checks.float_sums], ids=_id)
def test_policies_and_nouns_are_pure(check: Check) -> None:
    assert problems(check, read("src/headgate/policy", "src/headgate/model")) == []


@pytest.mark.parametrize("allowed", [checks.LONGER_FILES, checks.LONGER_FUNCTIONS, checks.READS_REAL_TIME])
def test_exceptions_are_for_files_that_exist_and_have_a_reason(allowed: dict[str, str]) -> None:
    assert [path for path in allowed if not (ROOT / path.partition("::")[0]).is_file()] == []
    assert [path for path, reason in allowed.items() if not reason.strip()] == []
