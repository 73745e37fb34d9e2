"""A page that is passed on says what its methods are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from purenoise.cli import app
from purenoise.lab.comparison import analyse
from purenoise.lab.records import read_records
from purenoise.methodfile import METHODS, known_methods
from purenoise.recipe import load_recipe
from purenoise.report.methodheads import methods_said
from purenoise.report.overview import summary_section
from purenoise.yamlfile import head_sentence

from ..fakeruns import fake_run


def said(root: Path, *methods: str) -> list[str]:
    """Return what a report of these methods says that they are."""
    for i, method in enumerate(methods):
        fake_run(root / str(i), method, 0, 1 + i / 10, epochs=1)
    comparison = analyse(read_records([root])[0])
    found = methods_said(comparison)
    assert found in summary_section(comparison).parts
    return list(found.items)


def test_each_method_has_the_first_sentence_of_its_file(tmp_path):
    """Methods are said in the order of the page, as `purenoise recipes list` says them."""
    assert said(tmp_path, "erm", "drs", "open") == [
        "erm: Plain training: every image once per epoch, cross-entropy.",
        "drs: Deferred resampling: plain training, then class-balanced sampling from the first "
        "drop of the learning rate.",
        "open: OPeN with DAR-BN: plain training; from the first drop of the learning rate on "
        "class-balanced sampling in which a drawn image of class i becomes noise with probability "
        "(1 - n_i/n_max) delta.",
    ]


def test_sentences_are_those_of_the_list():
    """The report and `purenoise recipes list` say the same of every method."""
    listed = " ".join(CliRunner().invoke(app, ["recipes", "list"]).output.split())
    for method in known_methods():
        head = head_sentence(METHODS / f"{method}.yaml")
        assert f"{method} {' '.join(head.split())}" in listed


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (
            "# Sets of Liu et al. (2019), as\n# they are. More.\n",
            "Sets of Liu et al. (2019), as they are.",
        ),
        ("# One. Two.\nkey: 1\n", "One."),
        ("# Ratio 0.5 of all\n", "Ratio 0.5 of all."),
    ],
)  # fmt: skip
def test_the_first_sentence_ends_at_its_end(tmp_path, text, first):
    """A full stop of an abbreviation or a number ends no sentence."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert head_sentence(path) == first


@pytest.mark.parametrize(
    ("method", "first", "others"),
    [
        ("open+balanced-softmax", "Sampler and noise of open, loss and class weights of "
         "balanced-softmax.", ["open", "balanced-softmax"]),
        ("deferred-mixup", "Plain training first, mixup from the second phase on.", ["mixup"]),
        ("rs+deferred-mixup", "Sampler and noise of rs, loss and class weights of "
         "deferred-mixup, mixing of deferred-mixup.", ["rs", "deferred-mixup", "mixup"]),
        ("deferred-tau-norm", "The same as tau-norm, which comes after training.", ["tau-norm"]),
        ("drs+tau-norm", "Sampler and noise of drs, loss and class weights of tau-norm, "
         "adjustment of tau-norm.", ["drs", "tau-norm"]),
        ("rs+crt", "Sampler and noise of rs, loss and class weights of crt, training of the last "
         "layer of crt.", ["rs", "crt"]),
    ],
)  # fmt: skip
def test_combinations_say_their_parts(tmp_path, method, first, others):
    """A combination says what it is put together from, and its parts are said once each."""
    found = said(tmp_path, method)
    assert found[0] == f"{method}: {first}"
    assert [text.partition(":")[0] for text in found[1:]] == others


def test_a_method_of_ones_own_is_no_riddle(tmp_path):
    """A method that is written out in a recipe has no head, and is said to be so."""
    run = fake_run(tmp_path / "a", "erm")
    text = (run / "recipe.yaml").read_text()
    own = "method: {loss: {name: focal}, phases: [{start: begin, sampler: square-root}]}"
    lines = [own if line.startswith("method:") else line for line in text.splitlines()
             if not line.startswith("digest:")]  # fmt: skip
    (run / "recipe.yaml").write_text("\n".join(lines) + "\n")
    recipe = load_recipe(str(run / "recipe.yaml"))
    (run / "recipe.yaml").write_text(recipe.to_yaml() + f"digest: {recipe.digest()}\n")
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"digest": recipe.digest()}))
    found = methods_said(analyse(read_records([tmp_path])[0])).items
    assert found == (f"{recipe.method_name()}: Written out in the recipe; its phases are below.",)
