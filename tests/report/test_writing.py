"""Where a report is written, by which words, and what it never overwrites."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from purenoise.errors import DataError, RunError
from purenoise.lab.comparison import analyse
from purenoise.lab.records import read_records
from purenoise.report import report_runs, write_report
from purenoise.report.command import report_words
from purenoise.report.figures import SERIES, draw
from purenoise.report.markdown import escape
from purenoise.report.write import report_place, write_run_report

from ..fakeruns import fake_run
from .support import make


def test_same_runs_same_page(root, tmp_path, files):
    """A report made again is the same, byte for byte, whatever was drawn before."""
    make(root / "erm", out=tmp_path / "other.html")
    make(root, out=tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == files[0]


def test_colours_are_variables(files):
    """No colour is left in a drawing that would not change with the page."""
    drawings = re.findall(r"<svg.*?</svg>", files[0], re.S)
    assert not any(re.search(r"#[0-9a-f]{6}\b", d) for d in drawings)
    for i in range(len(SERIES)):
        assert files[0].count(f"--s{i}:") == 3  # light, dark, print


def test_a_drawing_takes_any_text():
    """Mathematics, markup and letters that no font has are drawn as text, without a warning."""
    odd = "$x$ <b> \U0001f40d \u05d0 {0}"
    figure = draw("t", "T <i>", "D", "C", 1.0, lambda d: d.subplots().set_title(odd))
    assert "$x$ &lt;b&gt; \U0001f40d \u05d0 {0}" in figure.svg
    assert "T &lt;i&gt;" in figure.svg


def test_markdown_escapes():
    """What means something in Markdown is shown as it is, on one line."""
    assert escape("a|b\n<c> *d* [e](f)") == r"a\|b \<c\> \*d\* \[e\]\(f\)"


def test_words_of_the_command(tmp_path, monkeypatch):
    """Folders and options are told apart, also where a folder's name has an equals sign."""
    monkeypatch.chdir(tmp_path)
    Path("lr=0.1").mkdir()
    assert report_words(["lr=0.1", "out=a.html", "no_class=x"]) == (
        ["lr=0.1"], {"out": "a.html", "no_class": "x"},
    )  # fmt: skip
    for words, message in (
        (["a", "bseline=drs"], "Unknown option 'bseline'"),
        (["out=a.html"], "No run was named"),
        (["a", "mixed=perhaps"], "mixed=perhaps cannot be read"),
        (["a", "out="], "out= has no value"),
        (["a", "out=b.html", "out=c.html"], "out= is given twice"),
    ):
        with pytest.raises(RunError, match=re.escape(message)):
            report_words(words)


def test_where_the_report_goes(tmp_path):
    """One folder gets it inside; several: here; another kind of file is refused."""
    assert report_place([tmp_path], None) == tmp_path / "report.html"
    assert report_place(["a", "b"], None) == Path("report.html")
    assert report_place(["a"], tmp_path) == tmp_path / "report.html"
    with pytest.raises(RunError, match=r"does not end in \.html"):
        report_place(["a"], "r.pdf")


def test_nothing_of_ones_own_is_overwritten(root, tmp_path):
    """A page or table that is no report is left alone; a report is replaced."""
    for name in ("r.html", "r.md", "r.csv"):
        mine = tmp_path / name
        mine.write_text("my own words")
        with pytest.raises(RunError, match="is no report of purenoise"):
            report_runs([root / "erm"], out=tmp_path / "r.html")
        assert {p.name for p in tmp_path.iterdir()} == {name}
        assert mine.read_text() == "my own words"
        mine.unlink()
    for _ in range(2):
        report_runs([root / "erm"], out=tmp_path / "r.html")
    assert {p.name for p in tmp_path.iterdir()} == {"r.html", "r.md", "r.csv"}


def test_page_of_a_run_after_training(tmp_path):
    """After training a page lies in the folder; a finished run that has one keeps it."""
    folder = fake_run(tmp_path / "run")
    run = SimpleNamespace(folder=folder, trained=True, summary={"test": {}})
    assert write_run_report(run) == folder / "report.html"
    (folder / "report.html").write_text("kept")
    run.trained = False
    assert write_run_report(run) is None
    assert (folder / "report.html").read_text() == "kept"
    run.summary = {"test": None}
    assert write_run_report(run) is None


def test_a_comparison_is_written_as_it_is(root, tmp_path):
    """A comparison in hand, with labels of its own, is written without reading runs again."""
    records, _ = read_records([root / "drs", root / "open"])
    written = write_report(analyse(records), tmp_path / "sub" / "c.html", beside=False)
    assert written == [tmp_path / "sub" / "c.html"]


def test_no_class_folder_must_be_one(root, tmp_path):
    """A folder of images of no class that does not exist is refused before anything is written."""
    with pytest.raises((DataError, RunError)):
        report_runs([root / "erm"], out=tmp_path / "r.html", no_class=tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_drawings_leave_names_as_they_are() -> None:
    """A class whose name looks like a colour or an identifier is shown so; tags are adapted."""
    name = '#0072b2 id="q" url(#x)'
    figure = draw("k", "t", "d", "c", 2.0, lambda page: page.subplots().set_title(name))
    text = html.unescape(re.sub(r"<[^>]*>", "", str(figure.svg)))
    assert name in text
    assert 'id="k-figure_1"' in figure.svg
    assert "#1b2530" not in figure.svg
