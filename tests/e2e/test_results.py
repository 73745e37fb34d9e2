"""Tables of results: runs become rows once, and every number of the pages is in a row."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from results import page, rows
from scipy import stats

from purenoise.errors import RunError
from purenoise.recipe import load_recipe

from .support import SHORT, Command

ROOT = Path(__file__).parents[2]
WORDS = ("train", "digits", *SHORT)


def results(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m results`` from the root of the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "results", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def runs(command: Command, tmp_path: Path) -> Path:
    """Two methods with two seeds, two epochs each: four runs."""
    out = tmp_path / "runs"
    for method in ("drs", "open"):
        for seed in (0, 1):
            done = command(*WORDS, f"method={method}", f"seed={seed}", f"out={out}")
            assert done.code == 0, done.err
    return out


def summaries(out: Path) -> dict[tuple[str, int], dict]:
    """Return the summaries of all runs below a folder, by method and seed."""
    found = (json.loads(p.read_text()) for p in out.rglob("summary.json"))
    return {(s["method"], s["seed"]): s for s in found}


def test_runs_become_rows_once(runs: Path, tmp_path: Path) -> None:
    """Collecting writes one row per run with what it is read with; a second call adds none."""
    place = tmp_path / "tables"
    first = results("collect", runs, "--table", "toy", "--folder", place)
    assert first.returncode == 0, first.stderr
    assert "4 new of 4 runs, 4 in all" in first.stdout
    second = results("collect", runs, runs / "..", "--table", "toy", "--folder", place)
    assert "0 new of 4 runs, 4 in all" in second.stdout
    there = rows.read(place / "toy.csv")
    wanted = summaries(runs)
    assert {(r["method"], int(r["seed"])) for r in there} == wanted.keys()
    for row in there:
        summary = wanted[row["method"], int(row["seed"])]
        assert float(row["accuracy"]) == pytest.approx(summary["test"]["accuracy"], rel=1e-5)
        assert float(row["few"]) == pytest.approx(summary["test"]["groups"]["few"], rel=1e-5)
        assert row["digest"] == summary["digest"]
        assert row["subset_sha256"] == summary["subset_sha256"]
        assert (row["data"], row["ratio"], row["subset"]) == ("digits", "40", "ldam")
        assert (row["architecture"], row["augmentation"]) == ("small_cnn", "crop")
        assert (row["epochs"], row["batch"], row["selection"]) == ("2", "128", "last epoch")
        assert summary["environment"]["torch"] in row["versions"]
        assert "1 thread" in row["hardware"]
        assert str(tmp_path) not in ",".join(row.values())
        assert row["command"].startswith("purenoise train digits epochs=2")


def test_another_machine_adds_rows_and_another_protocol_is_refused(
    runs: Path, command: Command, tmp_path: Path
) -> None:
    """The key is recipe, seed, hardware and versions; a table holds one protocol."""
    rows.collect([runs], "toy", tmp_path)
    for path in runs.rglob("summary.json"):
        summary = json.loads(path.read_text())
        summary["environment"]["device"] = "Some GPU"
        del summary["sha256"]  # with which any change is refused
        path.write_text(json.dumps(summary))
    assert "4 new" in rows.collect([runs], "toy", tmp_path)[0]
    found = rows.read(tmp_path / "toy.csv")
    assert len(page.groups(found)) == 4  # each method on each machine, never mixed
    assert {r["hardware"] for r in found} >= {"Some GPU, 1 thread"}
    before = (tmp_path / "toy.csv").read_bytes()
    other = tmp_path / "other"
    assert command(*WORDS, "batch_size=64", "method=erm", f"out={other}").code == 0
    with pytest.raises(RunError, match="with batch 128 and 64"):
        rows.collect([other], "toy", tmp_path)
    done = results("collect", runs, other, "--table", "both", "--folder", tmp_path)
    assert done.returncode == 2
    assert "differ in more than their method" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "toy.csv").read_bytes() == before
    assert not (tmp_path / "both.csv").exists()


def test_unfinished_runs_are_named_and_left_out(runs: Path, tmp_path: Path) -> None:
    """A run without a summary is no row, and the reader is told."""
    gone = next(runs.rglob("summary.json"))
    gone.unlink()
    said = rows.collect([runs], "toy", tmp_path)
    assert "3 new" in said[0]
    assert said[1] == f"left out: {gone.parent}: it is not finished"


@pytest.mark.parametrize("name", ["../evil", "Capital", "", "a b"])
def test_a_table_has_a_plain_name(name: str, tmp_path: Path) -> None:
    """A table's name cannot lead out of the folder."""
    with pytest.raises(RunError, match="cannot be the name of a table"):
        rows.collect([tmp_path], name, tmp_path)


def test_a_file_that_is_no_table_is_left_alone(tmp_path: Path) -> None:
    """Rows are never appended to published numbers or to a file with other columns."""
    shutil.copy(page.PUBLISHED, tmp_path)
    with pytest.raises(RunError, match="is no table of runs"):
        rows.collect([tmp_path], "published", tmp_path)
    assert rows.read_all(tmp_path) == []


def test_labels_say_what_differs_from_the_recipe() -> None:
    """A changed delta is part of a method's name, whoever else is collected with it."""
    assert rows.variant(load_recipe("digits", ["method=open"])) == "open"
    assert rows.variant(load_recipe("digits", ["method=open", "delta=0.5"])) == "open:delta=0.5"
    assert rows.variant(load_recipe("digits", ["method=open", "defer=0.25"])) == "open:defer=0.25"
    recipe = load_recipe("digits", ["method=tau-norm", "tau=0.5"])
    assert rows.variant(recipe) == "tau-norm:tau=0.5"


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("purenoise train digits seed=1 out=/home/me/runs", "purenoise train digits seed=1"),
        (
            "purenoise train data=/home/me/photos method=drs",
            "purenoise train data=photos method=drs",
        ),
        ("purenoise train cifar10-lt data.root=/data", "purenoise train cifar10-lt"),
    ],
)
def test_commands_name_no_place(command: str, kept: str) -> None:
    """What is published does not say where files lie on one machine."""
    assert rows.without_places(command) == kept


# The committed pages --------------------------------------------------------------------------


def test_pages_are_what_the_rows_give() -> None:
    """docs/results.md and the README hold what ``python -m results write`` writes."""
    ours, others = rows.read_all(), page.published()
    for path, text in (
        (page.PAGE, page.leaderboards(ours, others)),
        (page.README, page.readme_table(ours, others)),
    ):
        committed = path.read_text(encoding="utf-8")
        assert page.filled(committed, text) == committed, f"{path.name}: python -m results write"


def _rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_number_of_the_page_is_in_a_row() -> None:
    """Each accuracy is a published one with its source, or mean and interval of our rows."""
    theirs = {(r["method"], r["accuracy"], r["source"]) for r in _rows_of(page.PUBLISHED)}
    tables = [p for p in rows.HERE.glob("*.csv") if p.name != "published.csv"]
    ours = {}
    for row in (row for path in tables for row in _rows_of(path)):
        key = row["table"], row["hardware"], row["versions"], row["method"]
        ours.setdefault(key, []).append(100 * float(row[page.headline(row)]))
    wanted = set()
    for (table, _, _, method), values in ours.items():
        shown = f"{np.mean(values):.1f}"
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
            shown += f" ± {half:.1f}"
        wanted.add((f"**`{method}`**", f"**{shown}**", str(len(values)), f"ours, `{table}`"))
    text = page.PAGE.read_text(encoding="utf-8")
    boards = re.findall(
        r"\| method \| (?:balanced )?accuracy.*?\n\|---.*?\n(.*?)\n\n", text + "\n\n", re.DOTALL
    )
    lines = [line.strip("| ").split(" | ") for board in boards for line in board.splitlines()]
    assert len(lines) == len(_rows_of(page.PUBLISHED)) + len(wanted)
    for method, accuracy, seeds, _, _, source in lines:
        if source.startswith("ours"):
            assert (method, accuracy, seeds, source) in wanted
        else:
            published = accuracy.partition(" ")[0]
            assert any(
                (method, published, s) in theirs for _, _, s in theirs if source.startswith(s)
            )


def test_published_numbers_say_how_they_were_made() -> None:
    """Every published number has a source, a network, an augmentation and what else is known."""
    found = _rows_of(page.PUBLISHED)
    assert len({tuple(row.values()) for row in found}) == len(found)
    for row in found:
        assert all(row[k] for k in row if k not in ("spread", "note")), row
        assert 0 < float(row["accuracy"]) < 100
        assert row["seeds"] == "not stated" or int(row["seeds"]) > 0


def test_a_page_says_what_is_not_one_protocol() -> None:
    """Rows that were chosen in another way, or do not say, are named under their table."""
    others = [r for r in page.published() if r["architecture"] == "resnet32"]
    text = page.leaderboards([], others)
    assert "epoch that counts - last epoch: reproduction (MLRC 2022); best test epoch" in text
    assert "Ours: not yet measured" in text
    alone = [r for r in others if r["source"] == "Cao et al. 2019"]
    assert "Not one protocol" not in page.leaderboards([], alone)


def test_ours_stand_among_the_published(runs: Path, tmp_path: Path) -> None:
    """Rows of ours give mean, interval, groups, the exact command and the difference to DRS."""
    rows.collect([runs], "toy", tmp_path)
    ours = rows.read_all(tmp_path)
    text = page.leaderboards(ours, [])
    by = {key: s["test"]["accuracy"] for key, s in summaries(runs).items()}
    gains = [by["open", seed] - by["drs", seed] for seed in (0, 1)]
    assert "| minus `drs`, seed by seed | points | 95 % interval | p | least p |" in text
    row = re.escape(f"| `open` | {100 * np.mean(gains):+.2f} | ") + r".* to .* \| .* \| 0\.5 \|"
    assert re.search(row, text)
    assert f"{100 * np.mean([by['open', s] for s in (0, 1)]):.1f} ±" in text
    assert "\npurenoise train digits epochs=2" in text
    assert "\nTable `toy`, seeds 0, 1, subset SHA-256 " in text
    assert "(optimistic)" not in text  # with one look there is no best one
    assert "looked at after the last epoch alone" in text
    looked = page.leaderboards([{**row, "every": "1"} for row in ours], [])
    assert "(optimistic)" in looked
    assert "looked at after each epoch; the best" in looked


def test_the_readme_table_takes_ours_when_they_are_there() -> None:
    """Once there are rows of CIFAR-10-LT, the README's cells hold mean, interval and n."""
    like = dict.fromkeys(rows.COLUMNS, "")
    like |= {"data": "cifar10", "ratio": "100", "architecture": "resnet32", "subset": "ldam",
             "augmentation": "flip-crop", "method": "open", "table": "t"}  # fmt: skip
    ours = [like | {"seed": str(i), "accuracy": a} for i, a in enumerate(["0.77", "0.79"])]
    (line,) = [
        line
        for line in page.readme_table(ours, page.published()).splitlines()
        if line.startswith("| ResNet-32 (flip, crop), ours")
    ]
    half = stats.t.ppf(0.975, 1) * stats.sem([77.0, 79.0])
    none = page.NONE
    assert line.endswith(f"| {none} | {none} | 78.0 ± {half:.1f} (n = 2) |")


def test_a_page_without_marks_is_refused() -> None:
    """Writing never guesses where a table belongs."""
    with pytest.raises(RunError, match="has no marks"):
        page.filled("# Results\n", "text")
