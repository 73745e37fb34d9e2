"""Write docs/results.md and the table of the README from all rows; no number is typed here.

A leaderboard holds what was trained on one subset with one network and one augmentation. Published
numbers stand beside ours; where they were made or chosen in another way, or do not say how, the
page says so under the table.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence

from purenoise.errors import RunError
from purenoise.lab.intervals import Estimate, Paired, holm, paired, t_interval
from purenoise.lab.verdicts import points
from results import digits
from results.rows import HERE, Row, read_all

PAGE = HERE.parent / "docs" / "results.md"
README = HERE.parent / "README.md"
PUBLISHED = HERE / "published.csv"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
NONE = "not yet measured"
UNSTATED = "not stated"
STANDARD = "ldam"  # the subset that is meant where none is stated
BASELINE = "drs"
NAMES = {"cifar10": "CIFAR-10-LT", "cifar100": "CIFAR-100-LT", "digits": "digits",
         "infrared-solar-modules": "InfraredSolarModules",
         "resnet8": "ResNet-8", "resnet32": "ResNet-32", "wide_resnet28_10": "WRN-28-10",
         "small_cnn": "small CNN"}  # fmt: skip
# What the README shows: data, profile, ratio, architecture, augmentation.
SHOWN = (
    ("cifar10", "exp", "100", "wide_resnet28_10", "open"),
    ("cifar10", "exp", "100", "resnet32", "flip-crop"),
    ("cifar10", "exp", "100", "resnet8", "flip-crop"),
)
SHOWN_METHODS = {"erm": "ERM", "drs": "DRS", "open": "OPeN"}
SHOWN_SOURCES = {"Zada et al. 2022": "paper", "reproduction (MLRC 2022)": "reproduction"}
COMPARED = {"subset": "subset", "epochs": "epochs", "selection": "epoch that counts",
            "seeds": "seeds"}  # fmt: skip
Board = tuple[str, str, str, str, str, str]


def write() -> None:
    """Put the tables between the marks of the page and of the README."""
    ours, others = read_all(), published()
    for path, text in ((PAGE, leaderboards(ours, others)), (README, readme_table(ours, others))):
        path.write_text(filled(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    proof = digits.results()
    digits.draw(proof)
    text = filled(README.read_text(encoding="utf-8"), digits.table(proof), digits.BEGIN, digits.END)
    README.write_text(text, encoding="utf-8")


def published() -> list[Row]:
    """Return what was published, as typed from its sources."""
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def filled(page: str, text: str, mark: str = BEGIN, last: str = END) -> str:
    """Return a page with ``text`` between its marks.

    Raises:
        RunError: If it has no marks.
    """
    head, begin, rest = page.partition(mark)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise RunError(f"A page has no marks {mark} and {last}.")
    return f"{head}{mark}\n{text}\n{last}{tail}"


def leaderboards(ours: Sequence[Row], others: Sequence[Row]) -> str:
    """Return all leaderboards: those with runs of ours first."""
    boards = dict.fromkeys([*map(_board, ours), *map(_board, others)])
    parts = []
    for board in boards:
        mine = [row for row in ours if _board(row) == board]
        theirs = [row for row in others if _board(row) == board]
        parts += [_heading(board), *_leaderboard(mine, theirs), ""]
    return "\n".join(parts).strip()


def _board(row: Mapping[str, str]) -> Board:
    subset = STANDARD if row["subset"] == UNSTATED else row["subset"]
    kind = row.get("imbalance") or "exp"  # published numbers are of exponential profiles
    return row["data"], kind, row["ratio"], row["architecture"], row["augmentation"], subset


def _heading(board: Board) -> str:
    data, kind, ratio, network, augmentation, subset = board
    name, net = NAMES.get(data, data), NAMES.get(network, network)
    if kind == "none":
        return f"## {name}, imbalanced as it is, {net}, augmentation `{augmentation}`\n"
    profile = "" if kind == "exp" else f" ({kind})"
    return (
        f"## {name}, imbalance ratio {ratio}{profile}, {net}, augmentation `{augmentation}`, "
        f"subset `{subset}`\n"
    )


def headline(row: Mapping[str, str]) -> str:
    """Return the column that a board is about; published numbers are accuracies."""
    return row.get("about") or "accuracy"


def _leaderboard(mine: Sequence[Row], theirs: Sequence[Row]) -> Iterable[str]:
    """Yield one table, best first, and what its reader has to know."""
    lines = []
    for group in groups(mine):
        e = accuracy(group)
        lines.append((e.mean, f"| **`{group[0]['method']}`** | **{spread(e)}** | {e.n} | "
                      f"{group[0]['epochs']} | {group[0]['selection']} | ours, "
                      f"`{group[0]['table']}` |"))  # fmt: skip
    for row in theirs:
        shown = f"{row['accuracy']} ± {row['spread']} (sd)" if row["spread"] else row["accuracy"]
        note = f"; {row['note']}" if row["note"] else ""
        lines.append((float(row["accuracy"]) / 100, f"| {row['method']} | {shown} | "
                      f"{row['seeds']} | {row['epochs']} | {row['selection']} | {row['source']}, "
                      f"{row['where']}{note} |"))  # fmt: skip
    about = headline(mine[0]) if mine else "accuracy"
    yield f"| method | {about} % | seeds | epochs | chosen | source |"
    yield "|---|---|---|---|---|---|"
    yield from (line for _, line in sorted(lines, key=lambda pair: -pair[0]))
    if not mine:
        yield f"\nOurs: {NONE}."
    if differing := differences_of_protocol(mine, theirs):
        yield "\nNot one protocol:\n"
        yield from (f"- {text}" for text in differing)
    if mine:
        yield from _ours(mine)


def differences_of_protocol(mine: Sequence[Row], theirs: Sequence[Row]) -> list[str]:
    """Say what the numbers of one leaderboard do not have in common, a line each."""
    found = []
    for column, word in COMPARED.items():
        who: dict[str, dict[str, None]] = {}
        for row in theirs:
            who.setdefault(row[column], {})[row["source"]] = None
        for group in groups(mine):
            value = str(len(group)) if column == "seeds" else group[0][column]
            who.setdefault(value, {})["ours"] = None
        if len(who) > 1:
            said = "; ".join(f"{value}: {', '.join(names)}" for value, names in who.items())
            found.append(f"{word} - {said}")
    if len(protocols := {row["protocol"]: row["table"] for row in mine}) > 1:
        found.append(f"settings of training - our tables {', '.join(protocols.values())}")
    return found


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the runs of each method by each protocol on each machine, by seed."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[k] for k in ("table", "protocol", "hardware", "versions", "method"))
        found.setdefault(key, []).append(row)
    return [sorted(group, key=lambda row: int(row["seed"])) for group in found.values()]


def _ours(mine: Sequence[Row]) -> Iterable[str]:
    """Yield our runs in detail: groups of classes, differences, commands, machines."""
    found = sorted(groups(mine), key=lambda group: -accuracy(group).mean)
    other = "accuracy" if headline(mine[0]) != "accuracy" else "balanced accuracy"
    yield f"\n| ours | many | medium | few | {other} | ECE | best tested epoch |"
    yield "|---|---|---|---|---|---|---|"
    for group in found:
        names = ("many", "medium", "few", other, "ECE")
        cells = [spread(e) if (e := estimate(group, name)) else "n/a" for name in names]
        best = estimate(group, "optimistic")
        looked = int(group[0]["every"]) < int(group[0]["epochs"])
        cells.append(f"{100 * best.mean:.1f} (optimistic)" if best and looked else "n/a")
        yield f"| `{group[0]['method']}` | {' | '.join(cells)} |"
    if other == "accuracy":
        yield (
            "\nTest images are imbalanced as training images are, so accuracy is above all that of "
            "the largest classes; what is compared and the groups count classes alike."
        )
    yield f"\nMean and 95 % interval (Student's t over seeds). {_looks(mine)}"
    pairs = [(group[0]["method"], p) for group in found if (p := against_baseline(group, found))]
    if pairs:
        corrected = holm([1.0 if found.p is None else found.p for _, found in pairs])
        least = holm([found.least_p for _, found in pairs])
        yield from _differences(pairs, corrected, least)
        yield from conclusions(pairs, corrected, least)
    yield from _commands(found)


def _looks(mine: Sequence[Row]) -> str:
    """Say in which epochs anybody looked at the test images."""
    every = sorted({(int(row["every"]), int(row["epochs"])) for row in mine})
    if all(n >= epochs for n, epochs in every):
        return "The test images were looked at after the last epoch alone."
    said = " or ".join(dict.fromkeys("each" if n == 1 else f"every {n}" for n, _ in every))
    after = "each epoch" if said == "each" else f"{said} epochs and after the last"
    return (
        f"The test images were looked at after {after}; the best of these epochs, by accuracy, is "
        "one that nobody could have chosen without them."
    )


def _commands(found: Iterable[Sequence[Row]]) -> Iterable[str]:
    """Yield the lines that were run; what many of them have in common is said once."""
    lines: dict[str, list[str]] = {}
    for group in found:
        first = group[0]
        seeds = ", ".join(row["seed"] for row in group)
        commits = ", ".join(dict.fromkeys(row["commit"] or "unknown" for row in group))
        around = (
            f"Table `{first['table']}`, seeds {seeds}, subset SHA-256 "
            f"{first['subset_sha256'][:16] or 'none'}, commit {commits}, {first['hardware']}, "
            f"{first['versions']}:"
        )
        lines.setdefault(around, []).append(first["command"])
    yield "\nWhat was run."
    for around, commands in lines.items():
        yield "\n".join(["", around, "", "```text", *commands, "```"])


def conclusions(
    pairs: Sequence[tuple[str, Paired]],
    corrected: Sequence[float],
    least: Sequence[float],
    alpha: float = 0.05,
) -> Iterable[str]:
    """Yield what may be concluded from differences to the baseline, and what may not.

    Args:
        pairs: Methods and their paired differences.
        corrected: Their p values, corrected for all of them.
        least: The least p values that so many seeds can give, corrected likewise.
        alpha: Above it nothing is settled.
    """
    words: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
    for (method, found), p in zip(pairs, corrected, strict=True):
        side = "better" if found.estimate.mean > 0 else "worse"
        words[side if p <= alpha else "open"].append(f"`{method}`")
    yield "\nWhat can be concluded:\n"
    for side in ("better", "worse"):
        if words[side]:
            yield (
                f"- {side.capitalize()} than `{BASELINE}`, p at most {alpha:g} after correction: "
                f"{', '.join(words[side])}."
            )
    if words["open"]:
        floor = float(min(least))
        hopeless = f"; with so few seeds no p can go below {floor:.3g}" if floor > alpha else ""
        yield f"- Not settled by the exact test: {', '.join(words['open'])}{hopeless}."
        apart = [
            f"`{method}`" for method, found in pairs
            if f"`{method}`" in words["open"] and _excludes_zero(found.estimate)
        ]  # fmt: skip
        if apart:
            yield (
                f"- Of these, the t interval of {', '.join(apart)} excludes 0. It assumes normal "
                "differences, and is not corrected for having looked at several methods."
            )
    for method, found in pairs:
        e = found.estimate
        if method == "open" and e.low is not None and e.high is not None:
            yield (
                f"- OPeN's gain over `{BASELINE}` is between {points(e.low)} and {points(e.high)} "
                "points by its 95 % interval, for this network, this number of epochs, this subset "
                "and these test images. That says nothing of larger networks, longer training or "
                "other augmentation."
            )


def _excludes_zero(e: Estimate) -> bool:
    return e.low is not None and e.high is not None and (e.low > 0 or e.high < 0)


def _differences(
    pairs: Sequence[tuple[str, Paired]], corrected: Sequence[float], least: Sequence[float]
) -> Iterable[str]:
    """Yield the table of differences to the baseline, corrected for all comparisons of a board."""
    among = f" after Holm's correction for {len(pairs)}" if len(pairs) > 1 else ""
    yield f"\n| minus `{BASELINE}`, seed by seed | points | 95 % interval | p{among} | least p |"
    yield "|---|---|---|---|---|"
    for (method, found), p, low in zip(pairs, corrected, least, strict=True):
        e = found.estimate
        interval = f"{points(e.low or 0)} to {points(e.high or 0)}"
        yield f"| `{method}` | {points(e.mean)} | {interval} | {p:.3g} | {low:.3g} |"
    yield "\np is that of the exact sign-flip test; with so few seeds it cannot go below the least."


def against_baseline(group: Sequence[Row], found: Sequence[Sequence[Row]]) -> Paired | None:
    """Compare a method with the fair baseline that was run beside it; None if that cannot be."""
    first = group[0]
    same = ("table", "protocol", "hardware", "versions")
    for other in found:
        if other[0]["method"] != BASELINE or other is group:
            continue
        if any(other[0][key] != first[key] for key in same):
            continue
        column = headline(first)
        theirs = {row["seed"]: float(row[column]) for row in other}
        both = [(float(r[column]), theirs[r["seed"]]) for r in group if r["seed"] in theirs]
        if len(both) < 2:
            return None
        return paired([a for a, _ in both], [b for _, b in both])
    return None


def accuracy(group: Sequence[Row]) -> Estimate:
    """Return mean and interval of what the board is about, which every row has."""
    return t_interval([float(row[headline(row)]) for row in group])


def estimate(group: Sequence[Row], column: str) -> Estimate | None:
    """Return mean and interval of a column, None where a run has no such number."""
    values = [row[column] for row in group]
    return t_interval([float(v) for v in values]) if all(values) else None


def spread(e: Estimate) -> str:
    """Return mean and half width in per cent; the mean alone for one seed."""
    if e.high is None:
        return f"{100 * e.mean:.1f}"
    return f"{100 * e.mean:.1f} ± {100 * (e.high - e.mean):.1f}"


def readme_table(ours: Sequence[Row], others: Sequence[Row]) -> str:
    """Return the table of the README: the paper's, the reproduction's and our numbers."""
    lines = ["| | " + " | ".join(SHOWN_METHODS.values()) + " |", "|---" * 4 + "|"]
    for shown in SHOWN:
        board = (*shown, STANDARD)
        *_, network, augmentation = shown
        name = NAMES[network] + (" (flip, crop)" if augmentation == "flip-crop" else "")
        for source, word in SHOWN_SOURCES.items():
            found = {r["method"]: r["accuracy"] for r in others
                     if r["source"] == source and _board(r) == board}  # fmt: skip
            if found:
                cells = [found.get(method, "") for method in SHOWN_METHODS]
                lines.append(f"| {name}, {word} | {' | '.join(cells)} |")
        mine = groups([row for row in ours if _board(row) == board])
        cells = []
        for method in SHOWN_METHODS:
            own = [group for group in mine if group[0]["method"] == method]
            cells.append("; ".join(f"{spread(accuracy(g))} (n = {len(g)})" for g in own) or NONE)
        lines.append(f"| {name}, ours | {' | '.join(cells)} |")
    return "\n".join(lines)
