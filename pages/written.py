"""Which page holds what, and writing all of them.

A page between marks ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` is made; the rest of it is
typed. docs/api.md is made as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pages import api, keys, pitfalls
from purenoise.errors import RunError

DOCS = Path(__file__).resolve().parents[1] / "docs"
Parts = dict[str, Callable[[], str]]
MARKED: dict[str, Parts] = {
    "recipes.md": {"keys": keys.table, "methods": keys.method_parts},
    "pitfalls.md": pitfalls.PARTS,
}


def made() -> dict[Path, str]:
    """Return every page with its made parts made anew."""
    found = {DOCS / "api.md": api.page()}
    for name, parts in MARKED.items():
        path = DOCS / name
        text = path.read_text(encoding="utf-8")
        for mark, make in parts.items():
            text = filled(text, mark, make())
        found[path] = text
    return found


def write() -> list[str]:
    """Write all pages; return one line for each that changed."""
    changed = []
    for path, text in made().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(f"wrote docs/{path.name}")
    return changed or ["All pages were what they should be."]


def filled(page: str, mark: str, text: str) -> str:
    """Return a page with ``text`` between the marks of that name.

    Raises:
        RunError: If it has no such marks.
    """
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    head, first, rest = page.partition(begin)
    _, last, tail = rest.partition(end)
    if not first or not last:
        raise RunError(f"A page has no marks {begin} and {end}.")
    return f"{head}{begin}\n{text}\n{end}{tail}"
