"""What a page that leaves this machine may say of it: the names of files, never their places.

A run's notes and its command are made for whoever trained it, and name folders of that machine, in
which the names of people and of projects stand. In what is published, paths are cut to their last
part. Imports no torch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

# Where decoded images lie and what they take: it changes no result, and is over with the run.
OF_CACHES = re.compile(r"(?:Some |[\d,]+ of the |The index of )?decoded images\b", re.IGNORECASE)
_START = r"(?:~[\w.-]*/|/|[A-Za-z]:[\\/])"  # of a path that stands by itself
_QUOTED = re.compile(rf"(?P<quote>['\"])(?P<path>{_START}.*?)(?P=quote)")
_BARE = re.compile(rf"(?<![\w.~/\\'\"])(?P<path>{_START}[^\s'\",;()]+)")
_IN_WORD = re.compile(rf"(?<![\w.~/\\])(?P<path>{_START}[^,\]}}]*)")  # of a command: with spaces


def public_notes(notes: Iterable[str], recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Return notes on a run without those on caches, and with names of files for their paths.

    Args:
        notes: Sentences.
        recipe: The run's recipe as plain values: paths in it are known to be some, also if they
            are relative or hold spaces.

    Example:
        >>> public_notes(["Decoded images are kept in '/home/eve/c'.", "No bias in ~/a b.pth."],
        ...              {"model": {"weights": "~/a b.pth"}})
        ('No bias in a b.pth.',)
    """
    known = {text.rstrip("/\\") for text in _texts(recipe) if "/" in text or "\\" in text} - {""}
    one_of = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))  # one may begin another
    pattern = re.compile(rf"(?<![\w.~/\\])(?:{one_of or '(?!)'})(?:[/\\][^\s'\",;()]*)?(?!\w)")
    kept = (note for note in notes if not OF_CACHES.match(note))
    return tuple(public_text(pattern.sub(lambda m: _name(m[0]), note)) for note in kept)


def public_text(text: str) -> str:
    """Return a text with the last part of every absolute path in it.

    Example:
        >>> public_text("many / few, and/or '/home/eve/my photos' in /mnt/x.pth: gone")
        "many / few, and/or 'my photos' in x.pth: gone"
    """
    text = _QUOTED.sub(lambda m: f"{m['quote']}{_name(m['path'])}{m['quote']}", text)
    return _BARE.sub(lambda m: _name(m["path"]), text)


def public_line(line: str) -> str:
    """Return a command line with the last part of every absolute path in its words.

    Example:
        >>> public_line("purenoise train 'data=/home/eve/my photos' out=runs/a epochs=2")
        "purenoise train 'data=my photos' out=runs/a epochs=2"
    """
    words = (_IN_WORD.sub(lambda m: _name(m["path"]), word) for word in shlex.split(line))
    return shlex.join(words)


def _name(path: str) -> str:
    """The last part of a path of either system."""
    kind = PureWindowsPath if "\\" in path or path[1:2] == ":" else PurePosixPath
    return kind(path).name


def _texts(value: Any) -> Iterable[str]:
    """Every text among nested plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
