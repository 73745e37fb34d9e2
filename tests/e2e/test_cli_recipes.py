"""Inspecting data, recipes on the command line, and `doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .support import (
    SHORT,
    Command,
    make_images,
)


def test_inspect_digits(command: Command):
    """`inspect digits` shows counts, the ratio, the subset's hash and advice."""
    result = command("inspect", "digits")
    assert result.code == 0
    for text in ("imbalance ratio", "41.33", "subset sha256", "advice:", "Gini"):
        assert text in result.out
    found = json.loads(command("inspect", "digits", "--json").out)
    assert [row["train"] for row in found["classes"]][:2] == [124, 82]
    assert found["classes"][0]["noise"] == 0
    assert found["classes"][9]["noise"] == pytest.approx((1 - 3 / 124) / 3)


def test_inspect_folder_tells_faults_and_duplicates(command: Command):
    """`inspect FOLDER` counts classes and names broken files and duplicates."""
    root = make_images(Path("tree"), {"a": 10, "b": 5})
    (root / "a" / "bad.jpg").write_text("text")
    (root / "b" / "copy.png").write_bytes((root / "b" / "000.png").read_bytes())
    result = command("inspect", root)
    assert result.code == 0
    flat = " ".join(result.out.split())
    assert "a/bad.jpg" in flat
    found = json.loads(command("inspect", root, "--json").out)
    assert found["facts"]["unusable files"] == 1
    assert found["facts"]["groups of identical files"] == 1
    assert sum(row["train"] + row["test"] for row in found["classes"]) == 16


def test_recipes_list_show_copy_check(command: Command):
    """Recipes can be listed, shown with changes, copied once, and checked."""
    listed = command("recipes", "list").out
    assert "digits" in listed
    assert "ldam-drw" in listed
    shown = command("recipes", "show", "digits", "epochs=7").out
    assert shown.startswith("# scikit-learn's handwritten digits")
    assert "epochs: 7" in shown
    assert command("recipes", "copy", "digits", "mine.yaml").code == 0
    before = Path("mine.yaml").read_bytes()
    assert "exists" in command.refused("recipes", "copy", "digits", "mine.yaml")
    assert Path("mine.yaml").read_bytes() == before
    assert "is fine" in command("recipes", "check", "mine.yaml").out
    assert command("train", "mine.yaml", *SHORT).code == 0
    assert [p.name[:4] for p in Path("runs").iterdir()] == ["mine"]


def test_recipes_show_a_method(command: Command):
    """`recipes show METHOD` prints the method's file with its head."""
    shown = command("recipes", "show", "drs")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith("# Deferred resampling")
    assert "phases:" in shown.out


def test_recipes_check_names_what_cannot_be_built(command: Command):
    """`recipes check` refuses a recipe whose policy and model do not exist, naming both."""
    message = command.refused("recipes", "check", "digits", "augment=foo", "model=resnet19")
    assert "2 faults" in message
    assert "'foo'" in message
    assert "'resnet19'" in message


def test_doctor_says_what_is_here(command: Command):
    """`doctor` names versions, cores, data sets, disk and write access."""
    result = command("doctor")
    for text in ("torch", "torchvision", "cores", "cifar10", "free disk", "write access"):
        assert text in result.out
    assert result.code == (2 if "BAD" in result.out else 0)
