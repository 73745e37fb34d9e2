"""Where the numbers of a report come from, what was left out, and what they do not say."""

from __future__ import annotations

from purenoise.datasources import SAME_CALL
from purenoise.lab.comparison import Comparison
from purenoise.lab.records import ACCURACY, Record
from purenoise.ourlines import is_our_line
from purenoise.report.document import Cell, Facts, Lines, Section, Sentences, Table, section
from purenoise.report.wording import HEADS, clean, over_seeds, several
from purenoise.terminal.tables import percent

ONE_SUBSET = (
    "Everything here holds for this subset of training images and these test images. Another "
    "subset or test set can change it by more than another seed does."
)
SEEDS = (
    "Intervals and tests are over seeds: first weights, order of the images, augmentation, noise."
)
GROUPS = (
    "Many, medium and few are groups by number of training images; head, mid and tail are thirds "
    "of the classes by size."
)


def runs_section(comparison: Comparison) -> Section:
    """Return every run with its hash and time, the commands, and what was left out."""
    records = comparison.records
    shown = dict.fromkeys([comparison.about, ACCURACY])
    rows = tuple(
        (Cell(clean(r.label)), Cell(str(r.seed), value=r.seed),
         *(Cell(percent(r.value(m)), value=r.value(m)) for m in shown),
         _seconds(r), Cell(str(r.summary.get("digest", ""))[:12]), Cell(clean(r.folder)))
        for r in records
    )  # fmt: skip
    table = Table(
        ("All runs. " if len(records) > 1 else "") + "Time: of training alone, in "
        "seconds. Hash: of all that changes the result.",
        ("method", "seed", *(HEADS[m] for m in shown), "seconds", "recipe hash", "folder"), rows,
    )  # fmt: skip
    environments = [r.summary["environment"] for r in records]
    names = ("device", "cpu", "threads", "python", "torch", "torchvision", "numpy", "cuda",
             "purenoise", "commit", "system")  # fmt: skip
    pairs = [
        (name, several([clean(e[name]) for e in environments if e.get(name) is not None]))
        for name in names
    ]
    digests = [
        ("subset SHA-256", several([str(r.summary.get("subset_sha256")) for r in records])),
        ("images SHA-256", several([str(r.summary.get("fingerprint")) for r in records])),
    ]
    told = dict.fromkeys(r.summary.get("command", "") for r in records)
    commands = tuple(clean(text) for text in told if is_our_line(text) or text == SAME_CALL)
    whole = comparison.command
    again = Sentences(("The line that makes this comparison again:",)) if whole else None
    return section(
        "runs", "Runs" if len(records) > 1 else "This run",
        [again, Lines((clean(whole),)) if whole else None, table,
         Sentences(("The lines that train this again:",)) if commands else None,
         Lines(commands) if commands else None,
         Facts(tuple((k, v) for k, v in [*pairs, *digests] if v)), _left_out(comparison)],
    )  # fmt: skip


def _seconds(record: Record) -> Cell:
    found = record.summary.get("train_seconds")
    return Cell(f"{found:,.1f}", value=found) if isinstance(found, int | float) else Cell("")


def _left_out(comparison: Comparison) -> Table | None:
    if not comparison.left_out:
        return None
    rows = tuple((Cell(clean(p)), Cell(clean(why))) for p, why in comparison.left_out.items())
    return Table("Runs that were left out.", ("run", "why"), rows, sortable=False)


def notes_section(comparison: Comparison) -> Section:
    """Return what a reader has to know and what the numbers do not say."""
    if len(comparison.records) == 1:
        said = [ONE_SUBSET]
    else:  # whose notes say already what it holds for
        said = [*map(clean, comparison.notes), *([SEEDS] if over_seeds(comparison) else [])]
    return section("notes", "Notes and limits", [Sentences((*said, GROUPS), "list")])
