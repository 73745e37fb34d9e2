"""States: a flipped bit is recognised, old ones load, a good one is never replaced by a bad one."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from purenoise import checksums, wholefile
from purenoise.checkpoint import (
    load_plain,
    load_state,
    load_weights,
    save_state,
    save_weights,
    set_damaged_aside,
)
from purenoise.data.prefetch import read_ahead
from purenoise.errors import DataError, ModelError, RunError
from purenoise.models.weightsfile import read_weights
from purenoise.runlog import RunFolder, RunLog, read_events
from purenoise.runtime import stop_on_signal
from purenoise.training import State

FIXTURES = Path(__file__).parent / "fixtures"


def state(epoch: int = 1) -> State:
    """Return a small state."""
    weights = {"weight": torch.arange(6.0).reshape(2, 3) + epoch}
    return State(epoch, 2, weights, {"state": {}, "param_groups": []}, {"loss": 0.5}, [])


def flip(path: Path, at: int, bit: int) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("version", [1, 2])
def test_committed_states_go_on_loading(version: int):
    """A state of each version that was ever written is read, whatever is written now."""
    found = load_state(FIXTURES / f"state-{version}")
    assert found is not None
    got, identity, warnings = found
    assert (got.epoch, got.step, warnings) == (1, 2, [])
    assert torch.equal(got.model["weight"], torch.arange(6.0).reshape(2, 3) + 1)
    assert identity == {"recipe": "made"}


def test_a_later_version_is_refused_with_what_is_read(tmp_path: Path):
    """A state of a version that is not known is no damaged state: the sentence says so."""
    content = load_plain(FIXTURES / "state-1" / "state.pt")
    torch.save({**content, "version": 3}, tmp_path / "state.pt")
    with pytest.raises(RunError, match="has version 3; this purenoise reads 1 and 2"):
        load_state(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
def test_any_flipped_bit_is_recognised_or_harmless(version: int, tmp_path: Path):
    """Wherever a bit flips, the state is what was written or is not used."""
    content = (FIXTURES / f"state-{version}" / "state.pt").read_bytes()
    dice, path, refused = random.Random(version), tmp_path / "state.pt", 0
    for _ in range(150):
        path.write_bytes(content)
        flip(path, dice.randrange(len(content)), dice.randrange(8))
        try:
            found = load_state(tmp_path)
        except RunError:
            refused += 1
            continue
        assert found is not None
        assert torch.equal(found[0].model["weight"], state().model["weight"])
        assert (found[0].epoch, found[0].step) == (1, 2)
    assert refused >= (140 if version == 2 else 40)


def test_a_damaged_state_does_not_replace_the_good_one(tmp_path: Path):
    """After the state before was used, the next save leaves it in its place until it is whole."""
    for epoch in (1, 2):
        save_state(tmp_path, state(epoch), {})
    flip(tmp_path / "state.pt", 200, 3)
    found = load_state(tmp_path)
    assert found is not None
    assert found[0].epoch == 1
    assert "state.pt is damaged" in found[2][0]
    set_damaged_aside(tmp_path)
    save_state(tmp_path, state(3), {})
    (tmp_path / "state.pt").unlink()  # as if it had been killed before the last rename
    found = load_state(tmp_path)
    assert found is not None
    assert found[0].epoch == 1


def test_the_folder_is_flushed_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A rename is an entry of the folder: without flushing it a power cut may undo it."""
    flushed: list[str] = []
    monkeypatch.setattr(wholefile, "sync_folder", lambda path: flushed.append(path.name))
    wholefile.write_whole(tmp_path / "new" / "file", b"x")
    assert flushed == [tmp_path.name, "new"]


def test_flipped_weights_are_refused(tmp_path: Path):
    """A bit of a weight that flips is seen, by a run's reader and as another run's beginning."""
    model, path = nn.Linear(3, 2), tmp_path / "weights.safetensors"
    save_weights(path, model, {"recipe": "made"})
    load_weights(path, model)
    flip(path, path.stat().st_size - 3, 0)
    with pytest.raises(RunError, match="checksum does not fit"):
        load_weights(path, model)
    with pytest.raises(ModelError, match="it is damaged"):
        read_weights(path)


def test_changed_summary_is_refused(tmp_path: Path):
    """A digit of a result that changes is seen; a summary of before has no checksum and is read."""
    folder = RunFolder(tmp_path)
    summary = {"status": "finished", "test": {"accuracy": 0.875}, "class_names": ["a"]}
    text = folder.write_summary(summary)
    assert folder.summary() == checksums.with_sha256(summary)
    folder.summary_file.write_text(text.replace("0.875", "0.975"))
    with pytest.raises(RunError, match="checksum does not fit"):
        folder.summary()
    folder.summary_file.write_text('{"status": "finished", "test": null, "class_names": []}')
    assert folder.summary() is not None


def test_lost_events_come_back_from_the_state(tmp_path: Path):
    """Lines that were cut or changed are written again, and not as another run's."""
    folder = RunFolder(tmp_path)
    history = [{"epoch": e, "phase": 0, "lr": 0.1, "loss": 1.0 / (e + 1), "accuracy": 0.5}
               for e in range(3)]  # fmt: skip
    log = RunLog(folder)
    for record in history:
        log("epoch", record)
    log.close()
    lines = folder.events.read_text().splitlines()
    folder.events.write_text("\n".join([lines[0], lines[1].replace('"loss": 0.5', '"loss": 0.4'),
                                        lines[2][:20]]))  # fmt: skip
    assert [e["epoch"] for e in read_events(folder.events)] == [0]
    RunLog(folder, 3, history).close()
    found = {e["epoch"]: e for e in read_events(folder.events)}
    assert {e: found[e]["loss"] for e in found} == {r["epoch"]: r["loss"] for r in history}
    assert not any("shared" in event for event in found.values())
    assert len(folder.metrics.read_text().splitlines()) == 4


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this platform has no hangup")
def test_hangup_is_a_question_unless_it_is_ignored():
    """A terminal that closes stops a run as SIGTERM does; below nohup it goes on."""
    with stop_on_signal() as asked:
        signal.raise_signal(signal.SIGHUP)
        assert asked()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_dies_is_told(monkeypatch: pytest.MonkeyPatch):
    """A reading thread that is gone without a word ends the loop with a sentence."""

    class Files:
        shape = (1, 1, 1)

        def __len__(self) -> int:
            return 4

        def load(self, rows: np.ndarray) -> np.ndarray:
            return np.zeros((len(rows), 1, 1, 1), np.uint8)

    monkeypatch.setattr(threading.Thread, "run", lambda self: None)
    batches = read_ahead(Files(), [np.array([0], dtype=np.int64)])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="reads images ahead has ended"):
        next(batches)


def test_a_link_beside_a_file_is_not_written_through(tmp_path: Path):
    """A link where the unfinished file would lie is removed, and what it leads to is left alone."""
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    (tmp_path / ".report.html.part").symlink_to(treasure)
    wholefile.write_whole(tmp_path / "report.html", "page")
    assert treasure.read_text() == "mine"
    assert (tmp_path / "report.html").read_text() == "page"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "treasure"]
