"""The script's checkpoints: plain, evaluated by `-e`, and believed only when whole."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from purenoise.checksums import TAIL, checksum_line
from purenoise.errors import RunError
from purenoise.ldamfiles import read_checkpoint

from .support import NAME, Script, equal, weights


def test_checkpoint_is_plain_and_that_of_the_last_epoch(place: Path, script: Script) -> None:
    """``weights_only`` reads the checkpoint; it has the old entries and the final weights."""
    assert script("--epochs", "2") == 0
    path = place / "checkpoint" / NAME / "ckpt.pth.tar"
    content = torch.load(path, weights_only=True)
    assert content["epoch"] == 2
    assert content["arch"] == "resnet20"
    assert equal(content["state_dict"], weights(place / "log" / NAME))
    assert content["optimizer"]["param_groups"][0]["momentum"] == 0.9
    history = content["purenoise"]["history"]
    scores = [100 * record["test"]["accuracy"] for record in history]
    assert content["best_acc1"] == max(scores)
    best = torch.load(path.with_name("ckpt.best.pth.tar"), weights_only=True)
    assert best["epoch"] == scores.index(max(scores)) + 1


def test_evaluate(place: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    """-e prints what the run printed, per class and overall, and trains nothing."""
    assert script("--epochs", "1", "--loss_type", "LDAM") == 0
    said = re.findall(r"^Prec@1 (\S+) \(last", capsys.readouterr().out, re.M)
    ckpt = str(place / "checkpoint" / NAME.replace("CE", "LDAM") / "ckpt.pth.tar")
    before = sorted(place.rglob("*"))
    assert script("-e", "--resume", ckpt, "--loss_type", "LDAM") == 0
    out = capsys.readouterr().out
    assert re.findall(r"^Prec@1 (\S+) Prec@5", out, re.M) == said
    assert all(f"class {c}" in out for c in range(10))
    assert sorted(place.rglob("*")) == before
    assert script("-e", "--resume", ckpt) == 2
    assert "do not fit resnet20 with --loss_type CE" in capsys.readouterr().err


class Harmful:
    """An object whose unpickling would leave a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("with_line", [True, False])
def test_flipped_bits_of_a_checkpoint_are_recognised(
    place: Path, script: Script, with_line: bool
) -> None:
    """A flipped bit is refused, or did not touch what is read; also before there was a line."""
    assert script("--epochs", "1") == 0
    path = place / "checkpoint" / NAME / "ckpt.pth.tar"
    good = path.read_bytes()
    assert checksum_line(good[:-TAIL]) == good[-TAIL:]
    right = torch.load(path, weights_only=True)["state_dict"]
    end = len(good) - (0 if with_line else TAIL)
    dice, refused = random.Random(3), []
    for _ in range(40):
        bad = bytearray(good[:end])
        bad[dice.randrange(end)] ^= 1 << dice.randrange(8)
        path.write_bytes(bad)
        try:
            assert equal(read_checkpoint(path, "resnet20")["state_dict"], right)
        except RunError as error:
            refused.append(error.message)
    assert len(refused) >= 35
    assert all(message.startswith(f"{path} is damaged") for message in refused)
    path.write_bytes(good[:end])
    assert equal(read_checkpoint(path, "resnet20")["state_dict"], right)


def test_checkpoints_that_are_refused(
    place: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated, foreign, harmful, missing or unfitting checkpoint is one message and 2."""
    assert script("--epochs", "2") == 0
    good = (place / "checkpoint" / NAME / "ckpt.pth.tar").read_bytes()
    before = sorted(place.glob("*"))
    content = torch.load(place / "checkpoint" / NAME / "ckpt.pth.tar", weights_only=True)
    capsys.readouterr()
    bad = place / "data" / "bad.pth.tar"

    def refused(*words: str) -> str:
        assert script("--epochs", "2", "--resume", str(bad), *words) == 2
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.err

    assert "There is no checkpoint" in refused()
    for damaged in (good[: len(good) // 2], good[:-90], b"", b"not a checkpoint", b"\x80\x04."):
        bad.write_bytes(damaged)
        assert "nothing in it was executed" in refused()
        assert "nothing in it was executed" in refused("-e")
    bad.write_bytes(pickle.dumps(Harmful()))
    assert "nothing in it was executed" in refused()
    torch.save({**content, "best_acc1": Harmful()}, bad)
    assert "nothing in it was executed" in refused()
    assert not (place / "harm").exists()
    torch.save([1], bad)
    assert "is no checkpoint" in refused()
    bad.write_bytes(good)
    assert "is a checkpoint of 'resnet20', and --arch is 'resnet32'" in refused("-a", "resnet32")
    assert "lr was 0.1 and is 0.5" in refused("--lr", "0.5")
    assert "--start-epoch is 1" in refused("--start-epoch", "1")
    del content["purenoise"]
    torch.save(content, bad)
    assert "was not written by this script" in refused()
    assert sorted(place.glob("*")) == before
