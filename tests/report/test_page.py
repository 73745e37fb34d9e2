"""The report says what the runs say, whatever they are called and whatever is missing."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from itertools import pairwise

import numpy as np
import pytest

from purenoise.lab.comparison import analyse
from purenoise.lab.intervals import compare_pair
from purenoise.lab.records import METRICS, read_records
from purenoise.lab.verdicts import verdict
from purenoise.methodfile import known_methods, load_method
from purenoise.report import report_runs
from purenoise.report.figures import style

from ..fakeruns import fake_logits, fake_run, fake_runs
from .support import Page, make

SKILLS = {"drs": 1.2, "erm": 0.8, "open": 2.0}
HOSTILE = (
    "<script>alert(1)</script>", "\u202egnp.exe\x1b[31m", "$\\frac{a}{b}$ & |x|", "=HYPERLINK(1)",
)  # fmt: skip


def test_verdicts_come_first_and_numbers_are_those_of_the_runs(root, files):
    """The page begins with the verdicts; means, intervals and differences stand in its tables."""
    page, (records, _) = Page(files[0]), read_records([root])
    comparison = analyse(records)
    for d in comparison.differences:
        assert page.text.index(verdict(d)) < page.text.index("What was compared", 600)
        e = d.headline.estimate
        assert f"{100 * e.mean:+.1f} {100 * e.low:+.1f} to {100 * e.high:+.1f}" in page.text
    for row in comparison.rows:
        e = row.estimates["balanced accuracy"]
        assert f"{100 * e.mean:.1f} {100 * e.low:.1f} to {100 * e.high:.1f}" in page.text


def test_csv_has_every_number(root, files):
    """The CSV gives back every metric of every run, every mean and every class difference."""
    rows = list(csv.DictReader(io.StringIO(files[2])))
    records, _ = read_records([root])
    comparison = analyse(records)
    there = {(r["method"], r["seed"], r["metric"]): float(r["value"])
             for r in rows if r["what"] == "run"}  # fmt: skip
    expected = {(r.label, str(r.seed), m): v for r in records for m in METRICS
                if (v := r.value(m)) is not None}  # fmt: skip
    assert there == expected
    for d in comparison.differences:
        found = [r for r in rows if r["what"] == "class difference" and r["method"] == d.label]
        assert [float(r["value"]) for r in found] == [c.estimate.mean for c in d.classes]
        assert [float(r["p_holm"]) for r in found] == list(d.classes_p_holm)
    means = [r for r in rows if r["what"] == "mean" and r["metric"] == "accuracy"]
    assert [float(r["low"]) for r in means] == [
        row.estimates["accuracy"].low for row in comparison.rows
    ]


def test_markdown_has_sections_and_tables(files):
    """The Markdown has the page's sections, and tables whose rows have as many cells as heads."""
    headings = re.findall(r"^## (.+)$", files[1], re.M)
    assert headings[:2] == ["In short", "What was compared"]
    assert "Optimistic: best epoch on the test images" in headings
    for table in re.findall(r"(?:^\|.*\n)+", files[1], re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_page_is_well_formed_and_accessible(files):
    """Language, viewport, one h1, headings in order, names for pictures, scopes, unique ids."""
    page = Page(files[0])
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str([m for m in page.all("meta") if m.get("name") == "viewport"])
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert set(svg["aria-labelledby"].split()) <= set(ids)
    assert len(page.all("svg")) == len(page.all("title")) - 1 >= 7
    assert all(image["alt"] for image in page.all("img"))
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))
    used = re.findall(r'(?:href="|url\()#([^")]+)', files[0])
    assert set(used) <= set(ids)


def test_page_loads_nothing_and_allows_one_script(files):
    """No address of the network is in it; the policy allows its one script by hash and no other."""
    page = Page(files[0])
    addresses = set(re.findall(r"https?://[^\s\"'<]+", files[0]))
    assert addresses <= {"http://www.w3.org/1999/xlink"}
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") for _, a in page.elements for name in a)


def test_hostile_names_are_text(tmp_path):
    """Markup, control characters, turned lines, formulas and mathematics are shown as text."""
    fake_runs(tmp_path / "runs", {"drs": 1.0, "open": 2.0}, names=HOSTILE)
    page = make(tmp_path / "runs", out=tmp_path / "r.html")
    assert len(page.scripts) == 1
    assert HOSTILE[0] in page.text
    assert HOSTILE[2] in page.text
    assert "\N{REPLACEMENT CHARACTER}gnp.exe\N{REPLACEMENT CHARACTER}[31m" in page.text
    everything = "".join(f.read_text() for f in tmp_path.glob("r.*m*"))
    assert not set("\u202e\x1b") & set(everything)
    assert "<script>alert" not in everything.replace("\\<script", "")
    rows = list(csv.reader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert not any(cell[:1] in "=@" and cell for row in rows for cell in row)


def test_one_run_has_no_comparison_parts(root, tmp_path):
    """The page of one run says what it came to, that it proves nothing, and compares nothing."""
    page = make(root / "open" / "seed-0", out=tmp_path / "r.html")
    accuracy = json.loads((root / "open" / "seed-0" / "summary.json").read_text())["test"]
    assert f"{100 * accuracy['accuracy']:.1f} % of 100 test images right" in page.text
    assert "does not say which method is better" in page.text
    assert "Weakest class" in page.text
    for absent in ("minus", "Holm", "McNemar", "baseline"):
        assert absent not in page.text


def test_two_runs_are_compared_image_by_image(root, tmp_path):
    """Exactly two runs get McNemar's test over the test images; three do not."""
    pair = root / "drs" / "seed-0", root / "open" / "seed-0"
    page = make(*pair, out=tmp_path / "r.html")
    rights = []
    for method, skill in (("open", SKILLS["open"]), ("drs", SKILLS["drs"])):
        assert method in page.text
        logits, labels = fake_logits(0, skill)
        rights.append(logits.argmax(axis=1) == labels)
    found = compare_pair(*rights)
    assert "only open right only drs right" in page.text
    assert f"{found.only_first} {found.only_second} {100 * found.difference:+.1f}" in page.text
    more = make(*pair, root / "erm" / "seed-0", out=tmp_path / "r.html")
    assert "McNemar" not in more.text


def test_what_is_missing_is_said(tmp_path):
    """Runs without probes, predictions, events or data get sentences in their place."""
    run = fake_run(tmp_path / "runs", probes=False)
    (run / "predictions.npz").write_bytes(b"PK")
    (run / "events.jsonl").unlink()
    page = make(run, out=tmp_path / "r.html")
    assert "made before networks were asked about noise" in page.text
    assert "The predictions of 1 of 1 runs are missing" in page.text
    assert "The runs' events are not there." in page.text
    assert "the data have changed since the run" in page.text


def test_predictions_of_another_run_are_not_used(tmp_path):
    """A predictions file that does not give the run's accuracy counts as missing."""
    run, other = fake_run(tmp_path / "a", skill=1.0), fake_run(tmp_path / "b", skill=2.0)
    (run / "predictions.npz").write_bytes((other / "predictions.npz").read_bytes())
    said = (
        f"The predictions of 1 of 1 runs are missing, damaged or not those of their result: {run}"
    )
    assert said in make(run, out=tmp_path / "r.html").text
    with np.load(other / "predictions.npz") as kept:
        np.savez(run / "predictions.npz", logits=3 * kept["logits"], labels=kept["labels"])
    report_runs([other], out=tmp_path / "o.html")
    (other / "predictions.npz").write_bytes((run / "predictions.npz").read_bytes())
    assert "runs are missing" in make(other, out=tmp_path / "o.html").text  # as right, not as sure


def test_left_out_runs_are_named(root, tmp_path):
    """Unfinished runs stand in a table with the reason."""
    run = fake_run(tmp_path / "begun", "erm", 5)
    (run / "summary.json").unlink()
    page = make(root, run, out=tmp_path / "r.html")
    assert "Runs that were left out." in page.text
    assert f"{run} it is not finished" in page.text


def test_many_classes(tmp_path):
    """Of many classes the worst confusions are listed, and the CSV has all of them."""
    counts = [int(c) for c in np.geomspace(500, 21, 130)]
    fake_runs(tmp_path / "runs", {"drs": 3.0, "open": 3.5}, (0, 1), counts=counts, per_class=3)
    page = make(tmp_path / "runs", out=tmp_path / "r.html")
    assert "most frequent confusions" in page.text
    assert "No class with test images is in: few." in page.text
    assert "The 10 classes in the middle are in the CSV file." in page.text
    assert "Only the 40 classes that changed most are shown." in page.text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert sum(r["what"] == "class difference" for r in rows) == 130


def test_mixed_classes_side_by_side(root, tmp_path):
    """Runs on other classes, by force: no tables of classes, and the notes say what differs."""
    fake_run(tmp_path / "other", "erm", 0, counts=(90, 40, 5))
    page = make(root / "drs", tmp_path / "other", out=tmp_path / "r.html", mixed=True)
    assert "differ in classes or in their sizes" in page.text
    assert "Not by one protocol: class counts differ" in page.text


def test_eight_methods_with_ten_seeds_stay_small(tmp_path):
    """Eighty runs make a page below 2 MB in which no two methods look alike."""
    methods = ("erm", "drs", "rs", "rw", "drw", "open", "focal", "balanced-softmax")
    skills = {m: 1 + i / 4 for i, m in enumerate(methods)}
    counts = np.geomspace(500, 5, 20).astype(int).tolist()
    fake_runs(tmp_path / "runs", skills, range(10), counts=counts, per_class=10)
    page = make(tmp_path / "runs", out=tmp_path / "r.html")
    assert page.all("svg")
    assert (tmp_path / "r.html").stat().st_size < 2e6
    assert len({style(i) for i in range(32)}) == 32


def test_damaged_probes_count_as_none(tmp_path):
    """Probes that lack a number are not shown, and nothing breaks."""
    run = fake_run(tmp_path / "run")
    summary = json.loads((run / "summary.json").read_text())
    summary["probes"]["noise"] = {"n": 3}
    (run / "summary.json").write_text(json.dumps(summary))
    assert "before networks were asked" in make(run, out=tmp_path / "r.html").text


def test_one_seed_is_not_called_a_mean(root, tmp_path):
    """The page of one run speaks of no mean over seeds."""
    page = make(root / "open" / "seed-0", out=tmp_path / "r.html")
    assert "mean over seeds" not in page.text
    assert "the seeds" not in page.text


@pytest.mark.parametrize("method", known_methods())
def test_every_method_is_described(tmp_path, method):
    """The page says of every method that comes with the package what it does."""
    page = make(fake_run(tmp_path / "run", method), out=tmp_path / "r.html")
    start = page.text.index("The method, phase by phase.")
    said = page.text[start : page.text.index("Accuracy by absolute size")]
    assert "every image once" in said or "all classes equally often" in said
    assert not set(said) & set("{}[]'\"=_")
    spec = load_method(method)
    assert spec.loss.name in said
    assert ("delta" in said) == any(phase.noise == "open" for phase in spec.phases)


def test_notes_of_some_methods_say_of_which(tmp_path):
    """A note that all runs have stands alone, one of some methods after their names."""
    fake_run(tmp_path / "a", "erm", 0, 1.0, notes=["Of all."])
    fake_run(tmp_path / "b", "drs", 0, 1.2, notes=["Of all.", "Of one."])
    text = make(tmp_path, out=tmp_path / "r.html").text
    assert "drs: Of one." in text
    assert "Of all." in text
    assert ": Of all." not in text


def test_equal_seeds_are_no_interval(tmp_path):
    """Where all seeds agree that is said, and no interval without width is shown."""
    for seed in (0, 1):
        fake_run(tmp_path / f"a{seed}", "erm", seed, 60.0)
        fake_run(tmp_path / f"b{seed}", "drs", seed, 60.0)
    text = make(tmp_path, out=tmp_path / "r.html").text
    assert "all seeds equal" in text
    assert "100.0 to 100.0" not in text
    assert "+0.0 to +0.0" not in text
