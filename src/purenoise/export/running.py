"""``export_run``: from a finished run to files that are whole, checked, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from purenoise.checkpoint import write_whole
from purenoise.errors import RecipeError, RunError, did_you_mean
from purenoise.export import onnxfile, plainweights, program
from purenoise.export.card import card_text
from purenoise.export.checking import Probe, probe_of
from purenoise.export.manifest import Manifest
from purenoise.export.source import Finished, describe, load_finished
from purenoise.export.standalone import Standalone
from purenoise.runlinks import refuse_links_to

Format = Literal["weights", "onnx", "pt2", "card"]
NAMES = {
    "weights": "model.safetensors",
    "onnx": "model.onnx",
    "pt2": "model.pt2",
    "card": "card.md",
}
COSINE = (
    "It ends in a cosine classifier, which no unmodified model has: load it as the model card "
    "says, or export onnx or pt2, which hold it whole."
)
READS_CODE = "Reading a .pt2 file can run code: give it only to those who trust you."


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        format: ``weights``, ``onnx``, ``pt2`` or ``card``.
        path: Of the file.
        notes: What was checked, and what a user has to know, one sentence each.
        difference: Largest difference of logits in the check; None for a card.
    """

    format: str
    path: Path
    notes: tuple[str, ...] = ()
    difference: float | None = None


def export_run(
    run: str | Path,
    format: Format = "weights",
    to: str | Path | None = None,
    *,
    force: bool = False,
) -> Exported:
    """Write a finished run as a file for use elsewhere, checked against the run's network.

    Args:
        run: Its folder, or that of an adjusted run.
        format: ``weights`` (safetensors for the plain model), ``onnx``, ``pt2``
            (``torch.export``) or ``card`` (a model card in Markdown).
        to: File or folder; None: ``RUN/export``.
        force: Whether a file that is there may be replaced.

    Returns:
        Where the file lies, and what was checked.

    Raises:
        PureNoiseError: If the run is not finished, the format or its suffix is not known, a library
            is missing, the file exists, or the exported network answers otherwise than the run's.

    Example:
        >>> import purenoise as pn
        >>> pn.export_run("runs/digits/open/seed-0", "onnx", "model.onnx")  # doctest: +SKIP
    """
    return export_all(run, [format], to, force=force)[0]


def export_all(
    run: str | Path, formats: Sequence[str], to: str | Path | None = None, *, force: bool = False
) -> list[Exported]:
    """Do what :func:`export_run` does for several formats, loading the run once."""
    for name in formats:
        if name not in get_args(Format):
            raise RecipeError(f"There is no format {name!r}.", did_you_mean(name, NAMES))
    if "onnx" in formats:
        onnxfile.needed("onnx", "onnxscript", "onnxruntime")
    found = load_finished(run)
    places = {name: _place(found, name, to, len(formats)) for name in formats}
    _check_places(found, list(places.values()), force)
    work = _Work(found)
    made = []
    for name, path in places.items():
        content, one = work.make(name, path)
        try:
            write_whole(path, content)
        except RunError as error:
            hint = "Free some space, or choose another place with to=PLACE."
            raise RunError(error.message, hint) from error
        made.append(one)
    return made


class _Work:
    """One run on its way out."""

    def __init__(self, found: Finished) -> None:
        self.found = found
        self.network = Standalone(found.model, *found.summary["normalize"])

    @cached_property
    def probe(self) -> Probe:
        return probe_of(self.found)

    @cached_property
    def manifest(self) -> Manifest:
        return describe(self.found, self.probe.said)

    def make(self, name: str, path: Path) -> tuple[bytes, Exported]:
        """Return a file's content, checked, and what is to be said of it."""
        if name == "card":
            return card_text(self.found, self.manifest).encode(), Exported(name, path)
        kinds: dict[str, Callable[[], tuple[bytes, float]]] = {
            "weights": self._weights, "onnx": self._onnx, "pt2": self._program,
        }  # fmt: skip
        content, worst = kinds[name]()
        said = f"Checked on {self.probe.said}: logits differ by {worst:.1g} at most."
        cosine = name == "weights" and self.manifest.head == "cosine"
        notes = (said, *[COSINE] * cosine, *[READS_CODE] * (name == "pt2"))
        return content, Exported(name, path, notes, worst)

    def _weights(self) -> tuple[bytes, float]:
        content = plainweights.weights_bytes(self.found.model, self.manifest)
        check = plainweights.check_weights(content, self.network, self.manifest, self.probe)
        return content, check

    def _onnx(self) -> tuple[bytes, float]:
        content = onnxfile.onnx_bytes(self.network, self.found.image_shape, self.manifest)
        return content, onnxfile.check_bytes(content, self.network, self.probe)

    def _program(self) -> tuple[bytes, float]:
        traced = program.traced(self.network, self.found.image_shape)
        content = program.program_bytes(traced, self.manifest)
        return content, program.check_program(content, self.network, self.probe)


def _place(found: Finished, name: str, to: str | Path | None, n_formats: int) -> Path:
    """Return the file of a format."""
    if to is None:
        return found.folder / "export" / NAMES[name]
    path, suffix = Path(to), Path(NAMES[name]).suffix
    if path.is_dir() or str(to).endswith("/") or (n_formats > 1 and not path.suffix):
        return path / NAMES[name]
    if n_formats > 1:
        raise RecipeError(f"to={to} names one file for {n_formats} formats.", "Name a folder.")
    if path.suffix != suffix:
        raise RecipeError(
            f"{name} goes to a {suffix} file, got {str(path)!r}.",
            f"Name such a file, or a folder with a / at its end: to={path}/",
        )
    return path


def _check_places(found: Finished, paths: Sequence[Path], force: bool) -> None:
    """Refuse files that are there, all at once, and those that the run itself needs."""
    own = {found.run.resolve(), found.folder.resolve()}
    inside = [str(path) for path in paths if path.resolve().parent in own]
    if inside:
        raise RunError(
            f"{', '.join(inside)} would lie among the files of the run itself.",
            f"Leave to= out, for {found.folder / 'export'}, or choose another folder.",
        )
    for path in paths:
        refuse_links_to(path)
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise RunError(
            f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'}; nothing was written.",
            "Choose another place with to=PLACE, or replace with --force (force=True in Python).",
        )
