"""The first page of a report: what may be concluded, the main numbers, what was compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from purenoise.confusion import Confusion
from purenoise.export.private import public_notes
from purenoise.lab.comparison import Comparison
from purenoise.lab.intervals import EXACT_SEEDS, FLIPS
from purenoise.lab.records import Record
from purenoise.lab.verdicts import verdicts
from purenoise.longtail import imbalance
from purenoise.report.charts import accuracy_chart
from purenoise.report.document import Cell, Facts, Part, Section, Sentences, Table, section
from purenoise.report.methodheads import methods_said
from purenoise.report.methodwords import COLUMNS, described
from purenoise.report.metrictables import metrics_tables
from purenoise.report.wording import (
    BOUNDS,
    HEADS,
    clean,
    estimate_cell,
    over_common_seeds,
    over_seeds,
    paired_cell,
    several,
)
from purenoise.terminal.tables import p_value, percent, plural

MOST_LARGE = 4  # verdicts that are set large
SINGLE = (
    "One run says what this network does. It does not say which method is better: that takes "
    "several methods with several seeds, as in `purenoise compare`."
)


def summary_section(comparison: Comparison) -> Section:
    """Return what may be concluded, and the main numbers."""
    records = comparison.records
    if len(records) == 1:
        return section(
            "in-short",
            "In short",
            [
                Sentences(tuple(_of_one(records[0])), "verdict"),
                Sentences((SINGLE,)),
                *metrics_tables(comparison),
                methods_said(comparison),
            ],
        )
    said = verdicts(comparison)
    return section(
        "in-short", "In short",
        [Sentences(tuple(map(clean, said)), "verdict" if len(said) <= MOST_LARGE else "list"),
         _accuracy(comparison),
         main_table(comparison), methods_said(comparison)],
    )  # fmt: skip


def _of_one(record: Record) -> list[str]:
    """Say what one run came to."""
    test, names = record.summary["test"], record.summary["class_names"]
    counts, groups = record.summary["counts"], test["groups"]
    said = [
        f"{record.label} gets {percent(test['accuracy'])} % of {sum(test['n_test']):,} test images "
        f"right, {percent(test['balanced_accuracy'])} % as the mean over classes."
    ]
    pair = [n for n in ("many", "medium", "few") if groups[n] is not None]
    ends = (pair[0], pair[-1]) if len(pair) > 1 else ("head", "tail")
    if all(groups[n] is not None for n in ends):
        common, rare = ends
        said.append(
            f"Common classes ({common}): {percent(groups[common])} %; rare classes ({rare}): "
            f"{percent(groups[rare])} %."
        )
    present = [c for c, value in enumerate(test["per_class"]) if value is not None]
    worst = min(present, key=lambda c: (test["per_class"][c], counts[c]))
    other, most = Confusion.read(test["confusion"], len(names)).mistaken_for(worst)
    text = (
        f"Weakest class: {clean(names[worst])}, {percent(test['per_class'][worst])} % from "
        f"{plural(counts[worst], 'training image')}"
    )
    if most:
        share = most / test["n_test"][worst]
        text += f"; {percent(share)} % of its test images are taken for {clean(names[other])}"
    return [clean(s) for s in [*said, f"{text}."]]


def _accuracy(comparison: Comparison) -> Part:
    rows = []
    for row in comparison.rows:
        found = row.estimates[comparison.about]
        assert found is not None  # runs without test images are left out
        rows.append((row.label, [r.value(comparison.about) or 0.0 for r in row.records], found))
    return accuracy_chart(rows, comparison.about, bool(comparison.differences))


def main_table(comparison: Comparison) -> Table:
    """Return what is compared, and the differences to the baseline, of each method."""
    against, about = {d.label: d for d in comparison.differences}, comparison.about
    what = f"{about.capitalize()} on the test images after the last epoch"
    mean = over_seeds(comparison, ": mean over seeds with its 95 % interval")
    heads = ("method", "seeds", HEADS[about])
    if not against:
        alone = tuple(
            (Cell(clean(row.label)), Cell(str(len(row.records)), value=len(row.records)),
             estimate_cell(about, row.estimates[about]))
            for row in comparison.rows
        )  # fmt: skip
        return Table(f"{what}{mean}.{over_seeds(comparison, f' {BOUNDS}')}", heads, alone)
    rows = []
    for row in comparison.rows:
        d = against.get(row.label)
        if d is not None:
            p = d.headline.p if d.headline else None
            cells = (paired_cell(about, d.headline), Cell(p_value(p), value=p),
                     Cell(p_value(d.p_holm), value=d.p_holm))  # fmt: skip
        else:
            word = "baseline" if row.label == comparison.baseline else "no seed in common"
            cells = (Cell(word), Cell(""), Cell(""))
        rows.append((Cell(clean(row.label)), Cell(str(len(row.records)), value=len(row.records)),
                     estimate_cell(about, row.estimates[about]), *cells))  # fmt: skip
    caption = f"{what}{mean}, and the difference to {clean(comparison.baseline)}"
    if over_common_seeds(comparison):
        caption += (
            f", seed by seed. p: {_kind_of_test(comparison)}; after Holm: corrected for the number "
            f"of tests. {BOUNDS}"
        )
    elif mean:
        caption += f". Over one seed in common that has no interval and no p. {BOUNDS}"
    else:
        caption += ". With one seed there is no interval and no p."
    return Table(caption, (*heads, "difference, points", "p", "p after Holm"), tuple(rows))


def _kind_of_test(comparison: Comparison) -> str:
    """Name the test that p is of: from some number of seeds on not all sign flips are looked at."""
    found = [d.headline for d in comparison.differences if d.headline and len(d.seeds) > 1]
    drawn = f"{FLIPS:,} drawn flips"
    if all(p.exact for p in found):
        return "exact sign-flip test"
    if any(p.exact for p in found):
        return f"sign-flip test, exact up to {EXACT_SEEDS} seeds, beyond of {drawn}"
    return f"sign-flip test of {drawn}"


def protocol_section(comparison: Comparison) -> Section:
    """Return under which conditions the runs were made."""
    records = comparison.records
    heading = "What was trained" if len(records) == 1 else "What was compared"
    pairs = [(name, several([clean(what(r)) for r in records])) for name, what in PROTOCOL.items()]
    seeds = {row.label: ", ".join(map(str, row.seeds)) for row in comparison.rows}
    same = len(set(seeds.values())) == 1
    pairs.append(("seeds", several(list(seeds.values())) if same else
                  several([f"{clean(k)}: {v}" for k, v in seeds.items()], 12)))  # fmt: skip
    if len(records) > 1:
        pairs.append(("baseline", clean(comparison.baseline)))
    rows = tuple(
        tuple(Cell(clean(text)) for text in (row.label, *described(row.records[0])))
        for row in comparison.rows
    )
    table = Table(
        "The methods, phase by phase." if len(rows) > 1 else "The method, phase by phase.",
        ("method", *COLUMNS), rows, sortable=False,
    )  # fmt: skip
    notes = _notes(comparison)
    return section(
        "protocol",
        heading,
        [Facts(tuple(pairs)), table, Sentences(tuple(notes), "list") if notes else None],
    )


def _notes(comparison: Comparison) -> list[str]:
    """What the runs noted; with the methods that did, where not all did."""
    who: dict[str, dict[str, None]] = {}
    for row in comparison.rows:
        for record in row.records:
            notes = record.summary.get("notes", [])
            for note in public_notes(notes, record.recipe.content()):
                who.setdefault(clean(note), {})[clean(row.label)] = None
    everyone = len(comparison.rows)
    return [note if len(labels) == everyone else f"{', '.join(labels)}: {note}"
            for note, labels in who.items()]  # fmt: skip


def _classes(r: Record) -> str:
    s = r.summary
    size = " x ".join(map(str, s["image_shape"]))
    return f"{s['data']}: {plural(len(s['class_names']), 'class', 'classes')}, images {size}"


def _train(r: Record) -> str:
    counts = r.summary["counts"]
    ratio = imbalance(counts).ratio if min(counts) > 0 else float("nan")
    return f"{sum(counts):,}, from {max(counts):,} to {min(counts):,} a class; ratio {ratio:.4g}"


def _subset(r: Record) -> str:
    wanted, digest = r.recipe.data.imbalance, r.summary.get("subset_sha256")
    if digest is None:
        return "none: the training images are all there are"
    asked = f"{wanted.type}, ratio {wanted.ratio:g}, " if wanted.type != "none" else ""
    return f"{asked}{wanted.subset}, seed {wanted.seed}; SHA-256 {digest[:16]}"


def _optimizer(r: Record) -> str:
    t = r.recipe.train
    momentum = f", momentum {t.momentum:g}" if t.optimizer == "sgd" else ""
    warmup = "" if t.warmup is None else f", warm-up {t.warmup}"
    return (f"{t.optimizer}, lr {t.lr:g}, {t.schedule}{warmup}{momentum}, weight decay "
            f"{t.weight_decay:g}")  # fmt: skip


def _machine(r: Record) -> str:
    e = r.summary["environment"]
    return (f"{e.get('device')} ({e.get('cpu')}), {plural(e.get('threads') or 0, 'thread')}, torch "
            f"{e.get('torch')}, {r.recipe.precision}")  # fmt: skip


def _constants(values: Any) -> str:
    return " / ".join(", ".join(f"{v:.4g}" for v in part) for part in values)


PROTOCOL: Mapping[str, Callable[[Record], object]] = {
    "data": _classes,
    "training images": _train,
    "subset": _subset,
    "test images": lambda r: f"{sum(r.summary['test']['n_test']):,}",
    "validation images": lambda r: f"{r.summary.get('n_val', 0):,}",
    "all images, SHA-256": lambda r: str(r.summary.get("fingerprint"))[:16],
    "normalisation, mean / std": lambda r: _constants(r.summary["normalize"]),
    "augmentation": lambda r: r.summary.get("augment", "?"),
    "network": lambda r: (
        r.recipe.model.name + (", pretrained" if r.recipe.model.pretrained else "")
    ),
    "epochs, batch": lambda r: (
        f"{r.recipe.train.epochs} epochs, batches of {r.recipe.train.batch_size}"
    ),
    "optimiser": _optimizer,
    "second phase": lambda r: (
        f"begins at {100 * r.recipe.defer:g} % of the epochs, where there is one"
    ),
    "what counts": lambda r: (
        f"the {r.summary.get('selection', 'last epoch')}; nothing was chosen on the test images"
    ),
    "machine": _machine,
}
