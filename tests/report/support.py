"""A report's page, taken apart."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from purenoise.report import report_runs

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """A page taken apart: elements with attributes and depth, and text; refuses bad nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.goes_on = False
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        self.goes_on = tag == "wbr"  # a place where a name may be broken is seen by nobody
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Check that what closes is what was open."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep what a reader sees, and scripts apart."""
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.goes_on:
            self.texts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)
        self.goes_on = False

    @property
    def text(self) -> str:
        """All that a reader sees, on one line."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def make(*folders: Path, out: Path, **options) -> Page:
    """Make a report and take its page apart."""
    _, written = report_runs(list(folders), out=out, **options)
    return Page(written[0].read_text(encoding="utf-8"))
