"""Runs with a second stage go on to the same result, and share their first phases."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from purenoise.experiment import run_recipe
from purenoise.lab.sharing import prefix_key
from purenoise.recipe import Recipe, load_recipe
from purenoise.training import Interrupted, State

from .stagedfits import SHORT, STAGED, fit_of, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("method", [*STAGED, "open+crt"])
@pytest.mark.parametrize("stop", [1, 3, 4, 6, 7])
def test_a_resumed_run_ends_the_same(method: str, stop: int):
    """Stopped in either stage, at its end or begin, and continued, a run has the same weights."""
    recipe = recipe_of(f"method={method}", "batch_size=192")  # 2 steps an epoch
    whole = fit_of(recipe)
    whole.run()
    asked, kept = iter([False] * stop + [True]), list[State]()
    with pytest.raises(Interrupted):
        fit_of(recipe, save=kept.append, should_stop=lambda: next(asked, True)).run()
    other = fit_of(load_recipe("digits", [*SHORT, f"method={method}", "batch_size=192"]))
    torch.manual_seed(5)
    other.run(kept[-1])
    expected = whole.model.state_dict()
    assert all(torch.equal(v, expected[name]) for name, v in other.model.state_dict().items())


@pytest.mark.parametrize("method", STAGED)
@pytest.mark.parametrize("epoch", [2, 3, 4])
def test_states_at_the_ends_of_epochs_go_on(method: str, epoch: int):
    """The state after any epoch, the last one too, leads another loop to the same weights."""
    recipe, states = recipe_of(f"method={method}"), list[State]()

    def keep(state: State) -> None:
        copied = {k: v.clone() for k, v in state.model.items()}
        optimizer = copy.deepcopy(state.optimizer)
        states.append(State(state.epoch, 0, copied, optimizer, {}, list(state.history)))

    whole = fit_of(recipe, on_epoch=keep)
    whole.run()
    other = fit_of(recipe)
    other.run(states[epoch - 1])
    expected = whole.model.state_dict()
    assert set(other.model.state_dict()) == set(expected)
    assert all(torch.equal(v, expected[name]) for name, v in other.model.state_dict().items())


IDENTITY = {"device": "cpu", "threads": 1, "torch": "2", "fingerprint": "f", "subset_sha256": "s",
            "speed": {"step": "two-pass", "bf16": False}}  # fmt: skip


def key(epoch: int, method: str) -> str:
    """Name the state of a run after some epochs."""
    recipe = load_recipe("digits", ["epochs=10", "defer=0.6", f"method={method}"])
    return prefix_key(recipe, IDENTITY, epoch)


def test_what_is_shared():
    """Adjustments share all of their base; two-stage methods share a first stage of their own."""
    assert key(10, "erm") == key(10, "logit-adjustment") == key(10, "tau-norm")
    assert key(10, "drs") == key(10, "drs+logit-adjustment")
    assert key(6, "crt") == key(6, "lws")
    assert key(6, "crt") != key(6, "erm")  # its learning rate has come down by then
    assert key(6, "weight-balancing") != key(6, "crt")
    assert len({key(10, method) for method in (*STAGED, "erm")}) == 4


KINDS = [("crt", {}), ("lws", {}), ("weight-balancing", {}), ("logit-adjustment", {}),
         ("open", {"batch_norm": "auxiliary"}), ("open+crt", {"noise": "shuffled"})]  # fmt: skip


@pytest.mark.parametrize(("method", "more"), KINDS)
@pytest.mark.parametrize("place", [(0, 1), (2, 0), (3, 1)])
def test_a_run_that_dies_goes_on_from_its_files(
    method: str, more: dict[str, Any], place: tuple[int, int], tmp_path
):
    """A run that breaks off in a stage, or between two, ends with the weights of a whole one."""
    texts = [*SHORT[:-1], f"method={method}", "threads=1", "batch_size=192", "save_seconds=0"]

    def recipe_in(out: str) -> Recipe:
        return load_recipe("digits", [*texts, f"out={tmp_path / out}"], more)

    class DeadError(Exception):
        """What ends the run."""

    def die(name: str, event: dict[str, Any]) -> None:
        if name == "step" and (event["epoch"], event["step"]) == place:
            raise DeadError

    whole, broken = recipe_in("whole"), recipe_in("broken")
    expected = run_recipe(whole, whole)
    with pytest.raises(DeadError):
        run_recipe(broken, broken, listeners=[die])
    found = run_recipe(broken, broken)
    weights = [load_file(run.folder / "weights.safetensors") for run in (expected, found)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert expected.summary["test"] == found.summary["test"]
