"""What `python -m pages write` makes is what lies in docs/, and it is made of what it says."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Literal

import pytest
from pages import api, measured, pitfalls, written
from pages.__main__ import main
from results.rows import row_of

import purenoise as pn
from purenoise.errors import RunError
from purenoise.keyhelp import MEANINGS, PHASE_MEANINGS, key_table, phase_table
from purenoise.lab.records import read_records
from purenoise.methodfile import PhaseSpec
from purenoise.overrides import parse_overrides, whole_keys
from purenoise.recipe import Recipe, load_recipe

from .e2e.support import Command


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Command:
    """Return the command, with ``tmp_path`` as its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Command(monkeypatch, capsys)


def test_pages_are_what_is_written():
    """Schema, docstrings and rows give the pages that lie there."""
    for path, text in written.made().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: python -m pages write"


def test_writing_again_changes_nothing_and_mends_what_was_changed(tmp_path, monkeypatch, capsys):
    """The command writes pages that differ, and only those."""
    for path in written.DOCS.glob("*.md"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(written, "DOCS", tmp_path)
    assert main(["write"]) == 0
    assert "All pages were what they should be." in capsys.readouterr().out
    page = tmp_path / "recipes.md"
    right = page.read_text(encoding="utf-8")
    page.write_text(right.replace("| `train.lr` | `lr` |", "| `train.lr` | `rate` |"), "utf-8")
    assert main(["write"]) == 0
    assert capsys.readouterr().out == "wrote docs/recipes.md\n"
    assert page.read_text(encoding="utf-8") == right


def test_a_page_without_marks_and_missing_runs_are_sentences(tmp_path, capsys):
    """Mistakes are one message and exit code 2; no rows are lost."""
    with pytest.raises(RunError, match="no marks"):
        written.filled("<!-- keys: begin -->", "keys", "")
    before = measured.ROWS.read_bytes()
    assert main(["collect", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pages: ")
    assert "Traceback" not in said
    assert measured.ROWS.read_bytes() == before


# Keys --------------------------------------------------------------------------------------------


def test_every_key_has_a_meaning_and_no_other_has():
    """All keys of the schema are explained, and nothing that is not there."""
    for table, meanings in ((key_table(), MEANINGS), (phase_table(), PHASE_MEANINGS)):
        assert set(meanings) <= {key.name for key in table}
        assert all(key.meaning and key.values for key in table)


def test_short_names_mean_their_keys():
    """What the table calls the short name is resolved to the whole key."""
    for key in key_table():
        assert whole_keys(parse_overrides([f"{key.short}=1"], []), Recipe) == {key.name: "1"}


def test_defaults_of_the_table_are_those_of_the_schema():
    """Typing every default changes nothing; each phase's default is what an empty phase has."""
    texts = [f"{key.name}={key.default}" for key in key_table() if key.default]
    assert len(texts) > 40
    found = load_recipe("digits", texts)
    assert found == Recipe(options=found.options)
    phase = PhaseSpec()
    for key in phase_table():
        value = getattr(phase, key.name)
        assert key.default == ("" if value is None else str(value))


def test_bounds_of_the_table_are_those_of_the_schema():
    """What stands as the end of a range is refused or allowed as it says."""
    bounds = {key.name: key.values for key in key_table()}
    assert bounds["data.val_fraction"] == "number from 0 on, below 1"
    assert bounds["seed"] == "whole number from 0 on, below 2^32"
    assert bounds["threads"] == "whole number from 1 on or `auto`"
    assert bounds["model.train"] == "`full`, `last-block`, `head`"
    load_recipe("digits", ["val_fraction=0", "seed=4294967295", "threads=1", "model.train=head"])
    for wrong in ("val_fraction=1", "seed=4294967296", "threads=0", "model.train=tail"):
        with pytest.raises(pn.PureNoiseError):
            load_recipe("digits", [wrong])


def test_keys_can_be_looked_up(command):
    """`recipes keys` lists those that have all words; a word that none has gets the nearest key."""
    everything = command("recipes", "keys").out
    assert all(key.name in everything for key in key_table())
    assert "`" not in everything
    out = command("recipes", "keys", "weight", "decay").out
    assert "train.weight_decay" in out
    assert "options.head_decay" in out
    assert "train.lr" not in out
    assert "Did you mean 'momentum'?" in command.refused("recipes", "keys", "momentun")
    assert "lists all of them" in command.refused("recipes", "keys", "zzz")


# API ---------------------------------------------------------------------------------------------


def test_every_public_name_is_in_the_reference():
    """The groups of the page hold each public name once."""
    names = list(itertools.chain(*api.GROUPS.values()))
    assert sorted(names) == sorted(set(pn.__all__) - {"__version__"})
    page = api.page()
    for name in names:
        assert f"\n### pn.{name}\n" in page


def test_docstrings_become_markdown():
    """Sections become lists and blocks, references code, and prose after a section stays prose."""
    doc = """Do a thing.

Longer, with :class:`purenoise.PureNoise` and ``code``.

Args:
    first: One
        and a half.
    **others: Of :func:`f`.

Raises:
    DataError: If
        not.

Example:
    >>> 1 + 1
    2

Then prose.

Source: A paper.
    Its equation 2.
"""
    assert (
        api.markdown(doc)
        == """\
Do a thing.

Longer, with `PureNoise` and `code`.

Args:

- `first`: One and a half.
- `**others`: Of `f`.

Raises:

- `DataError`: If not.

```pycon
>>> 1 + 1
2
```

Then prose.

Source: A paper. Its equation 2.
"""
    )


def test_signatures_stand_as_they_are_written():
    """Keyword-only arguments are marked, and annotations are not quoted."""

    def short(a: int, *rest: str, b: Literal["x"] | None = None) -> int:
        """Do nothing."""
        return a

    def keyword(a, *, b=1):
        """Do nothing."""

    assert (
        api.signature("f", short) == "f(a: int, *rest: str, b: Literal['x'] | None = None) -> int"
    )
    assert api.signature("g", keyword) == "g(a, *, b=1)"


# Measured ----------------------------------------------------------------------------------------


def test_rows_are_of_the_recipes_as_they_are():
    """Every row was made by the line that the page names, with the recipe of today."""
    rows = measured.read()
    methods = [m for line in measured.COMMANDS for m in _methods(line)]
    assert len(rows) == 10 * len(methods)
    changes = {variant: m.split(":") for variant, m in
               zip(measured.METHODS, _methods(measured.COMMANDS[0]), strict=True)}  # fmt: skip
    for row in rows:
        name, *keys = changes[row["method"]]
        every = ["eval.every=1"] if row["looks"] == "60" else []
        recipe = load_recipe("digits", [f"method={name}", f"seed={row['seed']}", *keys, *every])
        assert recipe.digest() == row["digest"], row["method"]


def _methods(line: str) -> list[str]:
    (words,) = (w for w in line.split() if w.startswith("methods="))
    return words.removeprefix("methods=").split(",")


def test_sentences_of_the_page_are_what_the_rows_give():
    """A plain recomputation from the rows finds the same numbers."""
    found = {m: measured.column(measured.read(), "accuracy", m) for m in ("open", "drs")}
    gaps = [a - b for a, b in zip(found["open"], found["drs"], strict=True)]
    trios = [statistics.fmean(t) for t in itertools.combinations(gaps, 3)]
    text = pitfalls.seeds()
    assert f"{statistics.fmean(gaps):+.2f} points (" in text
    assert f"all {len(trios)} ways" in text
    assert f"between {min(trios):+.2f} and {max(trios):+.2f} points" in text
    assert f"{100 * sum(t < 0 for t in trios) / 120:.0f} % of them" in text
    last, best = (
        measured.column(measured.read(), c, "erm", 60) for c in ("accuracy", "optimistic")
    )
    gain = statistics.fmean(b - a for a, b in zip(last, best, strict=True))
    assert f"| `erm` | {statistics.fmean(last):.1f} ± " in pitfalls.best_epoch()
    assert f"+{gain:.1f} ± " in pitfalls.best_epoch()


def test_a_row_is_what_its_run_gives(tmp_path: Path):
    """Accuracy with the training's shares, and after adjustment, from a run's own predictions."""
    import numpy as np

    run = pn.train("digits", method="erm", epochs=2, threads=1, out=str(tmp_path))
    (record,), _ = read_records([tmp_path])
    row = measured._row(record)
    kept = np.load(run.folder / "predictions.npz")
    logits, labels = kept["logits"], kept["labels"]
    counts = np.array(run.summary["counts"])
    weights = (counts / counts.sum() / np.bincount(labels))[labels]
    right = logits.argmax(1) == labels
    assert float(row["as_trained"]) == pytest.approx(weights[right].sum(), abs=1e-5)
    shifted = (logits - np.log(counts / counts.sum())).argmax(1) == labels
    assert float(row["adjusted"]) == pytest.approx(shifted.mean(), abs=1e-5)
    assert row["looks"] == "1"
    assert row["accuracy"] == row_of(record, "x")["accuracy"]
    assert not (run.folder / "adjusted").exists()


@pytest.mark.long
def test_the_lines_of_the_page_give_such_numbers(command, tmp_path):
    """Two seeds of each line, trained anew, are within three points of the kept rows."""
    for line, looks in zip(measured.COMMANDS, (6, 60), strict=True):
        words = line.replace("seeds=10", "seeds=2").split()[1:]
        assert command(*words, "jobs=1", f"out={tmp_path / str(looks)}").code == 0
        records, _ = read_records([tmp_path / str(looks)])
        for record in records:
            row = measured._row(record)
            kept = measured.column(measured.read(), "accuracy", row["method"], looks)
            assert 100 * float(row["accuracy"]) == pytest.approx(kept[record.seed], abs=3.0)
