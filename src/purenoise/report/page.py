"""A report put together: from a comparison to a document."""

from __future__ import annotations

from purenoise.lab.comparison import Comparison
from purenoise.report.answers import read_answers
from purenoise.report.behaviour import (
    calibration_section,
    curves_section,
    optimistic_section,
    pair_section,
    probes_section,
)
from purenoise.report.classes import classes_section, confusion_section, groups_section
from purenoise.report.document import Document
from purenoise.report.overview import protocol_section, summary_section
from purenoise.report.pictures import changed_sides, few_enough, load_images, noise_and_natural
from purenoise.report.provenance import notes_section, runs_section
from purenoise.report.wording import clean, several
from purenoise.terminal.tables import plural


def build(comparison: Comparison, most_images: int | None = None) -> Document:
    """Put a report together.

    Args:
        comparison: Of one run or more.
        most_images: If a folder holds more, its images are not looked at again, which may take
            long; None: they are.

    Returns:
        The report, with all sections that the runs have something for.
    """
    records = comparison.records
    answers = {record.folder: read_answers(record) for record in records}
    if most_images is None or few_enough(records, most_images):
        data = load_images(records[0])
    else:
        data = "The images were not looked at again; `purenoise report` does, and shows examples."
    found = [
        summary_section(comparison),
        protocol_section(comparison),
        groups_section(comparison),
        classes_section(comparison, changed_sides(comparison, answers, data)),
        confusion_section(comparison),
        curves_section(comparison),
        calibration_section(comparison, answers),
        probes_section(comparison, noise_and_natural(records[0], data)),
        pair_section(comparison, answers),
        optimistic_section(comparison),
        runs_section(comparison),
        notes_section(comparison),
    ]
    sections = tuple(s for s in found if s is not None and s.parts)
    return Document(_title(comparison), _subtitle(comparison), sections)


def _title(comparison: Comparison) -> str:
    names = several([clean(r.summary["data"]) for r in comparison.records])
    labels = [clean(row.label) for row in comparison.rows]
    if len(labels) > 4:
        return f"{plural(len(labels), 'method')} on {names}"
    listed = labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
    return f"{listed} on {names}"


def _subtitle(comparison: Comparison) -> str:
    counts = comparison.records[0].summary["counts"]
    ratio = f", imbalance ratio {max(counts) / min(counts):.4g}" if min(counts) else ""
    n = len(comparison.records)
    runs = (
        f"one run, seed {comparison.records[0].seed}"
        if n == 1
        else f"{plural(n, 'run')} of {plural(len(comparison.rows), 'method')}"
    )
    return (
        f"{runs}; {sum(counts):,} training images in {plural(len(counts), 'class', 'classes')}"
        + (ratio)
    )
