"""How the networks learned and how sure they are: curves, calibration, noise, single pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purenoise.eventlog import Log, is_of_another, read_log
from purenoise.lab.comparison import Comparison
from purenoise.lab.intervals import compare_pair
from purenoise.lab.records import Record
from purenoise.longtail import groups
from purenoise.report.answers import Answers
from purenoise.report.behaviourcharts import curve_chart, reliability_chart, share_chart
from purenoise.report.charts import MOST_MARKED
from purenoise.report.classes import order, same_classes
from purenoise.report.document import Cell, Part, Section, Sentences, Table, section
from purenoise.report.wording import clean, number, over_seeds, several
from purenoise.runlog import RunFolder
from purenoise.terminal.tables import p_value, percent

KINDS = {"noise": "noise images", "no_class": "images of no class"}
PROBED = {"what", "n", "confidence", "share", "auroc"}
MOST_SHARES = 40


def curves_section(comparison: Comparison) -> Section:
    """Return how training went."""
    heading = "Training"
    logs = {r.folder: read_log(RunFolder(r.folder).events, _of_curves) for r in comparison.records}
    for run in comparison.records:
        if is_of_another(logs[run.folder].events, run.summary.get("digest") or None):
            logs[run.folder] = Log(fault="they are of another run")
    events = {folder: log.events for folder, log in logs.items()}
    left_out = [f"{clean(folder)}: {log.said}" for folder, log in logs.items() if log.said]
    text = (
        f"The events of {len(left_out)} of {len(logs)} runs were not all read, so curves may have "
        f"gaps: {several(left_out, 12)}."
    )
    said = Sentences((text,)) if left_out else None
    panels = []
    for name, value in (
        ("loss", lambda e: e.get("loss")),
        ("validation accuracy, %", lambda e: _percent(e.get("val"))),
        ("test accuracy, %", lambda e: _percent(e.get("test"))),
    ):
        methods = {row.label: [_course(events[r.folder], value) for r in row.records]
                   for row in comparison.rows}  # fmt: skip
        kept = {label: [c for c in seeds if c] for label, seeds in methods.items()}
        if any(kept.values()):
            panels.append((name, kept))
    if not panels:
        nothing = Sentences(("The runs' events are not there.",))
        return section("training", heading, [said or nothing])
    marks = sorted({
        e["epoch"] for found in events.values() for e in found
        if e["event"] == "phase" and isinstance(e.get("epoch"), int) and e["epoch"] > 0
    })  # fmt: skip
    return section("training", heading, [curve_chart(panels, marks), said])


def _of_curves(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what curves show of an event, without its confusion matrices."""
    kept = {key: event.get(key) for key in ("event", "epoch", "loss", "digest")}
    accuracy = {key: {"accuracy": event[key].get("accuracy")} for key in ("val", "test")
                if isinstance(event.get(key), dict)}  # fmt: skip
    return kept | accuracy


def _percent(metrics: Any) -> float | None:
    found = metrics.get("accuracy") if isinstance(metrics, dict) else None
    return 100 * found if isinstance(found, float) else None


def _course(events: Sequence[Mapping[str, Any]], value: Any) -> dict[int, float]:
    """Return a number per epoch; of an epoch that was done twice the later one."""
    found = {}
    for event in events:
        number_ = value(event) if event["event"] == "epoch" else None
        if isinstance(number_, int | float) and isinstance(event.get("epoch"), int):
            found[event["epoch"]] = float(number_)
    return found


def calibration_section(comparison: Comparison, answers: Mapping[Path, Answers | None]) -> Section:
    """Return whether the networks are as sure as they are right."""
    heading, series = "Calibration", []
    for place, row in enumerate(comparison.rows):
        found = [a for r in row.records if (a := answers[r.folder]) is not None]
        if found:
            n = sum(a.n for a in found)
            at_least = np.maximum(n, 1)
            series.append((place, row.label, sum(a.confidence for a in found) / at_least,
                           sum(a.right for a in found) / at_least, n))  # fmt: skip
    missing = [clean(folder) for folder, a in answers.items() if a is None]
    text = (
        f"The predictions of {len(missing)} of {len(answers)} runs are missing, damaged or not "
        f"those of their result: {several(missing, 12)}."
    )
    said = Sentences((text,)) if missing else None
    how = over_seeds(comparison, " All seeds together.")
    chart = reliability_chart(series, how) if series else None
    return section("calibration", heading, [chart, said])


def probes_section(comparison: Comparison, pictures: Sequence[Part]) -> Section:
    """Return what the networks say of noise and of images of no class."""
    heading = "Noise and images of no class"
    said = "These runs were made before networks were asked about noise: train anew to see it."
    rows, known = [], []
    for place, row in enumerate(comparison.rows):
        probes = [p for r in row.records if (p := probes_of(r))]
        if probes:
            known.append((place, row.label, probes, row.records[0]))
            rows.append(_probe_row(row.label, probes))
    if not rows:
        return section("noise", heading, [*pictures, Sentences((said,))])
    first = known[0][2][0]
    kinds = "; ".join(
        f"{name}: {first[kind]['n']}, {clean(first[kind]['what'])}"
        for kind, name in KINDS.items() if first.get(kind)
    )  # fmt: skip
    table = Table(
        "How sure the networks are, mean of the largest probability in percent; and how well that "
        "tells test images from the others (AUROC: 50 says nothing, 100 tells them apart)"
        f"{over_seeds(comparison)}. {kinds[:1].upper()}{kinds[1:]}.",
        ("method", "sure of test images", "of noise images", "of images of no class",
         "AUROC, noise", "AUROC, no class"),
        tuple(rows),
    )  # fmt: skip
    return section("noise", heading, [*pictures, table, *_shares(comparison, known)])


def probes_of(record: Record) -> dict[str, Any] | None:
    """Return a run's probes, if it has them and they are whole."""
    found = record.summary.get("probes")
    if not isinstance(found, dict) or not isinstance(found.get("noise"), dict):
        return None
    kinds = [found[kind] for kind in KINDS if found.get(kind) is not None]
    return found if all(kind.keys() >= PROBED for kind in kinds) else None


def _mean(probes: Sequence[Mapping[str, Any]], kind: str, key: str) -> float | None:
    values = [(p.get(kind) or {}).get(key) for p in probes]
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _probe_row(label: str, probes: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
    values = [
        _mean(probes, "test", "confidence"), _mean(probes, "noise", "confidence"),
        _mean(probes, "no_class", "confidence"), _mean(probes, "noise", "auroc"),
        _mean(probes, "no_class", "auroc"),
    ]  # fmt: skip
    return (Cell(clean(label)), *(Cell(percent(v), value=v) for v in values))


def _shares(comparison: Comparison, known: Sequence[Any]) -> list[Part]:
    """Return which classes are predicted for images of no class."""
    if not same_classes(comparison):
        return []
    summary = comparison.records[0].summary
    counts = np.asarray(summary["counts"], np.float64)
    training = counts / counts.sum()
    panels: list[tuple[str, list[tuple[int, str, Any]]]] = []
    rows = []
    thirds = [(name, groups(counts)[name]) for name in ("head", "mid", "tail")]
    for kind, title in KINDS.items():
        series = []
        for place, label, probes, _ in known:
            found = [p[kind]["share"] for p in probes if p.get(kind) and p[kind]["share"]]
            if found:
                share = np.mean(found, axis=0)
                series.append((place, label, share))
                rows.append(_third_row(title, label, share, thirds))
        if series:
            panels.append((title, [(p, la, s[order(comparison)]) for p, la, s in series]))
    rows.append(_third_row("training images", "", training, thirds))
    names = [clean(summary["class_names"][c]) for c in order(comparison)]
    table = Table(
        "Share of the predictions that fall to the largest, middle and smallest third of the "
        "classes, percent, beside the thirds' share of the training images.",
        ("images", "method", "head", "mid", "tail"), tuple(rows), sortable=False,
    )  # fmt: skip
    small = len(names) <= MOST_SHARES == MOST_MARKED and panels
    return [share_chart(names, training[order(comparison)], panels), table] if small else [table]


def _third_row(title: str, label: str, share: Any, thirds: Any) -> tuple[Cell, ...]:
    sums = [float(share[c].sum()) for _, c in thirds]
    return (Cell(title), Cell(clean(label)), *(Cell(percent(v), value=v) for v in sums))


def pair_section(comparison: Comparison, answers: Mapping[Path, Answers | None]) -> Section | None:
    """Compare two single runs over the test images; None if there are not exactly two."""
    if len(comparison.records) != 2 or len(comparison.rows) != 2:
        return None
    rows = sorted(comparison.rows, key=lambda row: row.label == comparison.baseline)
    first, second = (row.records[0] for row in rows)
    a, b = answers[first.folder], answers[second.folder]
    heading = "These two networks, image by image"
    if a is None or b is None or not np.array_equal(a.labels, b.labels):
        said = "The two runs' predictions are not there, or not of the same test images."
        return section("pair", heading, [Sentences((said,))])
    found = compare_pair(a.correct, b.correct)
    names = clean(first.label), clean(second.label)
    table = Table(
        f"{found.n:,} test images; exact McNemar test; 95 % bootstrap interval over test images.",
        (f"only {names[0]} right", f"only {names[1]} right", "difference in accuracy, points",
         "95 % interval", "McNemar p"),
        ((Cell(f"{found.only_first:,}"), Cell(f"{found.only_second:,}"),
          Cell(number("accuracy", found.difference, signed=True)),
          Cell(" to ".join(number("accuracy", v, signed=True) for v in (found.low, found.high))),
          Cell(p_value(found.p))),),
        sortable=False,
    )  # fmt: skip
    said = (
        "This says whether these two networks differ on images like these. It does not say whether "
        "the methods do: two seeds of one method often differ as much."
    )
    return section("pair", heading, [Sentences((said,)), table])


def optimistic_section(comparison: Comparison) -> Section | None:
    """Return the best epochs on the test images, which are no result."""
    rows = []
    for row in comparison.rows:
        last = row.estimates["accuracy"]
        if row.optimistic is not None and last is not None:
            best, end = (round(100 * share, 2) for share in (row.optimistic, last.mean))
            gap = round(best - end, 2) + 0.0  # of what is shown, so that the row adds up
            rows.append(
                (
                    Cell(clean(row.label)),
                    Cell(f"{best:.2f}", value=best),
                    Cell(f"{end:.2f}", value=end),
                    Cell(f"{gap:+.2f}", value=gap),
                )
            )
    if not rows:
        return None
    said = (
        "No result. Much of the literature reports the epoch that was best on the test images, "
        "which nobody can choose without them; these numbers are here to be compared with such "
        "reports, and with nothing else."
    )
    table = Table(
        f"Accuracy in the best of the epochs that were tested{over_seeds(comparison)}, beside the "
        "last.",
        ("method", "best on test %", "last epoch %", "gained by looking, points"), tuple(rows),
    )  # fmt: skip
    return section("optimistic", "Optimistic: best epoch on the test images",
                   [Sentences((said,)), table], aside=True)  # fmt: skip
