"""Recipes, methods and overrides: what loads, what is refused and how, what a hash stands for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from purenoise import overrides, yamlfile
from purenoise.errors import RecipeError
from purenoise.methodfile import METHODS, LossSpec, Method, PhaseSpec, known_methods, load_method
from purenoise.names import KNOWN_DATA
from purenoise.recipe import (
    RECIPES,
    Recipe,
    folder_name,
    load_recipe,
    recipe_names,
)

FILES = sorted([*RECIPES.glob("*.yaml"), *METHODS.glob("*.yaml")])


def faults_of(name: str | None, *given: str) -> list[str]:
    """Return the faults that loading tells, one per line."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, given)
    return [line[4:] for line in caught.value.message.splitlines() if line.startswith("  - ")]


def written(tmp_path: Path, text: str) -> str:
    """Return the path of a recipe with this text."""
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# What comes with the package


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


# Overrides


def at(recipe: Recipe, path: str) -> object:
    """Return the value at a dotted path."""
    value: object = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("epochs=3", "train.epochs", 3),
        ("train.epochs=1e2", "train.epochs", 100),
        ("lr=1e-3", "train.lr", 0.001),
        ("delta=1/3", "delta", 1 / 3),
        ("delta = 0.5", "delta", 0.5),
        ("defer=4/5", "defer", 0.8),
        ("imb_factor=0.01", "data.imbalance.ratio", 100.0),
        ("imb_factor=1/50", "data.imbalance.ratio", 50.0),
        ("data.imbalance.imb_factor=1", "data.imbalance.ratio", 1.0),
        ("ratio=20", "data.imbalance.ratio", 20.0),
        ("imbalance.seed=7", "data.imbalance.seed", 7),
        ("seed=7", "seed", 7),
        ("augment=open", "augment.policy", "open"),
        ("augment.flip=false", "augment.flip", False),
        ("flip=no", "augment.flip", False),
        ("flip=null", "augment.flip", None),
        ("model=resnet20", "model.name", "resnet20"),
        ("model.dropout=0.1", "model.dropout", 0.1),
        ("method=open+balanced-softmax", "method", "open+balanced-softmax"),
        ("image_size=48", "data.image_size", 48),
        ("image_size=[48, 64]", "data.image_size", (48, 64)),
        ("threads=2", "threads", 2),
        ("threads=auto", "threads", "auto"),
        ("device=cuda:1", "device", "cuda:1"),
        ("out=2024", "out", "2024"),
        ("name=007", "name", "007"),
        ("root=on", "data.root", "on"),
        ("subset=random", "data.imbalance.subset", "random"),
        ("type=none", "data.imbalance.ratio", 1.0),
        ("normalize={mean: [0.5], std: [0.25]}", "data.normalize.std", [0.25]),
    ],
)
def test_overrides(text: str, path: str, value: object) -> None:
    """Short and dotted keys set what they name, and values are read as people write them."""
    found = at(load_recipe("digits", [text]), path)
    assert found == value
    assert type(found) is type(value)


def test_an_override_leaves_the_rest_alone() -> None:
    """What is not named keeps the recipe's value, in the same section too."""
    before = load_recipe("cifar10-lt-open").model_dump()
    after = load_recipe("cifar10-lt-open", ["epochs=3", "augment.flip=false"]).model_dump()
    before["train"]["epochs"], before["augment"]["flip"] = 3, False
    assert after == before


def test_sections_come_before_their_keys() -> None:
    """``model=`` and ``model.dropout=`` do together what they say, in either order."""
    given = ["model=resnet20", "model.dropout=0.1", "augment=open", "augment.flip=false"]
    for order in (given, given[::-1]):
        recipe = load_recipe("cifar10-lt-open", order)
        assert (recipe.model.name, recipe.model.dropout) == ("resnet20", 0.1)
        assert (recipe.augment.policy, recipe.augment.flip) == ("open", False)


def test_of_two_overrides_of_one_key_the_later_holds() -> None:
    """The later of ``epochs=3 train.epochs=5`` holds, as on any command line."""
    assert load_recipe("digits", ["epochs=3", "train.epochs=5"]).train.epochs == 5


def test_a_new_model_drops_the_dropout_of_the_old() -> None:
    """``model=resnet20`` replaces the section: another network's dropout does not stay."""
    assert load_recipe("cifar10-lt-open").model.dropout == 0.3
    assert load_recipe("cifar10-lt-open", ["model=resnet20"]).model.dropout == 0


def test_an_overridden_ratio_beats_the_files_imb_factor(tmp_path: Path) -> None:
    """A ratio given on the line holds over an imb_factor in the file, and the other way round."""
    text = "data: {imbalance: {type: exp, imb_factor: 0.01}}"
    path = written(tmp_path, text)
    assert load_recipe(path).data.imbalance.ratio == 100
    assert load_recipe(path, ["ratio=5"]).data.imbalance.ratio == 5
    assert load_recipe("digits", ["imb_factor=0.1"]).data.imbalance.ratio == 10


@pytest.mark.parametrize(
    ("text", "name", "kind", "root"),
    [
        ("data=photos/", "folder", "folder", "photos/"),
        ("data=my photos: 2", "folder", "folder", "my photos: 2"),
        ("data=2024", "folder", "folder", "2024"),
        ("data=on", "folder", "folder", "on"),
        ("data=@holiday", "folder", "folder", "@holiday"),
        ("data=cifar10", "cifar10-lt", "cifar10", "data"),
        ("data=cifar100", "cifar100-lt", "cifar100", "data"),
        ("data=digits", "digits", "digits", None),
        ("data.name=cifar10", "cifar10-lt", "cifar10", "data"),
        ("epochs=5", "digits", "digits", None),
    ],
)
def test_data_picks_the_recipe(text: str, name: str, kind: str, root: str | None) -> None:
    """Without a recipe ``data=`` picks the one that fits, and paths stay as they were typed."""
    recipe = load_recipe(None, [text])
    assert (recipe.name, recipe.data.name, recipe.data.root) == (name, kind, root)


def test_data_keeps_the_section_but_not_a_strangers_folder() -> None:
    """``data=`` in a named recipe keeps its imbalance; CIFAR is not sought among photos."""
    recipe = load_recipe("cifar10-lt", ["data=cifar100"])
    assert (recipe.data.name, recipe.data.imbalance.ratio) == ("cifar100", 100)
    swapped = load_recipe("folder", ["data=photos", "data=cifar10"])
    assert (swapped.data.name, swapped.data.root) == ("cifar10", None)


def test_sections_may_be_written_short(tmp_path: Path) -> None:
    """``data: cifar10``, ``model: resnet20`` and ``augment: open`` do in files, also overridden."""
    path = written(tmp_path, "data: cifar10\nmodel: resnet20\naugment: open\n")
    for texts in ([], ["ratio=10", "type=exp", "model.dropout=0.1", "flip=false"]):
        recipe = load_recipe(path, texts)
        assert recipe.data.name == "cifar10"
        assert (recipe.model.name, recipe.augment.policy) == ("resnet20", "open")


def test_a_run_folder_is_a_recipe(tmp_path: Path) -> None:
    """A folder that holds recipe.yaml loads as that recipe, with its name."""
    recipe = load_recipe("digits", ["epochs=3"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(tmp_path)) == recipe


@given(
    epochs=st.integers(1, 10**6),
    lr=st.floats(1e-12, 1e6),
    delta=st.floats(0, 1),
    size=st.none() | st.integers(1, 999) | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    method=st.sampled_from(["erm", "open+ldam", Method(), load_method("ldam-drw")]),
    root=st.none() | st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12),
    threads=st.just("auto") | st.integers(1, 64),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_recipe_round_trips(
    epochs: int, lr: float, delta: float, size: object, method: object, root: str, threads: object
) -> None:
    """Whatever a recipe holds, its YAML loads to the same recipe."""
    recipe = Recipe.model_validate(
        {
            "data": {"root": root, "image_size": size},
            "train": {"epochs": epochs, "lr": lr},
            "delta": delta,
            "method": method,
            "threads": threads,
        }
    )
    again = Recipe.model_validate(yamlfile.parse(recipe.to_yaml(), "it"))
    assert again == recipe
    assert again.digest() == recipe.digest()


# Values of Python


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({"epochs": np.int64(3)}, "train.epochs", 3),
        ({"lr": np.float32(0.5)}, "train.lr", 0.5),
        ({"nesterov": np.True_}, "train.nesterov", True),
        ({"image_size": (8, 9)}, "data.image_size", (8, 9)),
        ({"image_size": np.array([8, 9])}, "data.image_size", (8, 9)),
        ({"out": Path("a") / "b"}, "out", str(Path("a") / "b")),
        ({"out": 2024}, "out", "2024"),
        ({"data": Path("photos")}, "data.root", "photos"),
        ({"data": "my photos: 2"}, "data.root", "my photos: 2"),
        ({"name": "on"}, "name", "on"),
        ({"flip": None}, "augment.flip", None),
        ({"train.lr": 0.25}, "train.lr", 0.25),
        ({"delta": "1/4"}, "delta", 0.25),
        ({"method": load_method("drs")}, "method", load_method("drs")),
        ({"method": {"loss": {"name": "focal"}}}, "method.loss.name", "focal"),
        ({"normalize": {"mean": (0.5,), "std": [0.25]}}, "data.normalize.mean", [0.5]),
        ({"imbalance": {"type": "step", "ratio": 5}}, "data.imbalance.ratio", 5.0),
        ({"imbalance": {"imb_factor": 0.1}}, "data.imbalance.ratio", 10.0),
        ({"imbalance": {"seed": 3}}, "data.imbalance.ratio", 40.0),
        ({"model": {"dropout": 0}}, "model.name", "small_cnn"),
        ({"data": {"name": "digits", "imbalance": {"ratio": 7}}}, "data.imbalance.type", "exp"),
        ({"data": {"name": "cifar10"}}, "name", "cifar10-lt"),
        ({"data": {"name": "folder", "root": Path("x")}}, "name", "folder"),
    ],
)
def test_values_of_python(values: dict[str, object], path: str, value: object) -> None:
    """Values need not be YAML: they are set as they are, and mappings change what they name."""
    found = at(load_recipe(values=values), path)
    assert found == value
    assert type(found) is type(value)


def test_values_of_python_are_refused_as_texts_are() -> None:
    """Keys inside a mapping are checked as all others, in one message with the texts' faults."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            Path("digits"), ["epohs=1"], {"model": {"nme": "x"}, "lr": np.nan, "seed": object()}
        )
    text = str(caught.value)
    assert "4 faults" in text
    assert "unknown key 'model.nme'. Did you mean 'model.name'?" in text
    assert "train.lr: must be a finite number, got nan" in text


@pytest.mark.parametrize(
    "values",
    [
        {"lr": np.float64(0.5), "imbalance": {"type": "step", "ratio": 5}, "flip": None},
        {"image_size": (8, 8), "nesterov": True, "model": {"name": "resnet8"}, "delta": "1/3"},
    ],
)
def test_what_is_recorded_does_the_same_on_the_command_line(values: dict[str, object]) -> None:
    """The texts that a run's log shows for Python's values load to the same recipe."""
    texts = [f"{k}={overrides.as_typed(overrides.plain(v))}" for k, v in values.items()]
    assert load_recipe("digits", texts) == load_recipe("digits", values=values)


# Refusals


def test_all_faults_are_told_at_once() -> None:
    """Eight mistakes on one line are eight sentences, with what was meant where it is clear."""
    given = ["epohs=3", "lr=ten", "delta=2", "ratio=0.5", "method=opne", "optimizer=sdg", "foo",
             "treads=1"]  # fmt: skip
    assert sorted(faults_of("digits", *given)) == sorted(
        [
            "'foo' is not of the form key=value",
            "unknown key 'epohs'. Did you mean 'epochs'?",
            "unknown key 'treads'. Did you mean 'threads'?",
            "data.imbalance.ratio: must be at least 1, got 0.5",
            "method: Method 'opne' is not known. Did you mean 'open'? A+B combines two; deferred-A "
            "is plain training first, then A",
            "delta: must be at most 1, got 2",
            "train.optimizer: must be 'sgd', 'adam' or 'adamw', got 'sdg'. Did you mean 'sgd'?",
            "train.lr: must be a number, got 'ten'",
        ]
    )


SIZE = "data.image_size: must be auto, a side in pixels from 1 on, or [height, width], got "
THREADS = "threads: must be a whole number from 1 on, or auto, got "
METHOD = "method: must be a method's name, A+B, or keys and values (loss, phases), got "
SWITCH = "(YAML reads yes, no, on and off as true and false)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("delta=-0.1", "delta: must be at least 0, got -0.1"),
        ("delta=1/0", "delta: must be a number, got '1/0'"),
        ("delta=.nan", "delta: must be a finite number, got nan"),
        ("epochs=1.5", "train.epochs: must be a whole number, got 1.5"),
        ("epochs=yes", f"train.epochs: cannot be true {SWITCH}"),
        ("nesterov=maybe", "train.nesterov: must be true or false, got 'maybe'"),
        ("momentum=1", "train.momentum: must be below 1, got 1"),
        ("lr=0", "train.lr: must be above 0, got 0"),
        ("lr=[", "the value of lr is not valid YAML: expected the node content, but found "
                 "'<stream end>' (line 1)"),
        ("train=5", "train: must be keys and values, got 5"),
        ("threads=0", THREADS + "0"),
        ("threads=many", THREADS + "'many'"),
        ("threads=on", f"threads: cannot be true {SWITCH}"),
        ("image_size=big", SIZE + "'big'"),
        ("image_size=0", SIZE + "0"),
        ("image_size=[48]", SIZE + "[48]"),
        ("image_size=[48, x]", SIZE + "'x'"),
        ("normalize=imagenet", "data.normalize: must be 'auto' or 'data', got 'imagenet'"),
        ("normalize={mean: [0.5, x], std: [1, 1]}",
         "data.normalize.mean (item 2): must be a number, got 'x'"),
        ("normalize={mean: [0.5], std: [1, 1]}",
         "data.normalize: mean and std have one number per channel each, got 1 and 2"),
        ("method=5", METHOD + "5"),
        ("method=[erm]", METHOD + "['erm']"),
        ("method=a+b+c", "method: Method 'a+b+c' combines 3 methods; two can be combined"),
        ("method=erm+", "method: Method 'erm+' lacks a name. A+B combines two methods"),
        ("method={loss: {name: focal, gama: 2}}",
         "method.loss: 'gama' is no option of the loss 'focal'. Did you mean 'gamma'?"),
        ("method={phases: [{sampler: instnce}]}",
         "method.phases.sampler (item 1): must be 'instance', 'class-balanced', 'square-root', "
         "'effective-number' or 'progressive', got 'instnce'. Did you mean 'instance'?"),
        ("method={phases: [{strat: begin}]}",
         "unknown key 'method.phases.strat'. Did you mean 'method.phases.start'? (item 1)"),
        ("method={phases: []}", "method.phases: must not be empty, got []"),
        ("method={phases: [{start: defer}]}",
         "method: phases must start at begin, then at defer, got defer"),
        ("model={nme: x}", "unknown key 'model.nme'. Did you mean 'model.name'?"),
        ("augment={policy: 3}", "augment.policy: must be text, got 3"),
        ("device=gpu", "device: must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        ("device=cpu:1", "device: only cuda takes a number, as in cuda:0, got 'cpu:1'"),
        ("name=../elsewhere", "name: must do as the name of a folder, got '../elsewhere'"),
        ("name=..", "name: must do as the name of a folder, got '..'"),
        ("imb_factor=2", "data.imbalance: imb_factor must be above 0 and at most 1, got 2"),
        ("imbalance={imb_factor: 0.1, ratio: 2}",
         "data.imbalance: imb_factor is 1 / ratio: give one of them, got both"),
        ("train.epochs.x=1", "unknown key 'train.epochs.x'. Did you mean 'train.epochs'?"),
        ("augment=opne", "augment.policy: There is no augmentation 'opne'. Did you mean 'open'?"),
        ("data.name=digit", "data.name: There is no data set 'digit'. Did you mean 'digits'? "
                            "A folder of images is data=PATH; torchvision's data sets "
                            "are torchvision:NAME"),
        ("subset=frist", "data.imbalance.subset: Subset 'frist' is neither a known subset nor a "
                         "file. Did you mean 'first'?"),
        ("model=resnt32", "model.name: There is no model 'resnt32'. Did you mean 'resnet32'? "
                          "Models of other libraries are written torchvision:NAME or timm:NAME"),
        ("model=wide_resnet27_2", "model.name: wide_resnet27_2 has depth 27; a wide ResNet has "
                                  "depth 6n + 4: 10, 16, 22, 28, ... Did you mean "
                                  "'wide_resnet28_10'? Models of other libraries are written "
                                  "torchvision:NAME or timm:NAME"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_plain_sentence(text: str, sentence: str) -> None:
    """Each typical mistake gives exactly one sentence: the key, what is allowed, what was got."""
    assert faults_of("digits", text) == [sentence]


def test_wrong_names_are_told_with_all_other_faults() -> None:
    """Policy, model, data set and subset are checked with the rest, in one message."""
    given = ["augment=foo", "model=resnet19", "data.name=bar", "subset=foo", "epochs=0"]
    assert [fault.partition(":")[0] for fault in faults_of("digits", *given)] == [
        "data.name", "data.imbalance.subset", "augment.policy", "model.name", "train.epochs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["wide_resnet10_3", "torchvision:resnet18", "timm:resnet10t", "small_cnn"]
)
def test_models_that_can_be_named(name: str) -> None:
    """Wide ResNets of every size and models of other libraries pass without torch."""
    assert load_recipe("digits", [f"model={name}"]).model.name == name


def test_an_index_file_is_needed_to_begin_but_not_for_a_run(tmp_path: Path) -> None:
    """A recipe's index file must be there; a run, which carries a digest, loads without it."""
    index = tmp_path / "index.txt"
    index.write_text("0\n1\n", encoding="utf-8")
    recipe = load_recipe("digits", [f"subset={index}"])
    path = written(tmp_path, recipe.to_yaml())
    index.unlink()
    (fault,) = faults_of(path)
    assert "neither a known subset nor a file" in fault
    again = load_recipe(written(tmp_path, recipe.to_yaml() + f"digest: {recipe.digest()}\n"))
    assert again == recipe


def test_strange_keys_do_not_fill_the_message() -> None:
    """A key that is like no other is named alone; one hint says where all keys stand."""
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", ["qqqq=1", "zzzz=2", "train={xxxx: 3}", "model={yyyy: 4}"])
    text = str(caught.value)
    assert "  - unknown key 'qqqq'\n  - unknown key 'zzzz'\n" in text
    assert "save_seconds" not in text
    assert text.count("`purenoise recipes show` lists every key.") == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("epochs", "'epochs' is a key of recipes: write epochs=..., without spaces around =."),
        ("train.lr", "'train.lr' is a key of recipes: write train.lr=..., without spaces around ="
                     "."),
        ("drs", "'drs' is a method: write method=drs."),
        ("open+ldam", "'open+ldam' is a method: write method=open+ldam."),
    ],
)  # fmt: skip
def test_a_key_or_method_in_the_place_of_a_recipe(name: str, hint: str) -> None:
    """Who forgets ``=`` or ``method=`` is told how to write it."""
    with pytest.raises(RecipeError, match="There is no recipe") as caught:
        load_recipe(name)
    assert caught.value.hint == hint


def test_a_ratio_that_would_do_nothing_is_refused() -> None:
    """A ratio without a type would be ignored in silence; the sentence says what to add."""
    (fault,) = faults_of("folder", "ratio=50")
    assert "nothing would be made long-tailed; add data.imbalance.type=exp" in fault
    assert load_recipe("folder", ["ratio=50", "type=exp"]).data.imbalance.ratio == 50


def test_an_ambiguous_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short key that two keys end in is refused with both."""
    monkeypatch.setattr(overrides, "keys", lambda root: ["data.decay", "train.decay", "name"])
    faults: list[str] = []
    given = overrides.parse_overrides(["decay=3"], faults)
    overrides.apply_overrides({}, given, Recipe, faults)
    assert faults == ["'decay' could be data.decay or train.decay: write it out"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs: 5", "unknown key 'epochs'. Did you mean 'train.epochs'?"),
        ("train: {epoch: 5}", "unknown key 'train.epoch'. Did you mean 'train.epochs'?"),
        ("train: {lr: x, epochs: 0}", "2 faults"),
        ("seed: 1\nseed: 2", r"the key 'seed' stands twice \(line 2\)"),
        ("train:\n  lr: 1\n  lr: 2", r"the key 'lr' stands twice \(line 3\)"),
        ("train: [1", "is not valid YAML"),
        ("- erm\n- open", "holds list, not keys and values"),
        ("just words", "holds str, not keys and values"),
        ("", "holds nothing"),
        ("# a head alone", "holds nothing"),
        ("a: 1\n---\nb: 2", "is not valid YAML"),
        ("? [a, b]\n: 1", "is not valid YAML"),
        ("a: \x00", "is not valid YAML"),
        ("seed: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("seed: !!python/name:os.system", "is not valid YAML"),
        ("!!python/object:purenoise.recipe.Recipe {}", "is not valid YAML"),
        ("1: 2", "key that is not text"),
        ("train: {<<: 5}", "is not valid YAML"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    """A file that is no recipe is refused in a sentence, and no YAML tag builds an object."""
    with pytest.raises(RecipeError, match=words):
        load_recipe(written(tmp_path, text))


def test_overrides_of_a_broken_section_tell_the_section(tmp_path: Path) -> None:
    """An override into what is no section leaves the fault to the section."""
    path = written(tmp_path, "train: [1, 2]\n")
    assert faults_of(path, "epochs=3") == ["train: must be keys and values, got [1, 2]"]


def test_huge_values_are_cut_in_messages(tmp_path: Path) -> None:
    """A value that unfolds to a million parts does not fill the message, nor the memory."""
    lines = ["a: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    path = written(tmp_path, "\n".join([*lines, "seed: *a11"]))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 10_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no FIFOs")
def test_a_recipe_that_is_no_ordinary_file(tmp_path: Path) -> None:
    """A FIFO, or a link to nothing, is named as what it is, alone or as a run's recipe."""
    os.mkfifo(tmp_path / "recipe.yaml")
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").symlink_to(tmp_path / "nothing")
    for name, place in (
        (tmp_path, tmp_path / "recipe.yaml"),
        (tmp_path / "recipe.yaml", tmp_path / "recipe.yaml"),
        (run, run / "recipe.yaml"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(str(name))
        assert (
            caught.value.message == f"{str(place)!r} is no ordinary file, so it cannot be a recipe."
        )
        assert "data=" not in caught.value.hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Bytes that are no text and paths that are no file are refused in a sentence."""
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(str(tmp_path / "bytes.yaml"))
    with pytest.raises(RecipeError, match="is a folder, not a recipe"):
        load_recipe(str(tmp_path))
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(str(tmp_path / "missing.yaml"))
    with pytest.raises(RecipeError, match="Did you mean 'digits'") as caught:
        load_recipe("digit")
    assert caught.value.hint.endswith("Or give the path of a YAML file.")


@pytest.mark.parametrize("name", ["", "opne", "open+opne", "open+erm+drs", "../erm", "+"])
def test_unknown_methods(name: str) -> None:
    """A method's name is one of the packaged ones, never a path."""
    with pytest.raises(RecipeError, match=r"not known|lacks a name|two can be combined"):
        load_method(name)


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-.5e2", -50.0),
        ("2.e1", 20.0),
        ("1.5", 1.5),
        ("10", 10),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("cuda:0", "cuda:0"),
        ("", None),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_yaml_values(text: str, value: object) -> None:
    """Numbers are read as people write them, all else as YAML has it."""
    found = yamlfile.parse(text, "it")
    assert found == value
    assert type(found) is type(value)


def test_the_loader_is_ours_alone() -> None:
    """Reading recipes strictly does not change how others read YAML."""
    assert yaml.safe_load("{a: 1, a: 2, b: 1e-3}") == {"a": 2, "b": "1e-3"}


# Hashes and folders

RESULT = ["epochs=3", "delta=0.5", "seed=1", "method=erm", "ratio=10", "lr=1e-3", "threads=7",
          "augment.flip=false", "stop_gradient=none", "precision=float64", "data=photos",
          "defer=0.37", "dropout=0.1"]  # fmt: skip


@pytest.mark.parametrize("text", RESULT)
def test_hash_changes_with_what_changes_the_result(text: str) -> None:
    """Every override that can change a result changes the hash."""
    assert load_recipe("digits", [text]).digest() != load_recipe("digits").digest()


@pytest.mark.parametrize("text", ["out=elsewhere", "device=cpu", "name=mine"])
def test_hash_keeps_with_what_does_not(text: str) -> None:
    """Where a run is written, where it is computed and how it is called do not change the hash."""
    assert load_recipe("digits", [text]).digest() == load_recipe("digits").digest()


def test_hash_is_of_the_meaning() -> None:
    """The same recipe in other words has the same hash, and all hashes of changes differ."""
    same = [
        ["imb_factor=0.0625", "delta=1/4"],
        ["ratio=16", "delta=0.25"],
        ["ratio=1.6e1", "delta=.25"],
    ]
    assert len({load_recipe("digits", given).digest() for given in same}) == 1
    assert len({load_recipe("digits", [text]).digest() for text in RESULT}) == len(RESULT)


@pytest.mark.parametrize("text", RESULT)
def test_folder_has_a_suffix_if_the_result_changes(text: str) -> None:
    """Overrides give the folder 8 hex digits; method and seed do not, as they have folders."""
    name = folder_name(load_recipe("digits", [text]), load_recipe("digits"))
    own_folder = text.startswith(("seed", "method"))
    assert re.fullmatch(r"digits" if own_folder else r"digits-[0-9a-f]{8}", name)


def test_folder_is_found_again() -> None:
    """The same line finds its folder again, for every method and seed."""
    base = load_recipe("digits")
    lines = [["delta=0.5"], ["delta=0.5", "method=erm"], ["delta=1/2", "seed=4", "out=x"]]
    assert len({folder_name(load_recipe("digits", line), base) for line in lines}) == 1
    assert folder_name(load_recipe("digits", ["name=mine"]), base) == "mine"


# What importing costs


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    source = str(Path(overrides.__file__).parent.parent)
    start = f"import sys; sys.path.insert(0, {source!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


LIGHT = ["errors", "names", "datasection", "recipe", "methodfile", "overrides", "yamlfile"]
FLOOR_1 = ["names", "noise", "darbn", "twopass", "inloop", "longtail", "samplers", "losses",
           "metrics", "schedules"]  # fmt: skip
CONVERTER = "conversion"
BLOCK = """
import importlib
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""
EXTRAS = ["torchvision", "sklearn", "pydantic", "yaml", "rich", "typer", "PIL", "safetensors",
          "matplotlib", "timm", "scipy"]  # fmt: skip


@pytest.mark.parametrize(("also", "expected"), [("", "False"), ("import torch\n", "True")])
def test_recipes_need_no_torch(also: str, expected: str) -> None:
    """Errors and recipes do not load torch; and this test sees it where it is loaded."""
    loaded = "".join(f"import purenoise.{module}\n" for module in LIGHT)
    work = "purenoise.recipe.load_recipe('digits', ['method=open+ldam']).digest()\n"
    assert run(f"{loaded}{work}{also}print('torch' in sys.modules)") == expected


def test_floor_1_needs_torch_and_numpy_alone() -> None:
    """The method's modules load where nothing but torch and numpy is installed."""
    names = [*FLOOR_1, CONVERTER]
    code = BLOCK.format(blocked=EXTRAS)
    code += f"for m in {names}: importlib.import_module('purenoise.' + m)\n"
    assert run(code + "print('loaded')") == "loaded"


def test_the_block_can_fail() -> None:
    """The block is seen by a module that needs what is blocked."""
    code = BLOCK.format(blocked=EXTRAS) + "import purenoise.recipe\n"
    assert "blocked: pydantic" in run(code + "print('loaded')")


def test_known_data_names_have_recipes() -> None:
    """Every data set with a name of its own has the recipe that ``data=`` picks."""
    for name in (*KNOWN_DATA, "torchvision:SVHN"):
        assert load_recipe(None, [f"data={name}"]).data.name == name


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a/list.txt", "train_list", "a/list.txt"),
        ("set.npz", "root", "set.npz"),
        ("hf:folder", "root", "folder"),
        ("photos.d", "root", "photos.d"),
    ],
)
def test_data_by_its_path_has_the_recipe_that_fits(text: str, key: str, value: str) -> None:
    """What a path looks like decides how it is read; the recipe of that kind is taken."""
    recipe = load_recipe(None, [f"data={text}"])
    assert getattr(recipe.data, key) == value
    assert recipe.name == recipe.data.name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data=torchvision:SVHM", "torchvision has no data set 'SVHM' for classification. Did you "
                                  "mean 'SVHN'?"),
        ("data=torchvision:CocoDetection", "torchvision:CocoDetection cannot be used: it is for "
                                           "detection"),
        ("data.train_list=a.txt", "train_list is for list, imagenet-lt, places-lt, inat2018 only, "
                                  "and name is digits"),
        ("data.decode=later", "decode is for list, imagenet-lt, places-lt, inat2018, celeba5 only, "
                              "and name is digits"),
    ],
)  # fmt: skip
def test_data_keys_that_do_not_fit_are_told(text: str, sentence: str) -> None:
    """A key that means nothing for a data set, and a set that is none, are one sentence each."""
    (fault,) = faults_of("digits", text)
    assert sentence in fault


def test_another_data_set_takes_no_lists_along() -> None:
    """Choosing other data drops what says where the first one lies."""
    given = ["data=a.txt", "data.test_list=b.txt"]
    assert load_recipe(None, given).data.test_list == "b.txt"
    base = load_recipe("list", ["data.train_list=a.txt"])
    assert load_recipe("list", ["data=photos"]).data.train_list is None
    assert base.digest() != load_recipe("list", ["data=b.txt"]).digest()


def test_new_keys_leave_old_hashes_alone() -> None:
    """A recipe without the newer keys has the hash that it had before they came."""
    content = load_recipe("digits").content()["data"]
    assert not {"decode", "download", "train_list", "sha256", "label_column"} & set(content)
    assert load_recipe("digits", ["download=false"]).digest() == load_recipe("digits").digest()
