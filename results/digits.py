"""Table and figure of the README's proof: three methods on the digits, from the committed rows.

``purenoise compare digits methods=erm,drs,open seeds=10`` and ``python -m results collect`` make
the rows; ``python -m results write`` makes table and figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from purenoise.lab.intervals import paired, t_interval
from purenoise.lab.verdicts import points
from results.rows import HERE, read

ROWS = HERE / "digits-lt.csv"
FIGURE = HERE.parent / "docs" / "images" / "digits.svg"
BEGIN, END = "<!-- digits: begin -->", "<!-- digits: end -->"
METHODS = {"erm": "plain training", "drs": "deferred resampling", "open": "OPeN + DAR-BN"}
GROUPS = ("many", "medium", "few")
Results = Mapping[str, Mapping[str, Sequence[float]]]


def results(path: Path = ROWS) -> Results:
    """Return percentages per method and column, one per seed, in the order of the seeds."""
    rows = sorted(read(path), key=lambda row: int(row["seed"]))
    return {
        m: {c: [100 * float(r[c]) for r in rows if r["method"] == m]
            for c in ("accuracy", *GROUPS)} for m in METHODS
    }  # fmt: skip


def table(found: Results) -> str:
    """Return the Markdown table and what follows from it."""
    lines = ["| method | accuracy % | many | medium | few |", "|---|---|---|---|---|"]
    for method, name in METHODS.items():
        cells = [_spread(values) for values in found[method].values()]
        lines.append(f"| `{method}` {name} | {' | '.join(cells)} |")
    mine, theirs = (found[m]["accuracy"] for m in ("open", "drs"))
    gain = paired(mine, theirs)
    e = gain.estimate
    low, high = (points((end or 0) / 100) for end in (e.low, e.high))
    lines += [
        "",
        f"Mean and 95 % t-interval over {e.n} seeds, last epoch, one subset and test set. "
        f"OPeN minus its fair baseline `drs`, seed by seed: {points(e.mean / 100)} points "
        f"({low} to {high}), exact sign-flip test of this one comparison p = {gain.p:.2g}.",
    ]
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    e = t_interval(values)
    return f"{e.mean:.1f} ± {(e.high or e.mean) - e.mean:.1f}"


def draw(found: Results) -> None:
    """Draw accuracy per group: bars for means, points for seeds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "purenoise", "svg.fonttype": "none", "font.size": 10})
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    axes = figure.subplots()
    for i, (method, name) in enumerate(METHODS.items()):
        for g, group in enumerate(GROUPS):
            values, x = found[method][group], g + 0.26 * (i - 1)
            colour = ("#b8bcc4", "#6f8fb5", "#c8553d")[i]
            label = name if g == 0 else None
            axes.bar(x, statistics.mean(values), 0.24, color=colour, label=label)
            axes.scatter([x] * len(values), values, s=9, color="black", zorder=3, linewidths=0)
    axes.set_xticks(range(3), ["many (> 100 images)", "medium (20 to 100)", "few (< 20)"])
    axes.set_ylim(70, 101)
    axes.set_ylabel("test accuracy %")
    n = len(found["open"]["accuracy"])
    axes.set_title(f"Digits, imbalance ratio 40, {n} seeds (points)", fontsize=10)
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    axes.spines[["top", "right"]].set_visible(False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None, "Creator": None})
