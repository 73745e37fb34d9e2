"""The digits comparison of the README: run it, keep a row per run, draw the figure and the table.

``python results/digits.py`` makes figure and table from the committed rows;
``python results/digits.py --run`` trains again first (15 runs, about a minute on one core).
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROWS = HERE / "digits.csv"
FIGURE = HERE.parent / "docs" / "images" / "digits.svg"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- digits: begin -->", "<!-- digits: end -->"
METHODS = {"erm": "plain training", "drs": "deferred resampling", "open": "OPeN + DAR-BN"}
GROUPS = ("many", "medium", "few")
SEEDS = range(5)
T_95 = {4: 2.776}  # Student's t, 97.5 %, by degrees of freedom


def run() -> None:
    """Train every method and seed on the digits recipe and write the rows."""
    import purenoise as pn

    rows = []
    with tempfile.TemporaryDirectory() as out:
        for method in METHODS:
            for seed in SEEDS:
                done = pn.train("digits", method=method, seed=seed, out=out)
                where, m = done.summary["environment"], done.metrics
                row = {"method": method, "seed": seed, "accuracy": m["accuracy"]}
                row |= {name: m["groups"][name] for name in GROUPS}
                row |= {"recipe": done.summary["digest"][:8], "train_seconds": round(
                    done.summary["train_seconds"], 1), "torch": where["torch"],
                    "threads": where["threads"], "cpu": where["cpu"]}  # fmt: skip
                rows.append(row)
    with ROWS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read() -> dict[str, dict[str, list[float]]]:
    """Return percentages per method and column, one per seed."""
    with ROWS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        m: {c: [100 * float(r[c]) for r in rows if r["method"] == m]
            for c in ("accuracy", *GROUPS)} for m in METHODS
    }  # fmt: skip


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % t-interval of the mean."""
    n = len(values)
    return T_95[n - 1] * statistics.stdev(values) / n**0.5


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Return the Markdown table and what follows from it."""
    lines = ["| method | accuracy % | many | medium | few |", "|---|---|---|---|---|"]
    for method, name in METHODS.items():
        columns = results[method]
        cells = [f"{statistics.mean(v):.1f} ± {half_width(v):.1f}" for v in columns.values()]
        lines.append(f"| `{method}` {name} | {' | '.join(cells)} |")
    gains = [a - b for a, b in zip(results["open"]["accuracy"], results["drs"]["accuracy"],
                                   strict=True)]  # fmt: skip
    mean, half = statistics.mean(gains), half_width(gains)
    verdict = "which excludes 0" if abs(mean) > half else "which does not exclude 0"
    lines += [
        "",
        f"Mean and 95 % t-interval over {len(gains)} seeds, last epoch, one subset and test set. "
        f"OPeN minus its fair baseline `drs`, seed by seed: {mean:+.1f} ± {half:.1f} points, "
        f"{verdict}.",
    ]
    return "\n".join(lines)


def draw(results: dict[str, dict[str, list[float]]]) -> None:
    """Draw accuracy per group: bars for means, points for seeds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "purenoise", "svg.fonttype": "none", "font.size": 10})
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    axes = figure.subplots()
    for i, (method, name) in enumerate(METHODS.items()):
        for g, group in enumerate(GROUPS):
            values, x = results[method][group], g + 0.26 * (i - 1)
            colour = ("#b8bcc4", "#6f8fb5", "#c8553d")[i]
            label = name if g == 0 else None
            axes.bar(x, statistics.mean(values), 0.24, color=colour, label=label)
            axes.scatter([x] * len(values), values, s=9, color="black", zorder=3, linewidths=0)
    axes.set_xticks(range(3), ["many (> 100 images)", "medium (20 to 100)", "few (< 20)"])
    axes.set_ylim(70, 101)
    axes.set_ylabel("test accuracy %")
    axes.set_title("Digits, imbalance ratio 40, 5 seeds (points)", fontsize=10)
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    axes.spines[["top", "right"]].set_visible(False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Run if asked to, then bring figure and README up to date with the rows."""
    if "--run" in sys.argv[1:]:
        run()
    results = read()
    draw(results)
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
