"""Recipes and methods that come with the package, and their combinations."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from purenoise.errors import RecipeError
from purenoise.methodfile import METHODS, LossSpec, Method, PhaseSpec, known_methods, load_method
from purenoise.recipe import (
    RECIPES,
    load_recipe,
    recipe_names,
)

from .support import written

FILES = sorted([*RECIPES.glob("*.yaml"), *METHODS.glob("*.yaml")])


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_load_and_round_trip(name: str, tmp_path: Path) -> None:
    """Every recipe loads, and its YAML loads to the same recipe with the same hash."""
    recipe = load_recipe(name)
    assert recipe.name == name
    again = load_recipe(written(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.digest() == recipe.digest()


@pytest.mark.parametrize("name", known_methods())
def test_packaged_methods_load(name: str) -> None:
    """Every method loads, begins at the beginning, and can be named in a recipe."""
    method = load_method(name)
    assert method.phases[0].start == "begin"
    assert load_recipe("digits", [f"method={name}"]).resolved_method() == method


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_heads_say_what_is_reproduced(path: Path) -> None:
    """Every file begins with a comment that names its source, or says that there is none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    assert lines[0].startswith("# ")
    assert re.search(r"[12]\d{3}|Reproduces no|proof that everything works", head)


def test_the_packaged_methods_are_the_papers() -> None:
    """The methods of the comparison are what their papers say, phase by phase."""

    def says(name: str) -> list[tuple[str, str, str, str]]:
        return [(p.start, p.sampler, p.weights, p.noise) for p in load_method(name).phases]

    plain = ("begin", "instance", "none", "none")
    assert says("erm") == says("ldam") == says("focal") == [plain]
    assert says("drs") == [plain, ("defer", "class-balanced", "none", "none")]
    assert says("open") == [plain, ("defer", "class-balanced", "none", "open")]
    assert says("drw") == says("ldam-drw")
    assert says("drw") == [plain, ("defer", "instance", "effective-number", "none")]
    assert says("rs") == [("begin", "class-balanced", "none", "none")]
    assert says("noise-augment") == [("begin", "instance", "none", "augment")]
    assert load_method("ldam-drw").loss.options() == {"max_m": 0.5, "s": 30.0}


# A+B


def clash(a: Method, b: Method) -> bool:
    """Whether two methods both have something that there can be one of, and not the same."""

    def of(method: Method, part: str) -> list[object]:
        times = [] if part == "post" else [method.at("begin"), method.at("defer")]
        return [getattr(time, part) for time in times] or [method.post]

    pairs = [(of(a, part), of(b, part)) for part in ("mix", "head", "post")]
    return any(any(x) and any(y) and x != y for x, y in pairs)


@pytest.mark.parametrize(("a", "b"), list(product(known_methods(), repeat=2)))
def test_combinations_cut_phases_at_both_times(a: str, b: str) -> None:
    """A+B has, at every time, sampler and noise of A, loss and weights of B, the rest of either."""
    first, second = load_method(a), load_method(b)
    if clash(first, second):
        with pytest.raises(RecipeError, match=r"Both methods of .* (mix images|have a)"):
            load_method(f"{a}+{b}")
        return
    wanted = [expected(first.at(time), second.at(time)) for time in ("begin", "defer")]
    have = [(m.at(time), m.loss_of(m.at(time)), now, second.loss_of(second.at(time)))
            for m in (first, second)
            for time, now in zip(("begin", "defer"), wanted, strict=True)]  # fmt: skip
    lost = any(
        ((own.noise, own.sampler, own.weights) != now
        and (own.noise not in ("none", now[0]) or own.sampler not in ("instance", now[1])
             or own.weights not in ("none", now[2]))) or loss not in (LossSpec(), of_b)
        for own, loss, now, of_b in have
    )  # fmt: skip
    adjusts = "logit-adjustment" in (a, b)
    evened = wanted[-1][1] != "instance"
    other = {first.loss_of(first.at("defer")).name, second.loss_of(second.at("defer")).name}
    weighs = {first.at("defer").weights, second.at("defer").weights} != {"none"}
    twice = adjusts and not evened and (weighs or "balanced-softmax" in other)
    if lost or twice:
        with pytest.raises(RecipeError, match=r"would (lack|take the class shares out twice)"):
            load_method(f"{a}+{b}")
        return
    both = load_method(f"{a}+{b}")
    for time, now in zip(("begin", "defer"), wanted, strict=True):
        phase = both.at(time)
        assert (phase.noise, phase.sampler, phase.weights) == now
        assert both.loss_of(phase) == second.loss_of(second.at(time))
        assert phase.mix == (first.at(time).mix or second.at(time).mix)
        assert phase.head == (first.at(time).head or second.at(time).head)


def expected(a: PhaseSpec, b: PhaseSpec) -> tuple[str, str, str]:
    """Noise and sampler of A, weights of B, and those that a second stage of the head needs."""
    sampler = b.sampler if b.head is not None and a.sampler == "instance" else a.sampler
    weights = a.weights if a.head is not None and b.weights == "none" else b.weights
    return a.noise, sampler, weights


def test_a_method_with_itself_is_itself() -> None:
    """Combining a method with itself changes nothing."""
    assert all(load_method(f"{name}+{name}") == load_method(name) for name in known_methods())


def test_spaces_in_a_combination_do_not_make_another() -> None:
    """``open + ldam`` is ``open+ldam``, in its name and its hash."""
    tight, loose = (load_recipe("digits", [f"method={m}"]) for m in ("open+ldam", "open + ldam"))
    assert tight == loose
    assert loose.method_name() == "open+ldam"


def test_a_method_written_out_is_named_by_its_content() -> None:
    """A method in the recipe has a name that depends on what it says only."""
    one = load_recipe("digits", ["method={loss: {name: focal, gamma: 2}}"])
    same = load_recipe("digits", ["method={loss: {gamma: 2, name: focal}}"])
    other = load_recipe("digits", ["method={loss: {name: focal, gamma: 3}}"])
    assert re.fullmatch(r"custom-[0-9a-f]{8}", one.method_name())
    assert one.method_name() == same.method_name() != other.method_name()
    assert one.resolved_method().loss.options() == {"gamma": 2}
