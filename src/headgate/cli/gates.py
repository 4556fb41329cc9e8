"""From ``app:gate`` on the command line to the user's `Gate`."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

import typer

from headgate.errors import HeadgateError
from headgate.gate import Gate


def load_gate(target: str) -> Gate:
    """The gate that ``target`` names, for example ``app:gate``.

    Raises:
        typer.BadParameter: ``target`` has another form.
        HeadgateError: there is no such module or gate, or the module fails; in words, without a traceback.
    """
    name, colon, attribute = target.partition(":")
    if not colon or not all(part.isidentifier() for part in (*name.split("."), attribute)):
        raise typer.BadParameter(f"{target!r} is not MODULE:ATTRIBUTE; write for example app:gate")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _module(name)
    gate = getattr(module, attribute, None)
    if gate is None:
        raise HeadgateError(f"{name!r} has no {attribute!r}{_gates_in(module, name)}")
    if not isinstance(gate, Gate):
        kind = type(gate).__name__
        raise HeadgateError(f"{target} is not a Gate but {kind!r}{_gates_in(module, name)}")
    return gate


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise HeadgateError(f"there is no module {name!r} in {Path.cwd()}{_nearest(name)}") from error
        raise HeadgateError(_failure(name, error)) from error
    except HeadgateError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is told, not shown as our crash
        raise HeadgateError(_failure(name, error)) from error


def _failure(name: str, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = next((frame for frame in reversed(frames) if _is_users(frame.filename)), None)
    place = f"{where.filename}:{where.lineno}: " if where else ""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}: "
    return f"{place}importing {name!r} failed: {type(error).__name__}: {error}"


def _is_users(filename: str) -> bool:
    return not filename.startswith("<") and not Path(filename).is_relative_to(Path(__file__).parents[1])


def _nearest(name: str) -> str:
    modules = [path.stem for path in Path.cwd().glob("*.py")]
    close = difflib.get_close_matches(name, modules, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(sorted(modules)[:10])}" if modules else "; `headgate init` writes a first one"


def _gates_in(module: ModuleType, name: str) -> str:
    found = [attribute for attribute, value in vars(module).items() if isinstance(value, Gate)]
    if found:
        return f"; did you mean {name}:{found[0]}?"
    return "; make one there: gate = Gate.load('headgate.yaml')"
