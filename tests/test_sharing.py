"""Which runs may go on from one another's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from purenoise.lab.pool import Pool
from purenoise.lab.scheduling import Execution, Job
from purenoise.lab.sharing import PhaseStore, boundaries, longest, prefix_key, shared_epochs
from purenoise.recipe import load_recipe
from purenoise.training import State

IDENTITY = {"device": "cpu", "threads": 1, "torch": "2", "fingerprint": "f", "subset_sha256": "s",
            "speed": {"step": "two-pass", "bf16": False}}  # fmt: skip
WORDS = ("epochs=10", "defer=0.6")


def key(epoch: int, *words: str, **identity: Any) -> str:
    """Name the state of digits after some epochs."""
    return prefix_key(load_recipe("digits", [*WORDS, *words]), IDENTITY | identity, epoch)


def test_a_run_has_its_boundaries() -> None:
    """A deferred method ends a phase at the boundary and the last one at the end."""
    assert boundaries(load_recipe("digits", [*WORDS, "method=drs"])) == [6, 10]
    assert boundaries(load_recipe("digits", [*WORDS, "method=erm"])) == [10]


@pytest.mark.parametrize(
    "words", [["method=drs"], ["method=drw"], ["method=open"], ["method=open", "delta=0.9"],
              ["method=open", "stop_gradient=affine"]],
)  # fmt: skip
def test_plain_first_phases_are_one(words: list[str]) -> None:
    """Before the boundary all of these are plain training; after it none is."""
    assert key(6, *words) == key(6, "method=erm")
    assert key(3, *words) == key(3, "method=erm")
    assert key(10, *words) != key(10, "method=erm")


@pytest.mark.parametrize(
    "words", [["method=rs"], ["method=balanced-softmax"], ["method=ldam-drw"],
              ["method=erm", "lr=1"], ["method=erm", "seed=1"], ["method=erm", "epochs=11"],
              ["method=erm", "ratio=20"],
              ["method=erm", "model=resnet8"], ["method=erm", "augment=none"],
              ["method=erm", "precision=float64"]],
)  # fmt: skip
def test_what_differs_before_the_boundary_is_not_shared(words: list[str]) -> None:
    """Another sampler, loss, recipe, seed or length is another state."""
    assert key(6, *words) != key(6, "method=erm")


def test_with_noise_in_the_phase_its_settings_count() -> None:
    """From the boundary on, delta and the gradient stop change the state."""
    assert key(10, "method=open", "delta=0.9") != key(10, "method=open")
    assert key(10, "method=open", "stop_gradient=none") != key(10, "method=open")


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"torch": "3"}, {"device": "cuda"}, {"fingerprint": "g"},
               {"subset_sha256": "t"}, {"speed": {"step": "two-pass", "bf16": True}}],
)  # fmt: skip
def test_another_machine_or_data_is_another_state(change: dict[str, Any]) -> None:
    """All that a resumed run must agree with is in the name."""
    assert key(6, "method=erm", **change) != key(6, "method=erm")


def test_the_form_of_steps_with_noise_does_not_change_the_phase_before() -> None:
    """Phases without noise are the plain forward, masked or not."""
    masked = {"speed": {"step": "masked"}}
    assert key(6, "method=open", **masked) == key(6, "method=erm", **masked)


def records(epochs: int) -> list[dict[str, Any]]:
    """Return records of epochs, as a state has them."""
    record = {"phase": 0, "lr": 0.1, "loss": 1.0, "accuracy": 0.5, "seconds": 1.0}
    return [{"epoch": epoch, **record} for epoch in range(epochs)]


def test_the_store_keeps_whole_states(tmp_path: Path) -> None:
    """What is kept comes back; a damaged file is as good as none and is removed."""
    store = PhaseStore(tmp_path)
    store.save("a", State(3, 0, {"w": torch.ones(2)}, {}, {}, records(3)), {"threads": 1})
    found = store.load("a")
    assert found is not None
    assert found.epoch == 3
    assert found.model["w"].tolist() == [1, 1]
    assert longest({3: "a", 5: "b"}, store) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "a" / "state.pt").write_bytes(b"torn")
    assert store.load("a") is None
    assert longest({3: "a"}, store) is None
    assert store.load("never") is None


def test_shared_epochs_are_those_of_two_runs() -> None:
    """A state that one run alone has is not kept."""
    assert shared_epochs([{6: "a", 10: "b"}, {6: "a", 10: "c"}, {6: "d"}]) == [
        {6: "a"},
        {6: "a"},
        {},
    ]


def test_followers_wait_for_the_leader_and_no_longer(tmp_path: Path) -> None:
    """A run whose first phase is being trained waits; one that shares nothing does not."""
    recipe = load_recipe("digits", WORDS)
    jobs = [Job(name, recipe, tmp_path / name, "", shared)
            for name, shared in (("erm", {6: "k"}), ("drs", {6: "k"}), ("rs", {}))]  # fmt: skip
    store = PhaseStore(tmp_path / "phases")
    execution = Execution(jobs, store, Pool(2), lambda *_: None, lambda: False)
    assert execution._next() is jobs[0]
    execution.active = [execution.pending.pop(0)]
    assert execution._next() is jobs[2]
    store.save("k", State(6), {})
    assert execution._next() is jobs[1]
    execution.active = []
    (tmp_path / "phases" / "k" / "state.pt").unlink()
    assert execution._next() is jobs[1], "the leader is gone: a follower leads"


def test_a_state_in_the_place_of_another_is_not_used(tmp_path: Path) -> None:
    """States that were swapped, or lack records of their epochs, are removed, not used."""
    store = PhaseStore(tmp_path)
    for key, value in (("a", 1.0), ("b", 2.0)):
        store.save(key, State(model={"w": torch.full((1,), value)}), {})
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert PhaseStore(tmp_path).load("a") is None
    assert not (tmp_path / "a").exists()
    store.save("d", State(epoch=2, history=[]), {})
    assert store.load("d") is None
