"""``app:gate`` finds the user's gate, or says in one line what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from headgate.cli.gates import load_gate
from headgate.errors import ConfigError, HeadgateError
from headgate.gate import Gate

MODULES = {
    "shop": "from headgate.gate import Gate\ngate = Gate()\nnumber = 5\n",
    "shop_broken": "x = 1\nraise ValueError('no such luck')\n",
    "shop_syntax": "def (:\n",
    "shop_import": "import no_such_module_anywhere\n",
    "shop_empty": "",
    "shop_config": "from headgate.gate import Gate\ngate = Gate.load('bad.yaml')\n",
}


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "bad.yaml").write_text("tolls: {}\n")


def test_a_gate_is_found_in_this_directory() -> None:
    gate = load_gate("shop:gate")
    assert isinstance(gate, Gate)
    assert load_gate("shop:gate") is gate
    sys.modules.pop("shop")


@pytest.mark.parametrize("target", ["shop", "shop:", ":gate", "shop:gate:x y", "sh op:gate", "../shop:gate", ""])
def test_other_forms_are_wrong_usage(target: str) -> None:
    with pytest.raises(typer.BadParameter, match="write for example app:gate"):
        load_gate(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("shopp:gate", "there is no module 'shopp' in .*; did you mean 'shop'?"),
        ("zzzzzz.deep:gate", "there is no module 'zzzzzz.deep' in .*; there are: shop, shop_broken"),
        ("shop:gat", "'shop' has no 'gat'; did you mean shop:gate?"),
        ("shop:number", "shop:number is not a Gate but 'int'; did you mean shop:gate?"),
        ("shop_empty:gate", r"'shop_empty' has no 'gate'; make one there: gate = Gate.load\('headgate.yaml'\)"),
        ("shop_broken:gate", r"shop_broken.py:2: importing 'shop_broken' failed: ValueError: no such luck"),
        ("shop_syntax:gate", r"shop_syntax.py:1: importing 'shop_syntax' failed: SyntaxError"),
        ("shop_import:gate", r"shop_import.py:1: .* ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    ],
)
def test_what_is_missing_is_said(target: str, message: str) -> None:
    with pytest.raises(HeadgateError, match=message):
        load_gate(target)
    sys.modules.pop(target.partition(":")[0], None)


def test_mistakes_in_the_configuration_come_through() -> None:
    with pytest.raises(ConfigError, match=r"bad\.yaml:1:1: unknown key 'tolls'"):
        load_gate("shop_config:gate")


def test_an_empty_directory_hints_at_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(HeadgateError, match="`headgate init` writes a first one"):
        load_gate("yyyyyy:gate")
