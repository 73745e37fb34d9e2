"""The model card says what the run measured, and what nobody did."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import purenoise as pn
from purenoise.export.card import card_text
from purenoise.export.source import Finished, describe, load_finished

from .support import summary_of


def card_of(folder: Path, **changes: object) -> str:
    """Return the card of a run whose summary was changed."""
    found = load_finished(folder)
    found = Finished(found.folder, found.run, found.recipe, {**found.summary, **changes},
                     found.model)  # fmt: skip
    return card_text(found, describe(found, "nothing"))


def tables(card: str) -> dict[str, list[str]]:
    """Return all rows of a card's tables by their first cell."""
    rows = [[c.strip() for c in line.strip("| ").split(" | ")] for line in card.splitlines()
            if line.startswith("| ")]  # fmt: skip
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("name", ["erm", "torchvision"])
def test_numbers_are_those_of_the_summary(name: str, runs):
    """Overall, per group and per class, and the counts: each number is the run's own."""
    summary, rows = summary_of(runs[name]), tables(card_of(runs[name]))
    test = summary["test"]

    def percent(value: float | None) -> str:
        return "n/a" if value is None else format(100 * value, ".1f")

    assert rows["accuracy %"] == [percent(test["accuracy"])]
    assert rows["balanced accuracy %"] == [percent(test["balanced_accuracy"])]
    assert rows["calibration error \\(ECE\\) %"] == [percent(test["ece"])]
    for group in ("many", "medium", "few", "head", "mid", "tail"):
        assert rows[group][1] == percent(test["groups"][group])
    for c, class_name in enumerate(summary["class_names"]):
        row = rows[class_name.replace("_", "\\_")]
        assert row == [str(summary["counts"][c]), str(test["n_test"][c]),
                       percent(test["per_class"][c])]  # fmt: skip


def test_protocol_and_origin_are_said(runs):
    """Method, epochs, hashes, environment and command stand in it; no licence is made up."""
    card, summary = card_of(runs["erm"]), summary_of(runs["erm"])
    out = runs["erm"].parents[2]
    line = summary["command"].replace(f"out={out}", f"out={out.name}")
    for text in (summary["digest"], summary["fingerprint"], line, "- epochs: 2",
                 "- method: erm", "- which epoch: last epoch", "not measured",
                 "Licence: to be stated"):  # fmt: skip
        assert text in card
    assert str(summary["environment"]["python"]) in card


def test_adjusted_run_is_said_to_be_one(runs, tmp_path: Path):
    """The card of an adjusted run has its own numbers and names the adjustment."""
    run = shutil.copytree(runs["erm"], tmp_path / "run")
    adjusted = pn.adjust_run(run, "logit-adjustment")
    card = pn.export_run(adjusted.folder, "card").path.read_text()
    assert "adjusted by logit\\-adjustment" in card or "adjusted by logit-adjustment" in card
    after = format(100 * adjusted.metrics["balanced_accuracy"], ".1f")
    assert tables(card)["balanced accuracy %"] == [after]
    assert after != format(100 * adjusted.before["balanced_accuracy"], ".1f")


def test_markup_in_names_is_escaped(runs):
    """Class names that are Markdown or HTML, or turn a line around, are shown as they are."""
    names = ["<script>alert(1)</script>", "[x](javascript:x)", "a|b\n# c", "\u202eabc", "`d`",
             *"efghi"]  # fmt: skip
    card = card_of(runs["erm"], class_names=names, data="<img src=x onerror=y>")
    assert not re.search(r"(?<!\\)<(?!!-- purenoise)", card)
    assert "\\[x\\]\\(javascript:x\\)" in card
    assert "\u202e" not in card
    assert not re.search(r"^# c", card, re.MULTILINE)
    assert len([line for line in card.splitlines() if "a\\|b" in line and line[0] == "|"]) == 1


def test_without_test_images_it_says_so(runs):
    """A run without test images has counts and one sentence, no numbers."""
    card = card_of(runs["erm"], test=None)
    assert "nothing was measured" in card
    assert "accuracy %" not in tables(card)
    assert tables(card)["0"] == [str(summary_of(runs["erm"])["counts"][0])]
