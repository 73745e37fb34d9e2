"""A report as one HTML file: escaped throughout, without network, readable without scripts.

The one script sorts tables. The page's content security policy allows it by its hash, and nothing
else that runs or loads.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import purenoise
from purenoise.report.document import (
    Document,
    Facts,
    Figure,
    Lines,
    Pictures,
    Sentences,
    Table,
)

_BREAKS = re.compile(r"(?<=\w[:+=_-])(?=\w)")  # inside a name, before its next word
TEMPLATES = Path(__file__).parent / "templates"
GENERATOR = "purenoise report"
KINDS = {Table: "table", Figure: "figure", Pictures: "pictures", Sentences: "sentences",
         Facts: "facts", Lines: "lines"}  # fmt: skip


def to_html(document: Document) -> str:
    """Return a report as a whole HTML page."""
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("report.html.j2")
    return template.render(
        document=document,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=digest,
        generator=f"{GENERATOR} {purenoise.__version__}",
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["kind"] = _kind
    environment.filters["code"] = _code
    environment.filters["breaking"] = breaking
    return environment


def _kind(part: Any) -> str:
    return KINDS[type(part)]


def breaking(text: str) -> Markup:
    """Return escaped text whose names may be broken after ``:``, ``+``, ``=``, ``_``, ``-``.

    Example:
        >>> breaking("open+drs:delta=0.5 <b>")
        Markup('open+<wbr>drs:<wbr>delta=<wbr>0.5 &lt;b&gt;')
    """
    return Markup("<wbr>").join(_BREAKS.split(text))


def _code(text: str) -> Markup:
    """Set what stands between backquotes as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return breaking(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(breaking(part)) if i % 2 else breaking(part)
        for i, part in enumerate(parts)
    )
