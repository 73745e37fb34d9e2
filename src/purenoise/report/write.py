"""From run folders to the files of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from purenoise.checkpoint import write_whole
from purenoise.errors import RunError
from purenoise.experiment import Run
from purenoise.lab.comparison import Comparison, analyse
from purenoise.lab.records import Record, read_records
from purenoise.network import load_run
from purenoise.predictions import read_predictions
from purenoise.probes import probe_folder
from purenoise.report.csvfile import COLUMNS, to_csv
from purenoise.report.html import GENERATOR, to_html
from purenoise.report.markdown import MARK, to_markdown
from purenoise.report.page import build
from purenoise.runlinks import refuse_links
from purenoise.runlog import RunFolder

NAME = "report.html"
QUICKLY = 20_000  # images of a folder that are looked at again right after training
MARKS = {".html": f'content="{GENERATOR}', ".md": MARK, ".csv": ",".join(COLUMNS[:4])}


def report_runs(
    folders: Sequence[str | Path],
    *,
    baseline: str | None = None,
    mixed: bool = False,
    out: str | Path | None = None,
    no_class: str | Path | None = None,
) -> tuple[Comparison, list[Path]]:
    """Make a report of finished runs.

    Args:
        folders: Of runs, or of folders that hold runs at any depth.
        baseline: Label of the method that the others are compared with; None: ``drs`` if it is
            among them, else the first.
        mixed: Whether runs by different protocols are set side by side all the same.
        out: The HTML file, or a folder for it; the Markdown and CSV files lie beside it. None:
            ``report.html`` in the one folder that is given, or here.
        no_class: A folder of images of no class, to ask the networks about in place of patches of
            photographs.

    Returns:
        The comparison, and the files that were written.

    Raises:
        RunError: If there are no runs, they are no comparison, or a file cannot be written.
        RecipeError: If the baseline is not among the methods.
        DataError: If ``no_class`` holds no image.
    """
    place = report_place(folders, out)
    records, left_out = read_records(folders)
    comparison = analyse(records, baseline, mixed=mixed, left_out=left_out)
    if no_class is not None:
        comparison = _ask_again(comparison, no_class)
    return comparison, write_report(comparison, place)


def write_report(
    comparison: Comparison, out: str | Path, *, most_images: int | None = None, beside: bool = True
) -> list[Path]:
    """Write a report: a page, and its numbers as Markdown and CSV.

    Args:
        comparison: Of one run or more.
        out: The HTML file, which replaces a report that was there.
        most_images: See :func:`purenoise.report.page.build`.
        beside: Whether the Markdown and CSV files are written too.

    Returns:
        The files that were written.

    Raises:
        RunError: If there is another file or a link in its place, or it cannot be written.
    """
    page = Path(out)
    kinds = (".html", ".md", ".csv") if beside else (".html",)
    files = [page.with_suffix(kind) for kind in kinds]
    refuse_links(page.parent, *(file.name for file in files))
    for file in files:
        _refuse_to_replace(file)
    document = build(comparison, most_images)
    writers: dict[str, Any] = {
        ".html": lambda: to_html(document),
        ".md": lambda: to_markdown(document),
        ".csv": lambda: to_csv(comparison),
    }
    for file in files:
        write_whole(file, writers[file.suffix]().encode("utf-8", "replace"))
    return files


def write_run_report(run: Run) -> Path | None:
    """Write the page of one finished run into its folder, unless there is one or nothing to show.

    Args:
        run: As training returned it.

    Returns:
        The page, if it was written.

    Raises:
        RunError: If it cannot be written.
    """
    place = run.folder / NAME
    if run.summary["test"] is None or (place.exists() and not run.trained):
        return None
    records, left_out = read_records([run.folder], adjusted=False)
    if not records:  # such as a folder that was moved while it trained
        return None
    comparison = analyse(records, left_out=left_out)
    return write_report(comparison, place, most_images=QUICKLY, beside=False)[0]


def report_place(folders: Sequence[str | Path], out: str | Path | None) -> Path:
    """Return where the page is to lie.

    Raises:
        RunError: If that is no place for a page.
    """
    if out is None:
        return Path(folders[0]) / NAME if len(folders) == 1 else Path(NAME)
    place = Path(out)
    if place.is_dir():
        return place / NAME
    if place.suffix.lower() != ".html":
        raise RunError(
            f"out={out} does not end in .html, and is no folder.",
            "The Markdown and CSV files lie beside the page, such as out=results.html.",
        )
    return place.with_suffix(".html")


def _refuse_to_replace(file: Path) -> None:
    """Refuse to write over what is no report."""
    if not file.exists():
        return
    if file.is_file():
        with file.open("rb") as there:
            start = there.read(4000).decode("utf-8", "replace")
        if not start.strip() or MARKS[file.suffix] in start:
            return
    raise RunError(
        f"{file} exists and is no report of purenoise; it was left as it is.",
        "Choose another place with out=FILE.html.",
    )


def _ask_again(comparison: Comparison, folder: str | Path) -> Comparison:
    """Ask every network about the images of a folder."""
    rows = []
    for row in comparison.rows:
        records = tuple(_asked(record, folder) for record in row.records)
        rows.append(replace(row, records=records))
    return replace(comparison, rows=tuple(rows))


def _asked(record: Record, folder: str | Path) -> Record:
    if record.adjusted is not None:  # its network was not kept
        return record
    _, summary, model = load_run(record.folder)
    try:
        logits, _ = read_predictions(RunFolder(record.folder).predictions)
    except RunError:
        logits = None
    found = probe_folder(model, summary, logits, folder)
    probes = {"test": None, "noise": None, **(summary.get("probes") or {}), "no_class": found}
    return replace(record, summary={**record.summary, "probes": probes})
