"""The rules, one function each: a `Source` in, its problems out."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set

from .source import Source

FILE_LINES = 400
FUNCTION_LINES = 70

LONGER_FILES: dict[str, str] = {}
"""Path → why this file may reach 400 lines."""
LONGER_FUNCTIONS: dict[str, str] = {}
"""``path::name`` → why this function may reach 70 lines."""
READS_REAL_TIME: dict[str, str] = {
    "src/headgate/clock.py": "it is the clock",
}
"""Path → why this file may read real time."""

PURE_IMPORTS = frozenset(
    {
        *("__future__", "collections", "collections.abc", "dataclasses", "enum", "typing", "functools", "itertools"),
        *("bisect", "heapq", "hashlib", "json", "math", "operator", "re", "statistics", "uuid"),
    }
)
"""What ``policy`` and ``model`` may import from outside the project: nothing that acts, waits or reads the world."""
PURE_ROOMS = ("headgate.model", "headgate.policy", "headgate.errors")

TIME_READERS = frozenset(
    {
        *("time", "monotonic", "perf_counter", "process_time", "thread_time", "clock_gettime"),
        *("time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time_ns", "clock_gettime_ns"),
        "sleep",
    }
)
DATE_READERS = frozenset({"now", "utcnow", "today"})
SERIALIZERS_THAT_RUN_CODE = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"})
UNSAFE_YAML = frozenset({"load", "load_all", "full_load", "unsafe_load", "unsafe_load_all"})
EMPTY_NAMES = frozenset({"utils", "util", "helpers", "helper", "manager", "managers", "base", "misc", "common"})
EMPTY_ENDINGS = ("Manager", "Helper", "Utils", "Util", "Base")


def file_length(source: Source) -> list[str]:
    lines = source.text.count("\n")
    if lines < FILE_LINES or source.path in LONGER_FILES:
        return []
    return [f"{lines}: {lines} lines; a file has fewer than {FILE_LINES}"]


def function_length(source: Source) -> list[str]:
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines >= FUNCTION_LINES and f"{source.path}::{node.name}" not in LONGER_FUNCTIONS:
                found.append(
                    f"{node.lineno}: {node.name} has {lines} lines; a function has fewer than {FUNCTION_LINES}"
                )
    return found


def purity(source: Source) -> list[str]:
    return [
        f"{line}: imports {name}, which pure code must not"
        for line, name in _imports(source.tree)
        if name not in PURE_IMPORTS and not name.startswith(PURE_ROOMS)
    ]


def float_sums(source: Source) -> list[str]:
    """From Python 3.12 on ``sum`` rounds floats in another way: where decisions are made, the same seed must give the
    same numbers in every version. ``math.fsum`` does; counting whole numbers is no matter."""
    return [
        f"{node.lineno}: sum() of what may be floats; use math.fsum, or count with 'sum(1 for …)'"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "sum"
        and not (node.args and isinstance(node.args[0], ast.GeneratorExp) and _counts(node.args[0].elt))
    ]


def _counts(each: ast.expr) -> bool:
    whole = isinstance(each, ast.Constant) and isinstance(each.value, int)
    return whole or isinstance(each, (ast.Compare, ast.BoolOp))


def real_time(source: Source) -> list[str]:
    """Time comes from a `Clock` or as ``now``."""
    if source.path in READS_REAL_TIME:
        return []
    found = [f"{line}: from time import {name}" for line, name in _imported_from(source.tree, "time", TIME_READERS)]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute):
            owner = _last_name(node.value)
            if (owner == "time" and node.attr in TIME_READERS) or (
                owner in {"datetime", "date"} and node.attr in DATE_READERS
            ):
                found.append(f"{node.lineno}: {owner}.{node.attr} reads real time; take a Clock or a now")
    return found


def own_chance(source: Source) -> list[str]:
    """Chance comes in as a `random.Random`; only `secrets` (for keys) needs no seed."""
    found = [
        f"{line}: from random import {name}"
        for line, name in _imported_from(source.tree, "random")
        if name not in {"Random", "SystemRandom"}
    ]
    modules = {
        alias.name for node in ast.walk(source.tree) if isinstance(node, ast.Import) for alias in node.names
    } & {"random", "uuid"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            unseeded = node.value.id == "random" and node.attr not in {"Random", "SystemRandom"}
            if unseeded or (node.value.id == "uuid" and node.attr in {"uuid1", "uuid4"}):
                found.append(f"{node.lineno}: {node.value.id}.{node.attr} cannot be repeated; take a random.Random")
    return found


def names(source: Source) -> list[str]:
    """Names that say nothing about what is inside."""
    found = [f"1: the file name {source.stem!r} says nothing"] if source.stem in EMPTY_NAMES else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith(EMPTY_ENDINGS):
            found.append(f"{node.lineno}: the class name {node.name!r} says nothing")
    return found


def swallowed_errors(source: Source) -> list[str]:
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            if all(_does_nothing(statement) for statement in node.body):
                found.append(f"{node.lineno}: an error is swallowed; narrow it with contextlib.suppress and say why")
            elif node.type is None and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                found.append(f"{node.lineno}: a bare except that does not raise")
        if isinstance(node, ast.Call) and _last_name(node.func) == "suppress":
            for argument in node.args:
                if _last_name(argument) in {"Exception", "BaseException"}:
                    found.append(f"{node.lineno}: suppress({_last_name(argument)}) swallows everything")
    return found


def code_from_data(source: Source) -> list[str]:
    """Nothing that turns stored or received bytes into running code."""
    found = [
        f"{line}: imports {name}"
        for line, name in _imports(source.tree)
        if name.split(".")[0] in SERIALIZERS_THAT_RUN_CODE
    ]
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile", "__import__"}:
            found.append(f"{node.lineno}: calls {node.func.id}")
        called = _last_name(node.func)
        if isinstance(node.func, ast.Attribute) and _last_name(node.func.value) == "yaml" and called in UNSAFE_YAML:
            found.append(f"{node.lineno}: calls yaml.{called}; only the safe loader may read YAML")
    return found


def unfinished(source: Source) -> list[str]:
    found = [
        f"{number}: an unfinished place"
        for number, line in enumerate(source.text.splitlines(), 1)
        if "#" in line
        and any(word in line.partition("#")[2].split() for word in ("TODO", "TODO:", "FIXME", "FIXME:"))
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.dump(node.exc):
            found.append(f"{node.lineno}: raises NotImplementedError")
    return found


def sleeps(source: Source) -> list[str]:
    """Tests do not stop the thread. `tests/conftest.py` sees to ``asyncio.sleep``, which is free in virtual time."""
    found = [f"{line}: from time import sleep" for line, _ in _imported_from(source.tree, "time", {"sleep"})]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and _last_name(node.value) == "time":
            found.append(f"{node.lineno}: time.sleep in a test; wait for an event or use run_virtual")
    return found


def assertions(source: Source) -> list[str]:
    """A test that asserts nothing cannot fail for the right reason."""
    found = []
    for node in ast.walk(source.tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or not node.name.startswith("test_"):
            continue
        if not any(_asserts(inner) for inner in ast.walk(node)):
            found.append(f"{node.lineno}: {node.name} asserts nothing")
    return found


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = _last_name(node.func).lstrip("_")
    return called in {"raises", "fail"} or called.startswith(("assert", "check", "expect"))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def _imported_from(tree: ast.Module, module: str, wanted: Set[str] | None = None) -> list[tuple[int, str]]:
    return [
        (node.lineno, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
        if wanted is None or alias.name in wanted
    ]


def _last_name(node: ast.AST) -> str:
    """``c`` of ``a.b.c``; empty for anything that is not a name."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
