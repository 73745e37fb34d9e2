"""What a report's captions say of seeds, tests and losses is true of the runs that it shows."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.intervals import EXACT_SEEDS, FLIPS
from purenoise.lab.records import read_records
from purenoise.report.behaviour import optimistic_section
from purenoise.report.csvfile import to_csv
from purenoise.report.document import Document, Figure, Pictures, Sentences, Table
from purenoise.report.overview import main_table
from purenoise.report.page import build
from purenoise.report.pictures import _examples
from purenoise.report.provenance import notes_section

from ..fakeruns import fake_run, fake_runs, uneven_runs


def read(root: Path) -> Comparison:
    """Compare the runs below a folder."""
    return analyse(read_records([root])[0])


def captions(document: Document) -> str:
    """Return all captions of a report."""
    return "\n".join(
        part.caption for section in document.sections for part in section.parts
        if isinstance(part, Table | Figure | Pictures)
    )  # fmt: skip


def notes(document: Document) -> str:
    """Return all points of the notes."""
    (found,) = [s for s in document.sections if s.key == "notes"]
    return "\n".join(i for p in found.parts if isinstance(p, Sentences) for i in p.items)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """Return the report of three methods with one seed each."""
    root = fake_runs(tmp_path_factory.mktemp("one"), {"drs": 1.0, "erm": 0.7, "open": 1.5}, (0,))
    return build(read(root))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """Return the report of two methods with three seeds each."""
    return build(read(fake_runs(tmp_path_factory.mktemp("more"), {"drs": 1.0, "open": 1.5})))


def test_one_seed_is_no_mean_and_no_test(single, several):
    """With one seed no caption speaks of what only several seeds have; with several they do."""
    for words in (
        "over seeds", "sign-flip", "Large marks", "All seeds", "seed by seed", "intervals",
        "p is corrected", "of the 1 seed",
    ):  # fmt: skip
        assert words not in captions(single), words
        assert (words in captions(several)) == (words != "of the 1 seed"), words
    assert "Intervals and tests are over seeds" not in notes(single)
    assert "Intervals and tests are over seeds" in notes(several)


def test_pictures_of_one_seed_are_not_sorted_by_seeds(tmp_path):
    """Examples of what changed sides speak of the seeds only where there are several."""
    test = SimpleNamespace(labels=np.zeros(3, int))
    data = SimpleNamespace(dataset=SimpleNamespace(class_names=tuple("abcd"), test=test))
    for seeds in ((0,), (0, 1)):
        (d,) = read(fake_runs(tmp_path / str(seeds), {"drs": 1.0, "open": 1.5}, seeds)).differences
        (said,) = _examples(d, 0, 0.1, (np.zeros(3, int), [], []), data).items
        assert ("with most of the 2 seeds first" in said) == (len(seeds) == 2)
        assert "1 seed" not in said


@pytest.mark.parametrize(
    ("seeds_a", "seeds_b", "expected"),
    [
        (3, 3, "p: exact sign-flip test; after"),
        (18, 18, f"p: sign-flip test of {FLIPS:,} drawn flips; after"),
        (18, 3, f"p: sign-flip test, exact up to {EXACT_SEEDS} seeds, beyond of {FLIPS:,} drawn"),
    ],
)
def test_p_of_many_seeds_is_not_called_exact(tmp_path, seeds_a, seeds_b, expected):
    """From 18 seeds on not all sign flips are looked at, and the main table says so."""
    fake_runs(tmp_path, {"drs": 1.0, "open": 1.5}, range(seeds_a), epochs=1, per_class=5)
    fake_runs(tmp_path, {"erm": 0.8}, range(seeds_b), epochs=1, per_class=5)
    assert expected in main_table(read(tmp_path)).caption


def test_one_seed_in_common_has_no_p(tmp_path):
    """Methods with several seeds of which they share one have means, and no test."""
    for seed in (0, 1):
        fake_run(tmp_path / f"a{seed}", "drs", seed, 1.0)
        fake_run(tmp_path / f"b{seed}", "open", seed + 1, 1.5)
    caption = main_table(read(tmp_path)).caption
    assert "mean over seeds" in caption
    assert "Over one seed in common that has no interval and no p." in caption
    assert "sign-flip" not in caption


def test_losses_of_methods_are_not_to_be_compared(single, tmp_path):
    """The curves of several methods come with that warning; those of one method do not."""
    assert "Losses of different methods cannot be compared" in captions(single)
    fake_run(tmp_path / "a", "open", 0)
    alone = captions(build(read(tmp_path)))
    assert "Losses of different" not in alone
    assert "Only the last epoch counts" in alone


def test_what_was_gained_by_looking_adds_up(tmp_path):
    """Best, last and gain of each row are shown so that they add up, however they are rounded."""
    for i, (method, gain) in enumerate({"erm": 0.0004, "drs": 0.00044, "open": 0.0}.items()):
        for seed in (0, 1, 2):
            run = fake_run(tmp_path / f"{i}{seed}", method, seed, 1.0 + i / 7, per_class=7 + 1)
            text = (run / "summary.json").read_text()
            last = float(re.search(r'"accuracy": ([\d.]+)', text[text.index('"test"') :])[1])
            best = f'"optimistic_best_on_test": {{"accuracy": {last + gain}'
            text = re.sub(r'"optimistic_best_on_test": \{"accuracy": [\d.]+', best, text)
            (run / "summary.json").write_text(text)
    section = optimistic_section(read(tmp_path))
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    for row in table.rows:
        best, last, gain = (cell.text for cell in row[1:])
        assert float(gain) == round(float(best) - float(last), 2)
    assert [row[3].text for row in table.rows if row[0].text == "open"] == ["+0.00"]
    assert any(float(row[3].text) for row in table.rows)


def test_it_is_said_once_what_the_numbers_hold_for(single, several, tmp_path):
    """That another subset or test set may change everything is one point of the notes."""
    fake_run(tmp_path / "a", "open", 0)
    for document in (single, several, build(read(tmp_path))):
        points = [line for line in notes(document).splitlines() if "test set" in line]
        assert len(points) == 1
        assert "subset" in points[0]
        assert "thirds of the classes" in notes(document)
    assert notes_section(read(tmp_path)).parts


def test_one_method_has_no_differences_to_speak_of(tmp_path):
    """Several seeds of one method have a mean with its interval, and no word on a comparison."""
    found = read(fake_runs(tmp_path, {"drs": 1.0}))
    table = main_table(found)
    assert table.columns == ("method", "seeds", "accuracy %")
    assert "mean over seeds with its 95 % interval. These intervals" in table.caption
    said = captions(build(found))
    for word in ("difference", "in common", "sign-flip", "p after"):
        assert word not in said.replace("difference curve", ""), word


def test_no_seed_in_common_is_no_difference(tmp_path):
    """Methods without a common seed stand side by side; nothing is called a difference."""
    fake_runs(tmp_path, {"drs": 1.0}, seeds=(0, 1))
    found = read(fake_runs(tmp_path, {"open": 1.5}, seeds=(2,)))
    assert found.differences == ()
    assert "difference" not in main_table(found).caption
    assert "in common" not in notes(build(found))


def test_balanced_accuracy_is_said_wherever_it_counts(tmp_path):
    """Holm's p is beside the metric it is of; single runs show both; a pair is of accuracy."""
    uneven_runs(tmp_path)
    found = read(tmp_path)
    lines = [line.split(",") for line in to_csv(found).splitlines()]
    at = {name: i for i, name in enumerate(lines[0])}
    holm = {line[at["metric"]]: line[at["p_holm"]] for line in lines
            if line[at["what"]] == "difference"}  # fmt: skip
    (d,) = found.differences
    assert float(holm["balanced accuracy"]) == pytest.approx(d.p_holm)
    assert holm["accuracy"] == ""
    runs = next(s for s in build(found).sections if s.key == "runs")
    (table,) = [part for part in runs.parts if isinstance(part, Table)]
    assert table.columns[2:4] == ("balanced accuracy %", "accuracy %")
    pair = build(read_pair(tmp_path, "erm", "open"))
    heads = [part.columns for s in pair.sections for part in s.parts if isinstance(part, Table)]
    assert any("difference in accuracy, points" in head for head in heads)


def read_pair(root: Path, *methods: str) -> Comparison:
    """Compare one run of each of two methods."""
    return analyse(read_records([root / method / "seed-0" for method in methods])[0])


def test_a_page_names_no_cache_of_this_machine(tmp_path):
    """Notes on where decoded images lie are no part of a page; others keep names of files."""
    told = ["Decoded images are kept in '/home/eve/cache'.", "3 files of /home/eve/photos skipped."]
    fake_runs(tmp_path, {"drs": 1.0, "open": 1.5}, notes=told)
    page = repr(build(read(tmp_path)))
    assert "kept in" not in page
    assert "/home/eve" not in page
    assert "3 files of photos skipped." in page
