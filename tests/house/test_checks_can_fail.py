"""A check that cannot fail protects nothing: each one is shown samples that it must object to, or must accept."""

from __future__ import annotations

import asyncio

import pytest

from headgate.lab.virtual_time import run_virtual

from . import checks
from .source import Check, Source, read

BAD: list[tuple[Check, str]] = [
    (checks.file_length, "x = 1\n" * 400),
    (checks.function_length, "def f():\n" + "    x = 1\n" * 69),
    (checks.function_length, "class A:\n    async def f(self):\n" + "        x = 1\n" * 69),
    (checks.purity, "import asyncio\n"),
    (checks.purity, "from time import monotonic\n"),
    (checks.purity, "import random\n"),
    (checks.purity, "def f():\n    import os\n"),
    (checks.purity, "from pydantic import BaseModel\n"),
    (checks.purity, "from headgate.config.settings import GateSettings\n"),
    (checks.float_sums, "total = sum(shares)\n"),
    (checks.float_sums, "total = sum(one.share for one in lanes)\n"),
    (checks.real_time, "import time\nnow = time.monotonic()\n"),
    (checks.real_time, "import time\nread = time.perf_counter\n"),
    (checks.real_time, "from time import time_ns\n"),
    (checks.real_time, "import datetime\nnow = datetime.datetime.now()\n"),
    (checks.real_time, "from datetime import datetime, UTC\nnow = datetime.now(UTC)\n"),
    (checks.own_chance, "import random\nx = random.random()\n"),
    (checks.own_chance, "from random import choice\n"),
    (checks.own_chance, "import uuid\nx = uuid.uuid4()\n"),
    (checks.names, "class RunManager: ...\n"),
    (checks.swallowed_errors, "try:\n    f()\nexcept ValueError:\n    pass\n"),
    (checks.swallowed_errors, "try:\n    f()\nexcept ValueError:\n    ...\n"),
    (checks.swallowed_errors, "try:\n    f()\nexcept:\n    x = 1\n"),
    (checks.swallowed_errors, "with contextlib.suppress(Exception):\n    f()\n"),
    (checks.code_from_data, "import pickle\n"),
    (checks.code_from_data, "from pickle import loads\n"),
    (checks.code_from_data, "eval('1')\n"),
    (checks.code_from_data, "exec('x = 1')\n"),
    (checks.code_from_data, "yaml.load(text)\n"),
    (checks.unfinished, "x = 1  # TODO more\n"),
    (checks.unfinished, "def f():\n    raise NotImplementedError\n"),
    (checks.sleeps, "time.sleep(1)\n"),
    (checks.sleeps, "from time import sleep\n"),
    (checks.assertions, "def test_nothing():\n    f()\n"),
]

GOOD: list[tuple[Check, str]] = [
    (checks.float_sums, "n = sum(1 for one in lanes if one)\nm = sum(one > 3 for one in lanes)\n"),
    (checks.file_length, "x = 1\n" * 399),
    (checks.function_length, "def f():\n" + "    x = 1\n" * 68),
    (checks.purity, "from dataclasses import dataclass\nfrom headgate.model.reason import Reason\n"),
    (checks.real_time, "def f(clock):\n    return clock.monotonic()\n"),
    (checks.own_chance, "import random\nrng = random.Random(7)\n"),
    (checks.own_chance, "random = key[4:]\nok = random.isalnum()\n"),
    (checks.names, "class Worker: ...\n"),
    (checks.swallowed_errors, "try:\n    f()\nexcept ValueError:\n    log.warning('no')\n"),
    (checks.swallowed_errors, "with contextlib.suppress(FileNotFoundError):\n    f()\n"),
    (checks.code_from_data, "json.loads(text)\nyaml.compose(text, Loader=yaml.SafeLoader)\n"),
    (checks.unfinished, "x = 'TODO'\n"),
    (checks.sleeps, "async def f():\n    await asyncio.sleep(0)\n"),
    (
        checks.sleeps,
        "from headgate.lab.virtual_time import run_virtual\nasync def f():\n    await asyncio.sleep(9)\n",
    ),
    (checks.assertions, "def test_x():\n    with pytest.raises(ValueError):\n        f()\n"),
    (checks.assertions, "def test_x():\n    async def main(clock):\n        assert clock\n    run_virtual(main)\n"),
]


def _id(value: object) -> str:
    return str(getattr(value, "__name__", ""))


@pytest.mark.parametrize(("check", "text"), BAD, ids=_id)
def test_objects_to_the_bad(check: Check, text: str) -> None:
    assert check(Source("src/headgate/sample.py", text)) != []


@pytest.mark.parametrize(("check", "text"), GOOD, ids=_id)
def test_accepts_the_good(check: Check, text: str) -> None:
    assert check(Source("src/headgate/sample.py", text)) == []


def test_objects_to_an_empty_file_name() -> None:
    assert checks.names(Source("src/headgate/utils.py", "")) != []


def test_sleeping_in_real_time_is_seen() -> None:
    async def sleeper(seconds: float) -> str:
        return await asyncio.sleep(seconds, "slept")

    with pytest.raises(AssertionError, match="real time"):
        asyncio.run(sleeper(0.1))
    assert asyncio.run(sleeper(0)) == "slept"
    assert run_virtual(lambda _: sleeper(3600)) == "slept"


def test_every_check_has_a_bad_sample() -> None:
    judged = {check for check, _ in BAD}
    every = {
        value
        for value in vars(checks).values()
        if callable(value) and getattr(value, "__module__", "") == checks.__name__
    }
    assert {check.__name__ for check in every if not check.__name__.startswith("_")} == {
        check.__name__ for check in judged
    }


def test_an_empty_folder_is_an_error_and_not_a_pass() -> None:
    with pytest.raises(LookupError):
        read("docs")
