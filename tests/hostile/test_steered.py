"""The fuzzing that is steered by coverage: every reader for a moment, and that it finds its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from purenoise.errors import DataError

from .parsers import PARSERS, Parser
from .steered import Steps, given, steer
from .warm import warm_up


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Load libraries and train the small run that seeds are taken from."""
    warm_up()


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_every_reader_takes_its_seeds_and_refuses_the_rest(
    parser: Parser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """A few dozen changed inputs: each is read, or refused in a sentence, and nothing else."""
    monkeypatch.setenv("PURENOISE_CACHE", str(tmp_path))
    n = len(parser.seeds())
    found = steer(parser, 60, np.random.default_rng(0), most=n + 25)
    assert found.failures == {}
    assert found.tried == n + 25
    assert found.refused < found.tried, "its seeds are good"
    assert found.kept >= 1
    assert found.edges > 3


def lock(content: bytes, _: Path) -> None:
    """Break only for what is found letter by letter."""
    found = "closed"
    for i, letter in enumerate(b"key"):
        if content[i : i + 1] != bytes([letter]):
            break
        if i == 0:
            found = "first"
        if i == 1:
            found = "second"
        if i == 2:
            found = "open"
    if found == "open":
        raise KeyError("what was hidden")
    raise DataError("It is no key.", "Take another.")


def test_coverage_leads_to_what_chance_does_not_find(monkeypatch: pytest.MonkeyPatch):
    """A fault behind three letters is found by keeping what gets further, and not without."""
    from . import steered

    def change(content: bytes, random: np.random.Generator) -> bytes:
        found = bytearray(content or b"a")
        found[int(random.integers(len(found)))] = int(random.integers(97, 123))
        return bytes(found)

    monkeypatch.setattr(steered, "changed", change)
    monkeypatch.setattr(steered, "OURS", __file__)
    parser = Parser("lock", lock, lambda: [b"aaa"])
    most = 4000
    assert "KeyError" in steer(parser, 60, np.random.default_rng(1), most).failures
    monkeypatch.setattr(steered, "OURS", "nowhere")
    assert steer(parser, 60, np.random.default_rng(1), most).kept == 1


def test_it_is_the_same_from_the_same_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Inputs and what came of them follow from the seed."""
    monkeypatch.setenv("PURENOISE_CACHE", str(tmp_path))
    (parser,) = (p for p in PARSERS if p.name == "seeds")
    one, other, third = (steer(parser, 60, np.random.default_rng(seed), 150) for seed in (1, 1, 2))
    assert one == other
    assert one != third


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda content, folder: 1 / 0, "ZeroDivisionError"),
        (lambda content, folder: (folder.parent / "x-outside").write_text(""), "written: "),
        (lambda content, folder: (_ for _ in ()).throw(DataError("")), "no sentence"),
    ],
)
def test_faults_of_a_reader_are_seen(read: object, said: str, tmp_path: Path):
    """What is raised, written elsewhere or said without words counts as a failure."""
    (tmp_path / "in").mkdir()
    _, wrong = given(Parser("bad", read, list), b"", tmp_path / "in")  # type: ignore[arg-type]
    assert said in wrong


def test_steps_are_lines_after_lines():
    """Code of ours is seen, other code is not."""
    steps = Steps()
    with steps.seen() as edges:
        from purenoise.longtail import imbalanced_counts

        imbalanced_counts("exp", 100, 3, ratio=10)
        np.mean([1, 2])
    assert len(edges) > 3
