"""Write the tables of docs/speed.md and README.md from the committed rows; no number is typed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.rows import read

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "speed.md"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
NONE = "not yet measured"
# What the README shows: benchmark, case, metric, and the metric in words.
SHOWN = (
    ("step", "resnet32 128x32", "two-pass / plain: time", "OPeN step / plain step, time"),
    ("step", "resnet32 128x32", "two-pass / listing: time", "OPeN step / the listing's step, time"),
    ("step", "resnet32 128x32", "two-pass / plain: peak memory", "OPeN step / plain step, memory"),
    ("epoch", "resnet32 128x32", "flip-crop-cutout: share of the bare step's img/s",
     "speed left with data, flip, crop, Cutout"),
    ("epoch", "resnet32 128x32", "open: share of the bare step's img/s",
     "speed left with the paper's augmentation"),
    ("augmenting", "open", "image by image / ours", "augmenting, one thread: torchvision / ours"),
    ("folder", "10,000 JPEGs to 224 x 224", "ours: start and first epoch / theirs",
     "10,000 photographs to 224 x 224, first epoch: ours / ImageFolder"),
    ("folder", "10,000 JPEGs to 224 x 224", "theirs / ours: second epoch, streamed",
     "their second epoch: ImageFolder / ours"),
)  # fmt: skip

Row = dict[str, str]


def write() -> None:
    """Put the tables between the marks of the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    README.write_text(shown(README.read_text(encoding="utf-8")), encoding="utf-8")


def shown(readme: str) -> str:
    """Return the README with its table of speed made anew."""
    lines = ["| | CPU | GPU |", "|---|---|---|"]
    found: list[Row] = []
    for benchmark, case, metric, words in SHOWN:
        cells = []
        for device in ("cpu", "cuda"):
            rows = [r for r in read(HERE / "results" / f"{device}.csv")
                    if (r["benchmark"], r["case"], r["metric"]) == (benchmark, case, metric)
                    and r["size"] != "toy"]  # fmt: skip
            found += rows
            cells.append(f"{float(rows[-1]['median']):.3g}" if rows else NONE)
        lines.append(f"| {words} | {' | '.join(cells)} |")
    places = dict.fromkeys(
        f"{r['cpu'] if r['device'] == 'cpu' else r['device']} ({r['threads']} threads, "
        f"torch {r['torch']})" for r in found
    )  # fmt: skip
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    commits = ", ".join(dict.fromkeys(row["commit"] for row in found))
    where = f"\n\nMedians, on {'; '.join(places)}; commits {commits}." if places else ""
    return f"{head}{BEGIN}\n" + "\n".join(lines) + where + f"\n{END}{tail}"


def filled(page: str) -> str:
    """Return the page with every table made anew."""
    for device in ("cpu", "cuda"):
        rows = [r for r in read(HERE / "results" / f"{device}.csv") if r["case"] != "all"]
        begin, end = f"<!-- {device}: begin -->", f"<!-- {device}: end -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n{table(rows)}\n{end}{tail}"
    return page


def table(rows: list[Row]) -> str:
    """Return one Markdown table per benchmark and place where it was run."""
    if not rows:
        return NONE.capitalize() + "."
    parts = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        own = [row for row in rows if row["benchmark"] == benchmark]
        parts.append(f"### {benchmark}\n")
        for place in dict.fromkeys(_place(row) for row in own):
            parts += [f"{place}\n", "| case | what | median | range | n |", "|---|---|---|---|---|"]
            parts += _lines(row for row in own if _place(row) == place)
            parts.append("")
    return "\n".join(parts).rstrip()


def _lines(rows: Iterable[Row]) -> list[str]:
    lines = []
    for row in rows:
        spread = f"{row['low']} to {row['high']}" if row["n"] != "1" else ""
        value = f"{row['median']} {row['unit']}".strip()
        lines.append(f"| {row['case']} | {row['metric']} | {value} | {spread} | {row['n']} |")
    return lines


def _place(row: Row) -> str:
    hardware = row["cpu"] if row["device"] == "cpu" else f"{row['device']}, {row['cpu']}"
    return (
        f"{hardware}, {row['threads']} threads, torch {row['torch']}, Python {row['python']}, "
        f"size {row['size']}, commit {row['commit']}, {row['date']}"
    )
