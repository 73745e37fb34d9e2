"""Deterministic mode: what is on inside, given back after, and named where torch has no form."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch

import purenoise as pn
from purenoise.determinism import CUBLAS, deterministic_mode
from purenoise.recipe import load_recipe
from purenoise.runlog import read_events
from purenoise.training import Fit


def without_a_form() -> None:
    """Do what has no deterministic form on any device."""
    torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))


def settings() -> tuple[object, ...]:
    """Return all that the mode sets."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        os.environ.get(CUBLAS),
    )


def test_settings_are_on_inside_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, torch, cuDNN and cuBLAS are told; after it, also after an error, all is as before."""
    monkeypatch.delenv(CUBLAS, raising=False)
    before = settings()
    with deterministic_mode(True, print):
        assert settings() == (True, True, True, ":4096:8")
    assert settings() == before
    with pytest.raises(KeyError), deterministic_mode(True, print):
        raise KeyError
    assert settings() == before
    with deterministic_mode(False, print):
        assert settings() == before
    monkeypatch.setenv(CUBLAS, ":16:8")
    with deterministic_mode(True, print):
        assert os.environ[CUBLAS] == ":16:8"
    assert os.environ[CUBLAS] == ":16:8"


def test_what_has_no_form_is_named_once() -> None:
    """An operation without a deterministic form runs, and is named in one sentence; once."""
    told: list[str] = []
    with deterministic_mode(True, told.append):
        without_a_form()
        without_a_form()
        with pytest.warns(UserWarning, match="of another kind"):
            warnings.warn("of another kind", stacklevel=1)
    (text,) = told
    assert text.startswith("deterministic=true: torch has no such form of put_")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without_a_form()


def test_a_workspace_of_the_caller_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller's own cuBLAS workspace that is not deterministic is named in one sentence, once."""
    monkeypatch.setenv(CUBLAS, ":0:0")
    told: list[str] = []
    words = (  # as torch says it, shortened; only a GPU makes it say so
        "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` "
        "or `at::Context::setDeterministicAlgorithms(true)`, but this operation is not "
        "deterministic because it uses CuBLAS and you have CUDA >= 10.2. To enable deterministic "
        f"behavior, set {CUBLAS}=:4096:8 or {CUBLAS}=:16:8."
    )
    with deterministic_mode(True, told.append):
        for _ in range(2):
            warnings.warn(words, stacklevel=1)
        without_a_form()
        with pytest.warns(UserWarning, match="CuBLAS is slow"):
            warnings.warn("CuBLAS is slow", stacklevel=1)
    assert len(told) == 2
    assert told[0].startswith(f"deterministic=true: {CUBLAS}=:0:0 lets cuBLAS change the order")
    assert "put_" in told[1]


def test_a_run_says_what_it_cannot_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe asks for it; the run's log has the warning; on a CPU no number changes."""
    plain = pn.train("digits", epochs=1, threads=1, out=str(tmp_path / "plain"))
    natural = Fit._natural

    def step(fit: Fit, *given: object) -> object:
        without_a_form()
        return natural(fit, *given)

    monkeypatch.setattr(Fit, "_natural", step)
    run = pn.train("digits", epochs=1, threads=1, deterministic=True, out=str(tmp_path / "same"))
    assert run.metrics == plain.metrics
    said = [e["text"] for e in read_events(run.folder / "events.jsonl") if e["event"] == "warning"]
    assert [text for text in said if "no such form of put_" in text] == said[:1]
    assert run.folder.parent.parent.name != plain.folder.parent.parent.name


def test_runs_without_it_keep_their_folders() -> None:
    """The key enters the digest only where it is set."""
    assert "deterministic" not in load_recipe("digits").content()
    assert load_recipe("digits", ["deterministic=true"]).content()["deterministic"] is True
