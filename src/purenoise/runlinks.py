"""Links in a run's folder: what is written there must not land anywhere else.

A run folder may come from a stranger, and a link in it, such as ``tb`` to a home folder, would lead
what is written out of it. The folder itself may be a link, as a user makes one to a larger disk.
Links that stay inside are harmless. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from purenoise.errors import RunError

OF_A_RUN = ("recipe.yaml", "summary.json")  # what every finished run has


def refuse_links(folder: Path, *names: str) -> None:
    """Refuse to write into a folder out of which a link in it would lead.

    Args:
        folder: Need not exist; may be a link itself.
        *names: What is to be written, as paths below it; none: anything.

    Raises:
        RunError: Naming the first such link and where it leads.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "tb").symlink_to("/")
        >>> refuse_links(folder, "state")
        >>> refuse_links(folder, "tb")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        purenoise.errors.RunError: ... is a link out of ..., to /: nothing was written there.
        Look where it came from and remove it, or write to another folder.
    """
    home = os.path.realpath(folder)
    for link in _links(folder, names):
        target = os.path.realpath(link)
        if target != home and not target.startswith(os.path.join(home, "")):
            raise RunError(
                f"{link} is a link out of {folder}, to {target}: nothing was written there.",
                "Look where it came from and remove it, or write to another folder.",
            )


def refuse_links_to(path: Path) -> None:
    """Refuse to write a file to which a link of a finished run, in whose folder it is, would lead.

    Args:
        path: Of the file; anywhere.

    Raises:
        RunError: As `refuse_links` does.
    """
    there = Path(os.path.abspath(path))
    for folder in there.parents:
        if all(os.path.lexists(folder / name) for name in OF_A_RUN):
            refuse_links(folder, str(there.relative_to(folder)))


def _links(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the links below a folder, or those on the way to what is to be written."""
    if not names:
        yield from _below(folder)
    for name in names:
        steps = [folder / name, *(folder / name).parents]
        for step in reversed(steps[: steps.index(folder)]):
            if step.is_symlink():
                yield step


def _below(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):  # which goes into no link
        for name in sorted([*folders, *files]):
            path = Path(base, name)
            if path.is_symlink():
                yield path
