#!/usr/bin/env python3
"""Set headgate up from a clone, test it and run it, with nothing but Python 3.11 or newer.

    python3 dev.py setup             make .venv from requirements-dev.lock
    python3 dev.py test [-- ARGS]    format, lint, types, import layers, tests (ARGS go to pytest)
    python3 dev.py lint              the same without the tests
    python3 dev.py format            format the code and fix what can be fixed
    python3 dev.py demo [ARGS]       the main job: real traffic, a surge, an outage, a report
    python3 dev.py bench [NAME ...]  one of the benchmarks; without a name, their list

Every command sets up first if it has to. The standard library only, and only syntax that old Pythons can read:
a `python3` that is too old must still get as far as looking for a newer one.
"""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11")
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKED = ROOT / "requirements-dev.lock"
PROJECT = ROOT / "pyproject.toml"

# What stands inside .venv to say how far its set-up came.
MARK = VENV / ".made-by-dev.py"
ENVIRONMENT_STAMP = VENV / ".environment-stamp"
PROJECT_STAMP = VENV / ".project-stamp"
LOG = VENV / "setup.log"
# What stands beside it, because .venv itself comes and goes.
TURNSTILE = ROOT / ".venv.lock"
TRASH = ROOT / ".venv.trash"

# Variables that would send pip or Python somewhere else than into .venv.
STRAY = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_CONSTRAINT",
)

CODE = ("src", "tests", "bench", "demo", "examples", "dev.py")
WORKERS = "2"


class Stop(Exception):
    """Ends the command with these words and status 1."""


def main(arguments):
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command in ("help", "-h", "--help"):
        print(__doc__.strip())
        return 0
    if command not in COMMANDS:
        raise Stop(f"unknown command {command!r}; python3 dev.py help lists them")
    if sys.version_info < OLDEST:
        become_newer()
    turnstile = set_up()
    return COMMANDS[command](rest, turnstile)


def become_newer():
    """Carry on in the newest fitting Python of the PATH, or say what is needed."""
    fits = f"import sys; sys.exit(sys.version_info < {OLDEST!r})"
    for name in NEWER:
        path = shutil.which(name)
        # A found name proves little: version switchers put shims there that only fail.
        if path and subprocess.call([path, "-c", fits], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            os.execv(path, [path, str(Path(__file__).resolve()), *sys.argv[1:]])
    raise Stop(
        f"headgate needs Python 3.11 or newer. This is {sys.version.split()[0]} ({sys.executable}), and none of\n"
        f"{', '.join(NEWER)} is on the PATH. Name one: make test PYTHON=/path/to/python3"
    )


# --- set-up -----------------------------------------------------------------------------------------------------


def set_up():
    """Make .venv fit the lock, the project file and this interpreter. Returns the held turnstile.

    Commands hold the turnstile shared for as long as they use .venv; only who holds it alone may change it. So
    concurrent runs wait for one set-up instead of making two, and nobody's environment is rebuilt under them.
    """
    import fcntl

    turnstile = TURNSTILE.open("a")
    while True:
        take(turnstile, fcntl.LOCK_SH)
        if is_fresh(ENVIRONMENT_STAMP, environment_key()) and is_fresh(PROJECT_STAMP, project_key()):
            return turnstile
        take(turnstile, fcntl.LOCK_EX)
        if not is_fresh(ENVIRONMENT_STAMP, environment_key()):
            build_environment(turnstile)
        if not is_fresh(PROJECT_STAMP, project_key()):
            install_project(turnstile)


def take(turnstile, kind):
    import fcntl

    try:
        fcntl.flock(turnstile, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        say("set-up: waiting for another dev.py to be done with .venv")
        fcntl.flock(turnstile, kind)


def environment_key():
    """What .venv was made of. Anything else than an equal key means: make it anew."""
    parts = (sys.version, base_interpreter(), str(ROOT), LOCKED.read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def project_key():
    return hashlib.sha256(PROJECT.read_bytes()).hexdigest()


def is_fresh(stamp, key):
    try:
        return stamp.read_text() == key and PYTHON.exists()
    except OSError:
        return False


def base_interpreter():
    """The interpreter itself, also when this runs inside .venv or another virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def build_environment(turnstile):
    clear_away()
    VENV.mkdir()
    MARK.write_text("dev.py made this directory and replaces it when it no longer fits\n")
    LOG.write_text("")
    python = base_interpreter()
    pip_inside = can_import("ensurepip")
    if not can_import("venv") or not (pip_inside or can_import("pip")):
        raise Stop(
            f"this Python ({python}) cannot make virtual environments: it lacks venv, or both ensurepip and pip.\n"
            "Install them (on Debian and Ubuntu: apt install python3-venv) or use another Python:\n"
            "    make test PYTHON=/path/to/python3    or    /path/to/python3 dev.py test"
        )
    without_pip = [] if pip_inside else ["--without-pip"]
    step("environment", [python, "-m", "venv", *without_pip, str(VENV)], turnstile)
    arguments = ["--require-hashes", "--no-deps", "--no-compile", "-r", str(LOCKED)]
    step("dependencies", [*pip(), "install", *arguments], turnstile)
    ENVIRONMENT_STAMP.write_text(environment_key())


def install_project(turnstile):
    # The build backend is in the lock too, so nothing unpinned is fetched to build with.
    arguments = ["--no-deps", "--no-build-isolation", "--no-compile", "-e", str(ROOT)]
    step("headgate itself", [*pip(), "install", *arguments], turnstile)
    PROJECT_STAMP.write_text(project_key())


def clear_away():
    """Move an old or half-made .venv out of the way; never one that somebody else made."""
    if TRASH.exists():
        shutil.rmtree(TRASH)
    if not VENV.exists():
        return
    if not MARK.exists() and any(VENV.iterdir()):
        raise Stop(
            f"{VENV} exists and dev.py did not make it, so it is left alone.\n"
            "Move it away or delete it, then start again."
        )
    # Renamed first: an interrupted removal must not leave half a .venv behind.
    VENV.rename(TRASH)
    shutil.rmtree(TRASH)


def can_import(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None


def pip():
    """The pip of .venv, or (bare Debian: no ensurepip) the system's, pointed at .venv."""
    if list(VENV.glob("lib/python*/site-packages/pip")):
        return [str(PYTHON), "-m", "pip"]
    return [base_interpreter(), "-m", "pip", "--python", str(PYTHON)]


def step(title, command, turnstile):
    """One command of the set-up: a line when it is done, its output only when it fails."""
    started = time.monotonic()
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        # The child holds the turnstile too: should this process be killed, nobody builds beside an orphaned pip.
        status = wait(
            subprocess.Popen(
                command,
                cwd=str(ROOT),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(turnstile.fileno(),),
            )
        )
    if status != 0:
        raise Stop(
            f"{LOG.read_text().rstrip()}\n"
            f"set-up: {title} failed with status {status}; its output is above and in {LOG}.\n"
            "Is the package index reachable? The next run starts over."
        )
    say(f"set-up: {title:<16} {time.monotonic() - started:6.1f} s")


def environment():
    """The environment for everything that runs in .venv."""
    kept = {name: value for name, value in os.environ.items() if name not in STRAY}
    kept.update(
        PYTHONNOUSERSITE="1",
        PIP_USER="0",
        PIP_NO_INPUT="1",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
        PIP_REQUIRE_VIRTUALENV="0",
    )
    # A home that cannot be written costs matplotlib its font cache, and so every run some seconds.
    kept.setdefault("MPLCONFIGDIR", str(VENV / "matplotlib"))
    kept["PATH"] = str(VENV / "bin") + os.pathsep + kept.get("PATH", os.defpath)
    return kept


def wait(child):
    """The child's status. An interrupt reaches the child too; it ends in its own way first."""
    try:
        return child.wait()
    except KeyboardInterrupt:
        say("interrupted; waiting for the command to end")
        child.wait()
        raise


# --- commands ---------------------------------------------------------------------------------------------------


def checks():
    code = [name for name in CODE if (ROOT / name).exists()]
    return [
        ("format", module("ruff", "format", "--check", "--quiet", *code)),
        ("lint", module("ruff", "check", "--quiet", *code)),
        ("types", module("mypy")),
        ("import layers", [str(VENV / "bin" / "lint-imports")]),
    ]


def module(name, *arguments):
    return [str(PYTHON), "-m", name, *arguments]


def run_setup(rest, turnstile):
    none_expected(rest)
    say(f"set-up: {VENV} is ready")
    return 0


def run_test(rest, turnstile):
    if rest and rest[0] != "--":
        raise Stop("arguments for pytest go after --, for example: python3 dev.py test -- -k fair_queue")
    tests = ("tests", module("pytest", "-n", WORKERS, "-q", *rest[1:]))
    return run_stages([*checks(), tests])


def run_lint(rest, turnstile):
    none_expected(rest)
    return run_stages(checks())


def run_format(rest, turnstile):
    none_expected(rest)
    code = [name for name in CODE if (ROOT / name).exists()]
    return run_stages(
        [("fix", module("ruff", "check", "--fix", *code)), ("format", module("ruff", "format", "--quiet", *code))]
    )


def run_demo(rest, turnstile):
    return become(module("demo", *rest), turnstile)


def run_bench(rest, turnstile):
    known = benchmarks()
    if not rest:
        say(*(f"{name:<18} {summary}" for name, summary in known.items()))
        return 0
    if rest[0] not in known:
        raise Stop(f"there is no benchmark {rest[0]!r}; there are {', '.join(known)}")
    return become(module(f"bench.{rest[0]}", *rest[1:]), turnstile)


def benchmarks():
    """Name and first line of every module (or package) in bench that can be run."""
    found = {}
    for path in sorted([*ROOT.glob("bench/*.py"), *ROOT.glob("bench/*/__main__.py")]):
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text:
            name = path.parent.name if path.name == "__main__.py" else path.stem
            found[name] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return found


COMMANDS = {
    "setup": run_setup,
    "test": run_test,
    "lint": run_lint,
    "format": run_format,
    "demo": run_demo,
    "bench": run_bench,
}


def none_expected(rest):
    if rest:
        raise Stop(f"this command takes no arguments, got {' '.join(rest)}")


def run_stages(stages):
    """Run all stages, also after one failed, and end with a summary."""
    failed = []
    lines = []
    for title, command in stages:
        started = time.monotonic()
        passed = run_watched(command) if title == "tests" else run_quietly(command)
        lines.append(f"{title:<14} {'ok' if passed else 'FAILED':<6} {time.monotonic() - started:6.1f} s")
        say(lines[-1])
        if not passed:
            failed.append(title)
    if failed:
        say("", "Summary:", *lines, f"failed: {', '.join(failed)}")
    else:
        say("all passed")
    return 1 if failed else 0


def run_watched(command):
    """Its output is shown as it comes."""
    child = subprocess.Popen(command, cwd=str(ROOT), env=environment(), stdin=subprocess.DEVNULL)
    return wait(child) == 0


def run_quietly(command):
    """Its output is shown only when it fails."""
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        say(done.stdout.rstrip())
    return done.returncode == 0


def become(command, turnstile):
    """Turn into the command, so that signals reach it directly; it keeps holding the turnstile."""
    os.set_inheritable(turnstile.fileno(), True)
    os.chdir(str(ROOT))
    os.execve(command[0], command, environment())


def say(*lines):
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        print(stop, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
