"""The lock, the scripts and the project file fit together."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .source import ROOT

LOCK = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
PINS = re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, re.MULTILINE)
"""(name, version) pairs; a name has several where they differ between Pythons."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _wanted() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"]
    texts = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    texts += [text for extra in ("sqlite", "client", "server", "lab") for text in extras[extra]]
    return [wanted for text in texts if (wanted := Requirement(text)).name != "headgate"]


def test_every_dependency_is_locked_at_a_version_it_allows() -> None:
    for wanted in _wanted():
        versions = [version for name, version in PINS if name == canonicalize_name(wanted.name)]
        assert versions, f"{wanted} is not locked; CONTRIBUTING.md says how the lock is made"
        assert [version for version in versions if version not in wanted.specifier] == [], wanted


def test_every_pin_has_a_hash_and_no_index_is_named() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK.strip())
    assert len(blocks) == len(PINS)
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert re.findall(r"^.*(?:://|--(?:extra-)?index-url|--find-links|--trusted-host).*$", LOCK, re.MULTILINE) == []


def test_the_base_install_is_light() -> None:
    names = [Requirement(text).name.lower() for text in PROJECT["project"]["dependencies"]]
    assert names == ["pydantic", "pyyaml"]


def test_import_layers_name_every_room() -> None:
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    assert contract["exhaustive"] is True
    assert contract["exhaustive_ignores"] == []
    assert contract.get("ignore_imports", []) == []


def test_continuous_integration_is_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"


def _dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_old_python_can_read_dev_py() -> None:
    text = (ROOT / "dev.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 7))
    assert "from __future__" not in text  # 3.6 has no such annotations
    imported = {node.names[0].name for node in ast.parse(text).body if isinstance(node, ast.Import)}
    assert imported <= sys.stdlib_module_names


def test_dev_py_leaves_a_foreign_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = _dev()
    for name in ("VENV", "MARK", "TRASH"):
        monkeypatch.setattr(dev, name, tmp_path / getattr(dev, name).relative_to(dev.ROOT))
    precious = tmp_path / ".venv" / "precious"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(dev.Stop, match="left alone"):
        dev.clear_away()
    assert precious.read_text() == "mine"
    (tmp_path / ".venv" / dev.MARK.name).write_text("")
    dev.clear_away()
    assert list(tmp_path.iterdir()) == []


def test_dev_py_sees_a_changed_lock_and_a_vanished_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = _dev()
    lock, stamp, python = tmp_path / "lock", tmp_path / "stamp", tmp_path / "python"
    monkeypatch.setattr(dev, "LOCKED", lock)
    monkeypatch.setattr(dev, "PYTHON", python)
    lock.write_text("a==1")
    assert not dev.is_fresh(stamp, dev.environment_key())
    stamp.write_text(dev.environment_key())
    assert not dev.is_fresh(stamp, dev.environment_key())
    python.write_text("")
    assert dev.is_fresh(stamp, dev.environment_key())
    lock.write_text("a==2")
    assert not dev.is_fresh(stamp, dev.environment_key())


def test_make_and_dev_py_know_the_same_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^([a-z ]+):", makefile, re.MULTILINE) for name in line.split()}
    assert targets - {"help", "clean"} == set(_dev().COMMANDS)
