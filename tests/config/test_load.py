"""A file becomes settings, or all its mistakes, each at its place and in plain words."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from headgate.config.load import load_settings, parse_settings
from headgate.config.settings import DEFAULT_LANES, GateSettings, Mode, WhenFull
from headgate.config.units import Concurrency, Rate
from headgate.errors import ConfigError
from headgate.model.duplicates import Duplicates

EXAMPLE = """\
# headgate.yaml: every number is a limit someone can defend
lanes:
  interactive: {share: 60%, max_wait: 30s}
  background:  {share: 10%, max_wait: 24h, sheddable: true}
budget: {model_tokens: 2M/min, tool_calls: 200, memory: 8GiB, runs: 100}
limits:
  - {per: tenant, model_tokens: 400k/min}
  - {per: user, workflow: triage, runs: 10/min}
  - {per: user, workflow: research, runs: 2/min}
tools:
  github: {concurrency: 1..16, queue: {depth: 120, max_age: 180s}, timeout: 30s, rate: 5000/h,
           breaker: {failure_rate: 15%}, retry: {attempts: 3, budget: 10%}}
models:
  large: {concurrency: 1..64, model_tokens: 1M/min, timeout: 60s, fallback: small}
  small: {concurrency: 1..64, timeout: 30s}
workflows:
  triage: {lane: interactive, queue: {depth: 200, per_tenant: 50, max_age: 10m}, deadline: 2m,
           budget: {model_tokens: 50k, calls: 60}, duplicates: collapse, when_full: degrade,
           degrade: [{at: 60%, knobs: {hits: 5}}, {at: 75%, models: {large: small}}, {at: 85%, skip: [enrich]}]}
approvals:
  replies: {depth: 50, max_age: 4h, on_expiry: deny}
"""


def mistakes(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "f.yaml", environ=environ)
    return list(caught.value.problems)


def test_the_example_of_the_design() -> None:
    settings = parse_settings(EXAMPLE)
    assert list(settings.lanes) == ["interactive", "background"]
    assert settings.lanes["background"].sheddable
    assert settings.budget.memory == 8 * 2**30
    assert settings.limits[1].runs == Rate(10, 60)
    github = settings.tools["github"]
    assert github.concurrency == Concurrency(1, 16)
    assert github.rate == Rate(5000, 3600)
    assert github.breaker is not None
    assert github.breaker.failure_rate == pytest.approx(0.15)
    triage = settings.workflows["triage"]
    assert (triage.duplicates.mode, triage.when_full) == (Duplicates.COLLAPSE, WhenFull.DEGRADE)
    assert triage.degrade[0].knobs == {"hits": 5}
    assert triage.degrade[1].models == {"large": "small"}
    assert triage.budget.model_tokens == 50_000
    assert settings.approvals["replies"].max_age == 4 * 3600


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n", "null\n", "tools:\nworkflows:\nlimits:\n"])
def test_nothing_means_every_default(text: str) -> None:
    assert parse_settings(text) == GateSettings()
    assert parse_settings(text).lanes == DEFAULT_LANES


def test_an_empty_section_means_its_defaults_and_null_means_none() -> None:
    settings = parse_settings("tools:\n  one:\n  two: {queue:, breaker: null}\nworkflows:\n  triage:\n")
    assert settings.tools["one"] == GateSettings.model_validate({"tools": {"x": {}}}).tools["x"]
    assert settings.tools["one"].breaker is not None
    assert settings.tools["two"].breaker is None
    assert settings.workflows["triage"].lane == "standard"


def test_words_of_yaml_1_1_stay_texts() -> None:
    settings = parse_settings(
        "tenants: {on: {weight: 2}, 2024-01-01: {}, 0123: {}, 42: {}, ~: {}}\n"
        "workflows: {w: {degrade: [{at: 50%, knobs: {a: off, b: yes, c: 1:30, d: 010, e: 2024-01-01, f: true}}]}}\n"
    )
    assert list(settings.tenants) == ["on", "2024-01-01", "0123", "42", "~"]
    assert settings.workflows["w"].degrade[0].knobs == {
        "a": "off", "b": "yes", "c": "1:30", "d": "010", "e": "2024-01-01", "f": True,
    }  # fmt: skip


def test_quoted_words_are_texts() -> None:
    settings = parse_settings(
        """workflows: {w: {degrade: [{at: 50%, knobs: {a: "5", b: '1.5', c: !!str 7, d: 'true'}}]}}"""
    )
    assert settings.workflows["w"].degrade[0].knobs == {"a": "5", "b": "1.5", "c": "7", "d": "true"}


def test_anchors_and_merges() -> None:
    settings = parse_settings(
        "tools:\n"
        "  one: &usual {timeout: 5s, concurrency: 3}\n"
        "  two: *usual\n"
        "  three: {<<: *usual, timeout: 9s}\n"
        "models:\n"
        "  m: {<<: [*usual, {timeout: 1s, rate: 5/s}]}\n"
    )
    assert settings.tools["one"] == settings.tools["two"]
    assert (settings.tools["three"].timeout, settings.tools["three"].concurrency) == (9.0, Concurrency(3, 3))
    assert (settings.models["m"].timeout, settings.models["m"].rate) == (5.0, Rate(5, 1))


def test_variables_come_from_the_environment() -> None:
    settings = parse_settings(
        'store: sqlite:///${DATA}/runs.db\nserver: {port: "${PORT}", host: "${HOST:-0.0.0.0}"}\n'
        "tools:\n  t:\n    concurrency: ${SLOTS:-1..4}\n    timeout: ${EMPTY:-7s}\ntenants: {a: {weight: 2.5}}\n",
        environ={"DATA": "/var/lib", "PORT": "9000", "EMPTY": ""},
    )
    assert settings.store == "sqlite:////var/lib/runs.db"
    assert (settings.server.port, settings.server.host) == (9000, "0.0.0.0")  # noqa: S104 - only a text here
    assert settings.tools["t"].concurrency == Concurrency(1, 4)
    assert settings.tools["t"].timeout == 7.0


def test_variables_cannot_bring_structure_and_can_be_escaped() -> None:
    settings = parse_settings('server: {host: "${URL}"}\n', environ={"URL": "x\ntools: {t: {}}"})
    assert settings.server.host == "x\ntools: {t: {}}"
    assert settings.tools == {}
    assert parse_settings("server: {host: 'a$${B}c$D'}", environ={}).server.host == "a${B}c$D"


def test_a_missing_variable_is_one_mistake_at_its_place() -> None:
    assert mistakes('server:\n  port: "${PORT}"\n') == [
        "f.yaml:2:9: the environment variable PORT is not set; ${PORT:-value} would give it a default"
    ]


CASES: list[tuple[str, str, list[str]]] = [
    ("unknown key at the key", "tools:\n  github: {concurency: 3}\n",
     ["2:12: unknown key 'concurency'; did you mean 'concurrency'?"]),
    ("unknown key, nothing near", "budget: {zzz: 3}\n",
     ["1:10: unknown key 'zzz'; known here: memory, model_tokens, money, runs, tool_calls, waiting"]),
    ("unknown section", "tolls: {}\n", ["1:1: unknown key 'tolls'; did you mean 'tools'?"]),
    ("wrong value at the value", "tools:\n  github:\n    timeout: fast\n",
     ["3:14: 'fast' is not a duration; write for example 30s, 250ms, 10m, 4h"]),
    ("no unit", "workers: {lease: 15}\n", ["1:18: 15 has no unit; write for example 15s"]),
    ("a lease too short", "workers: {lease: 500ms}\n", ["1:18: '500ms' must be at least 1"]),
    ("no unit, decimal", "workers: {lease: 1.5}\n", ["1:18: 1.5 has no unit; write for example 1.5s"]),
    ("zero", "tools: {t: {timeout: 0s}}\n",
     ["1:22: '0s': zero never means off; leave the key out to have no such limit"]),
    ("zero count", "budget: {runs: 0}\n", ["1:16: 0 must be at least 1; zero never means off"]),
    ("too many", "workers: {slots: 20000}\n", ["1:18: 20000 must be at most 10000"]),
    ("boolean as number", "budget: {runs: true}\n", ["1:16: true is not a whole number; write for example 10"]),
    ("number as boolean", "lanes: {standard: {sheddable: 1}}\n", ["1:31: 1 is not true or false"]),
    ("yes as boolean", "lanes: {standard: {sheddable: yes}}\n", ["1:31: 'yes' is not true or false"]),
    ("boolean as weight", "tenants: {a: {weight: true}}\n", ["1:23: true is not a number; write for example 1.5"]),
    ("number as text", "store: 5\n", ['1:8: 5 is not a text; write it in quotes, for example "acme"']),
    ("a store of no kind", "store: mysql://ann:hunter2@db/runs\n",
     ["1:8: this is not the address of a store; write for example sqlite:///headgate.db"]),
    ("a store without a file", "store: sqlite:///runs/\n",
     [("1:8: the store names no file that can be kept; write sqlite:///file.db or sqlite:////absolute/file.db, "
       "perhaps followed by ?synchronous=full, normal or off")]),
    ("a tenant without a name", 'tenants: {"": {}}\n',
     ["1:11: an empty text names nothing; leave the key out or write a name"]),
    ("a limit for nobody", 'limits: [{per: user, runs: 1/s, tenant: ""}]\n',
     ["1:41: an empty text names nothing; leave the key out or write a name"]),
    ("one of", "workflows: {w: {duplicates: colapse}}\n",
     ["1:29: 'colapse' is not one of allow, collapse, reject; did you mean 'collapse'?"]),
    ("one of, literal", "approvals: {a: {on_expiry: ignore}}\n",
     ["1:28: 'ignore' is not one of deny, approve, escalate"]),
    ("escalate to whom", "approvals: {a: {on_expiry: escalate}}\n",
     ["1:28: escalate needs to know where to; write escalate_to: and the name of another queue"]),
    ("escalate to nothing", "approvals: {a: {on_expiry: escalate, escalate_to: bb}, b: {}}\n",
     ["1:51: there is no approval queue 'bb'; did you mean 'b'?"]),
    ("asks whom", "approvals: {a: {}}\nworkflows: {w: {asks: [a, other]}}\n",
     ["2:27: there is no approval queue 'other'; known here: a"]),
    ("escalate without", "approvals: {a: {escalate_to: b}, b: {}}\n",
     ["1:30: escalate_to does something only with on_expiry: escalate"]),
    ("escalate in a circle", "approvals:\n  a: {on_expiry: escalate, escalate_to: a}\n",
     ["2:41: escalations go in a circle: a → a"]),
    ("bad name", "tools: {GitHub: {}}\n",
     [("1:9: 'GitHub' is not a name; use up to 63 small letters, digits, - and _, beginning with a letter, "
      "for example web-search")]),
    ("missing", "limits:\n  - {runs: 5/s}\n", ["2:5: needs 'per', for example per: user"]),
    ("limits nothing", "limits:\n  - {per: user}\n",
     ["2:5: a limit needs runs, calls, model_tokens, money or concurrent, for example {per: user, runs: 10/min}"]),
    ("per nothing known", "limits: [{per: customer, runs: 1/s}]\n",
     [("1:16: 'customer' is not a key; write one of fleet, workflow, lane, resource, tenant, user, api_key, "
       "a path into the input such as input.customer.id, or a list of them")]),
    ("per fleet and more", "limits: [{per: [fleet, tenant], runs: 1/s}]\n",
     ["1:16: fleet is everything, so it stands alone"]),
    ("each twice", "limits: [{per: tenant, runs: 1/s, each: {calls: 1/s}}]\n",
     ["1:10: write runs inside each, or leave each out: both mean every key"]),
    ("burst of two", "limits: [{per: tenant, runs: 1/s, calls: 1/s, burst: 4}]\n",
     ["1:10: burst belongs to a limit with one rate; write a rule for each"]),
    ("money of a resource", "tools: {t: {}}\nlimits: [{per: tenant, resource: t, money: 1/h}]\n",
     ["2:10: a limit of a resource counts calls or model_tokens, not money"]),
    ("limit of nothing there", "tools: {crm: {}}\nlimits: [{per: tenant, resource: cmr, lane: x, calls: 1/h}]\n",
     ["2:34: there is no resource 'cmr'; did you mean 'crm'?",
      "2:45: there is no lane 'x'; known here: background, critical, interactive, standard"]),
    ("a tenant's limit that is not there", "tenants: {acme: {limits: {x: {runs: 1/s}}}}\n",
     ["1:27: there is no limit with the name 'x'"]),
    ("a tenant's limit that all share",
     "limits: [{name: all, per: fleet, runs: 1/s}]\ntenants: {acme: {limits: {all: {runs: 1/s}}}}\n",
     ["2:27: tenants share the limit 'all'; only a limit per tenant or user has amounts of a tenant"]),
    ("value instead of keys", "tools: {t: 5}\n",
     [("1:12: 5 stands where keys belong, for example {concurrency: …}; known here: breaker, concurrency, fallback, "
      "mode, pause_when, plain, queue, rate, retry, stale, timeout")]),
    ("list instead of keys", "tools: [t]\n", ["1:8: a list stands where keys belong, for example {name: {…}}"]),
    ("text instead of list", "limits: 5\n", ["1:9: 5 stands where a list belongs, for example [first, second]"]),
    ("no keys at all", "- a\n- b\n", ["1:1: a list stands where keys belong, for example tools: {…}"]),
    ("nothing where something must be", "tools: {t: {concurrency: }}\n",
     ["1:25: nothing is not a concurrency; write a number from 1 to 100000, or a range such as 1..16"]),
    ("a knob of another kind", "workflows: {w: {degrade: [{at: 50%, knobs: {a: [1]}}]}}\n",
     ["1:48: a list is not a knob's value; write a number, a text, true or false"]),
    ("twice", "tools:\n  t: {}\n  t: {}\n", ["3:3: 't' is here twice; the first is on line 2"]),
    ("a key that is a list", "tools: {[a]: {}}\n", ["1:9: a key must be a plain text"]),
    ("a tag", "store: !!python/object:os.system x\n",
     ["1:8: the tag !!python/object:os.system is not used here; write a plain value"]),
    ("a tag of one's own", "store: !secret x\n", ["1:8: the tag !secret is not used here; write a plain value"]),
    ("merge of a text", "tools: {t: {<<: 5}}\n", ["1:17: << merges mappings only, for example <<: *defaults"]),
    # references
    ("no such lane", "workflows: {w: {lane: standart}}\n",
     ["1:23: there is no lane 'standart'; did you mean 'standard'?"]),
    ("needs a lane", "lanes: {fast: {}}\nworkflows: {w: {}}\n",
     ["2:13: workflow 'w' needs a lane, because there is no lane 'standard'; write lane: fast"]),
    ("a pause rule without a sign", "tools: {a: {pause_when: {pauses: [lane:background]}}}\n",
     ["1:25: needs p95, error_rate or breaker, for example {p95: 8s, pauses: [lane:background]}"]),
    ("a pause rule that pauses nothing", "tools: {a: {pause_when: {p95: 8s}}}\n",
     ["1:25: needs 'pauses', for example pauses: [lane:background]"]),
    ("a pause rule with an empty list", "tools: {a: {pause_when: {p95: 8s, pauses: []}}}\n",
     ["1:43: an empty list names nothing; it needs at least one, for example pauses: [lane:background]"]),
    ("a lower threshold above the upper",
     "tools: {a: {pause_when: {p95: 8s, until: {p95: 9s}, pauses: [lane:standard]}}}\n",
     ["1:25: until.p95 belongs to a p95 that is at least as large"]),
    ("what a rule pauses does not exist",
     ("stages: {publish: {}}\n"
     "tools: {a: {pause_when: {p95: 8s, pauses: [resource:publsh, lane:bg, stage:publish]}}}\n"),
     ["2:44: there is no resource 'publsh'; did you mean 'publish'?",
      "2:61: there is no lane 'bg'; known here: background, critical, interactive, standard",
      "2:70: 'stage:publish' is nothing that can be paused; write resource:NAME, lane:NAME or workflow:NAME"]),
    ("a resource that pauses itself", "tools: {a: {pause_when: {p95: 8s, pauses: [resource:a]}}}\n",
     ["1:44: 'a' cannot pause itself: nothing would show that it is well again; its breaker does that"]),
    ("a thinned workflow", "tools: {a: {pause_when: {p95: 8s, thin_to: 50%, pauses: [workflow:x]}}}\n",
     ["1:58: a workflow can be paused, not thinned; name its lane, or leave thin_to out"]),
    ("a misspelled workflow in a rule",
     "workflows: {report: {}}\ntools: {a: {pause_when: {p95: 8s, pauses: [workflow:reprt]}}}\n",
     ["2:44: there is no workflow 'reprt'; did you mean 'report'?"]),
    ("two limits of one name", "limits: [{name: a, per: user, runs: 1/s}, {name: a, per: user, runs: 9/h}]\n",
     ["1:50: another limit is called 'a' already; names must differ"]),
    ("no such fallback", "models: {large: {fallback: smal}, small: {}}\n",
     ["1:28: there is no resource 'smal' to fall back to; did you mean 'small'?"]),
    ("fallbacks in a circle", "models: {a: {fallback: b}, b: {fallback: c}, c: {fallback: b}}\n",
     ["1:42: fallbacks go in a circle: b → c → b"]),
    ("fallback to itself", "tools: {a: {fallback: a}}\n", ["1:23: fallbacks go in a circle: a → a"]),
    ("degrade to nowhere", "models: {large: {}}\nworkflows: {w: {degrade: [{at: 50%, models: {lareg: smll}}]}}\n",
     ["2:46: there is no resource 'lareg'; did you mean 'large'?",
      "2:53: there is no resource 'smll'; known here: large"]),
    ("rungs that fall", "workflows: {w: {degrade: [{at: 80%}, {at: 50%}]}}\n",
     ["1:43: the rungs of a ladder must rise: 50% comes after 80%"]),
    ("shares above all", "lanes: {a: {share: 80%}, b: {share: 30%}, c: {}}\n",
     ["1:37: the lanes' shares add up to 110% here; together they may take 100 %"]),
    ("nothing left to share", "lanes: {a: {share: 100%}, b: {}}\n",
     ["1:27: nothing is left for lane 'b', which names no share: the others take 100 %"]),
    ("tenant above all", "workflows: {w: {queue: {depth: 10, per_tenant: 20}}}\n",
     ["1:48: per_tenant (20) is larger than the whole queue's depth (10)"]),
    ("least above most", "tools: {t: {concurrency: 16..1}}\n",
     ["1:26: '16..1' runs backwards; the smaller number comes first: 1..16"]),
    ("a misspelt workflow", "limits: [{per: user, workflow: triag, runs: 5/s}]\nworkflows: {triage: {}}\n",
     ["1:32: there is no workflow 'triag'; did you mean 'triage'?"]),
    ("one name twice", "tools: {x: {}}\nmodels: {x: {}}\n",
     ["2:10: 'x' is already the name of one of the tools; names must differ"]),
    ("an approval of a tool's name", "tools: {x: {}}\napprovals: {x: {}}\n",
     ["2:13: 'x' is already the name of one of the tools; names must differ"]),
    ("open longer than longest", "tools: {t: {breaker: {open_for: 10m}}}\n",
     ["1:33: open_for (600s) is longer than open_at_most (300s)"]),
    # not YAML
    ("a tab", "tools:\n\tgithub: {}\n", ["2:1: a tab; indent with spaces"]),
    ("not closed", "tools: {github: {}\n",
     ["2:1: expected ',' or '}': a { is not closed, or ${…} inside { } needs quotes"]),
    ("a colon too much", "store: a: b\n", ["1:9: a colon where none can be; put texts that contain ': ' in quotes"]),
    ("unknown alias", "store: *nowhere\n", ["1:8: this alias (*) has no anchor (&) before it"]),
    ("two documents", "store: a\n---\nstore: b\n", ["2:1: one document per file; remove the '---' in the middle"]),
    ("indentation", "tools:\n    a: {}\n  b: {}\n", ["3:3: the indentation does not fit the lines above"]),
    ("control character", "store: a\nserver: {host: \x07}\n", ["2:16: a character that is not allowed in YAML"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_mistakes(text: str, expected: list[str]) -> None:
    assert mistakes(text) == [f"f.yaml:{line}" for line in expected]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    found = mistakes(
        "lanes:\n  a: {share: 80%, max_wait: 30}\n  b: {share: 30%, shedable: true}\n"
        "tools:\n  t: {timeout: never, fallback: nowhere}\n  t: {}\n"
        'store: "${NOWHERE}"\nworkflows:\n  w: {lane: c}\n'
    )
    assert [line.split(": ")[0] for line in found] == [
        "f.yaml:2:29", "f.yaml:3:14", "f.yaml:3:19", "f.yaml:5:16", "f.yaml:5:33", "f.yaml:6:3", "f.yaml:7:8",
        "f.yaml:9:13",
    ]  # fmt: skip


def test_a_limit_may_name_a_workflow_that_lives_in_code() -> None:
    settings = parse_settings("limits: [{per: user, workflow: research, runs: 5/s, mode: shadow}]\n")
    assert settings.limits[0].mode is Mode.SHADOW


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * (1024 * 1024 + 1), "1:1: the file is larger than 1 MiB"),
        ("[" * 40, "1:33: nested more than 32 deep"),
        ("[" * 100_000, "1:33: nested more than 32 deep"),
        ("a: [" + "x," * 60_000 + "]", "more than 50000 values"),
        (
            "a: &a [x]\n"
            + "".join(f"{new}: &{new} [{','.join(10 * ['*' + old])}]\n" for old, new in pairwise("abcdefg")),
            "more than 50000 values once anchors are followed",
        ),
        ("a: &a [*a]\n", "nested more than 32 deep"),
        ("a: &a {<<: *a}\n", "nested more than 32 deep"),
    ],
    ids=["large", "deep", "very deep", "wide", "laughs", "contains itself", "merges itself"],
)  # fmt: skip
def test_hostile_files_are_refused_quickly(text: str, message: str) -> None:
    (problem,) = mistakes(text)
    assert message in problem


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_bytes(b"\xef\xbb\xbfshed_at: 90%\n")
    assert load_settings(file).shed_at == pytest.approx(0.9)
    assert load_settings(str(file)) == load_settings(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"store: a\nserver: {host: \xff}\n", ":2:16: this is not UTF-8 text"),
        (b"# " + b"x" * 1024 * 1024, ":1:1: the file is larger than 1 MiB"),
        (b"\xff" * (1024 * 1024 + 1), ":1:1: the file is larger than 1 MiB"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert caught.value.problems[0].startswith(f"{file}{message}")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_settings(path)


def test_settings_are_frozen_and_strict() -> None:
    settings = parse_settings("")
    with pytest.raises(ValueError, match="frozen"):
        settings.store = "elsewhere"  # type: ignore[misc]  # that is the point
    with pytest.raises(ValueError, match="Extra inputs"):
        GateSettings.model_validate({"nothing": 1})
