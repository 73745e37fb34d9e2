"""The README says what is so: the snippet runs, tables come from rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image
from results import digits
from results.rows import read

from purenoise.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]


def test_loop_snippet_runs(tmp_path, monkeypatch):
    """The fifteen lines for one's own loop train a model on a folder."""
    generator = np.random.default_rng(0)
    for name, n in (("cat", 40), ("dog", 8)):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for i in range(n):
            pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert type(scope["model"].bn1).__name__ == "BatchNorm2d"
    assert np.isfinite(float(scope["loss"].detach()))
    assert len(scope["logits"]) == len(scope["labels"])


def test_digits_table_comes_from_the_rows():
    """The table in the README is what the committed rows give."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = text.split(digits.BEGIN)[1].split(digits.END)[0].strip()
    assert inside == digits.table(digits.results())


def test_digits_rows_are_complete():
    """Every method has every seed, once."""
    found = digits.results()
    assert {m: len(c["accuracy"]) for m, c in found.items()} == dict.fromkeys(digits.METHODS, 10)


def test_digits_figure_comes_from_the_rows(tmp_path, monkeypatch):
    """Drawing the rows again gives the committed figure's bars."""
    monkeypatch.setattr(digits, "FIGURE", tmp_path / "digits.svg")
    committed = (ROOT / "docs" / "images" / "digits.svg").read_text(encoding="utf-8")
    digits.draw(digits.results())
    drawn = (tmp_path / "digits.svg").read_text(encoding="utf-8")

    def bars(svg):
        return len(re.findall(r'id="patch_\d+"', svg)), re.findall(r">(.*OPeN.*)<", svg)

    assert bars(drawn) == bars(committed)


def test_commands_in_readme_exist():
    """Every `purenoise VERB` in the README is a command."""
    from purenoise.cli import app

    known = {c.name or c.callback.__name__ for c in app.registered_commands} | {"recipes"}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(re.findall(r"(?:^|`|&& )purenoise ([a-z]+)", text, re.MULTILINE))
    assert used
    assert used <= known


def test_recorded_runs_are_of_the_recipe_as_it_is():
    """The rows were made with the digits recipe of today, not with an older one."""
    rows = read(digits.ROWS)
    assert rows
    for row in rows:
        recipe = load_recipe("digits", [f"method={row['method']}", f"seed={row['seed']}"])
        assert row["digest"] == recipe.digest()
