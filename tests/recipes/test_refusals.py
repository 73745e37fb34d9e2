"""Mistakes in recipes, one plain sentence each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from purenoise import overrides
from purenoise.errors import RecipeError
from purenoise.methodfile import load_method
from purenoise.recipe import (
    Recipe,
    load_recipe,
)

from .support import faults_of, written


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
