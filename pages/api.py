"""docs/api.md: the public names, from their docstrings.

A docstring is Google's kind with three more words of the house: Source, Differs and Example with a
doctest, which tests/test_doctests.py runs. Only what is public is listed: `purenoise.__all__`, and
some names of modules that pages refer to.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import purenoise

# Public names in groups, in the order in which one meets them.
GROUPS: dict[str, tuple[str, ...]] = {
    "The method in one's own loop": (
        "convert", "revert", "PureNoise", "NoiseAugment", "noise_pass", "two_pass", "TwoPass",
        "pixel_statistics",
    ),
    "Batch norm": (
        "DARBatchNorm1d", "DARBatchNorm2d", "DARBatchNorm3d", "DARSyncBatchNorm", "dar_batch_norm",
    ),
    "Samplers": (
        "InstanceSampler", "ClassBalancedSampler", "SquareRootSampler", "EffectiveNumberSampler",
        "ProgressiveSampler", "DeferredSampler",
    ),
    "Losses": ("CrossEntropyLoss", "FocalLoss", "LDAMLoss", "LogitAdjustedLoss"),
    "Data": (
        "imbalanced_counts", "long_tail_subset", "ImbalancedCIFAR10", "ImbalancedCIFAR100",
        "ArrayData",
    ),
    "Experiments": (
        "train", "compare", "adjust_run", "export_run", "evaluate_logits", "OPeNClassifier",
        "PureNoiseError",
    ),
}  # fmt: skip
# Beside the public names: what is imported from its module.
MODULES: dict[str, tuple[str, ...]] = {
    "purenoise.models": ("build_model", "model_names"),
    "purenoise.losses": ("LabelAwareSmoothingLoss", "build_loss"),
    "purenoise.lossbase": ("ClassificationLoss",),
    "purenoise.samplers": ("ClassSampler", "labels_of", "effective_number_weights"),
    "purenoise.noise": ("replacement_probabilities", "choose_noise", "noise_images"),
    "purenoise.longtail": ("groups", "imbalance", "subset_sha256"),
    "purenoise.schedules": ("boundary", "learning_rate"),
    "purenoise.recipe": ("load_recipe", "Recipe"),
    "purenoise.data.types": ("Dataset", "Split", "MemoryImages"),
    "purenoise.errors": ("RecipeError", "DataError", "ModelError", "TrainingError",
                         "RunError"),
}  # fmt: skip
HEADS = (
    "Args",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "Example",
    "Source",
    "Differs",
    "Note",
)
INTRO = """\
# API

`import purenoise as pn` offers the names below without waiting for torch. This page is made from
their docstrings (`python -m pages write`); a test runs every example except lines with `+SKIP`,
which take longer. All errors that a user can cause are subclasses of `PureNoiseError`, with a
sentence and a hint.
"""


def page() -> str:
    """Return the page."""
    parts = [INTRO, *(_contents()), ""]
    for group, names in GROUPS.items():
        parts.append(f"## {group}\n")
        for name in names:
            parts += _entry(f"pn.{name}", name, getattr(purenoise, name))
    parts.append("## In modules\n")
    for module, names in MODULES.items():
        inside = importlib.import_module(module)
        for name in names:
            parts += _entry(f"{module}.{name}", name, getattr(inside, name))
    return "\n".join(parts).rstrip() + "\n"


def _contents() -> Iterator[str]:
    for group, names in GROUPS.items():
        yield f"- {group}: {', '.join(f'[`{n}`](#pn{n.lower()})' for n in names)}"
    for module, names in MODULES.items():
        at = module.replace(".", "")
        links = ", ".join(f"[`{n}`](#{at}{n.lower()})" for n in names)
        yield f"- In `{module}`: {links}"


def _entry(title: str, name: str, thing: Any) -> Iterator[str]:
    yield f"### {title}\n"
    yield f"```text\n{signature(name, thing)}\n```\n"
    yield markdown(inspect.getdoc(thing) or "")
    if inspect.isclass(thing):
        yield from _methods(thing)


def _methods(kind: type) -> Iterator[str]:
    """Yield attributes and methods; of bases that are public themselves, only their names."""
    found: dict[str, Any] = {}
    public = []
    for base in kind.__mro__:
        if not base.__module__.startswith("purenoise"):
            continue
        if base is not kind and not base.__name__.startswith("_"):
            public.append(base.__name__)
            continue
        if base is not kind and "\nAttributes:" in (doc := inspect.getdoc(base) or ""):
            yield markdown(doc[doc.index("Attributes:") :])
        for name, value in vars(base).items():
            listed = name == "__call__" or not name.startswith("_")
            if listed and _is_method(value) and value.__doc__:
                found.setdefault(name, value)
    lines = [
        f"- `{name}{'' if isinstance(value, property) else _arguments(value)}`: "
        f"{_inline(_first(value.__doc__))}"
        for name, value in found.items()
    ]
    if lines:
        yield "It has:\n\n" + "\n".join(lines) + "\n"
    listed = {name for names in (*GROUPS.values(), *MODULES.values()) for name in names}
    if (of_base := [name for name in public if name in listed]) and not issubclass(kind, Exception):
        yield f"And what `{of_base[0]}` has.\n"


def _is_method(value: Any) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)


def _arguments(value: Any) -> str:
    function = getattr(value, "__func__", value)
    names = [
        {2: "*", 4: "**"}.get(p.kind, "") + p.name
        for p in inspect.signature(function).parameters.values()
        if p.name not in ("self", "cls")
    ]
    return f"({', '.join(names)})"


def _first(doc: str) -> str:
    """Return the first sentence of a docstring."""
    return " ".join(doc.strip().split("\n\n")[0].split())


def signature(name: str, thing: Any) -> str:
    """Return ``name(arguments) -> kind``, on several lines if it is long.

    Annotations stand as they are written; torch's own classes have no signature of ours.
    """
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return f"{name}(message, hint='')"
    if hasattr(thing, "model_fields"):
        return name
    found = inspect.signature(thing)
    parts = [_unquoted(str(p)) for p in found.parameters.values()]
    for i, p in enumerate(found.parameters.values()):
        if p.kind is p.KEYWORD_ONLY:
            if not any(q.kind is q.VAR_POSITIONAL for q in found.parameters.values()):
                parts.insert(i, "*")
            break
    gives = found.return_annotation
    none = gives is inspect.Signature.empty or inspect.isclass(thing)
    tail = "" if none else f" -> {_unquoted(inspect.formatannotation(gives))}"
    line = f"{name}({', '.join(parts)}){tail}"
    if len(line) <= 90:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){tail}"


def _unquoted(text: str) -> str:
    """Return an argument without the quotes of an annotation that is kept as text."""
    return re.sub(r"""(: |^)(['"])(.*)\2(?= =|$)""", r"\1\3", text)


def markdown(doc: str) -> str:
    """Return a docstring as Markdown: sections as lists, examples as blocks."""
    out: list[str] = []
    for head, body in _sections(doc):
        if head is None:
            out += [_inline(paragraph) + "\n" for paragraph in _paragraphs(body)]
        elif head == "Example":
            out.append("```pycon\n" + inspect.cleandoc("\n" + body) + "\n```\n")
        elif head in ("Args", "Attributes", "Raises", "Warns"):
            out.append(f"{head}:\n")
            out += [f"- `{name}`: {_inline(text)}" for name, text in _items(body)]
            out.append("")
        else:
            text = " ".join(inspect.cleandoc(body).split())
            out.append(f"{head}: {_inline(text)}\n")
    return "\n".join(out)


def _sections(doc: str) -> Iterator[tuple[str | None, str]]:
    """Yield (head, text); text before the first head has none."""
    head: str | None = None
    lines: list[str] = []
    for line in doc.splitlines():
        found = re.match(rf"({'|'.join(HEADS)}):(?: (.*))?$", line)
        if found:
            if any(lines):
                yield head, "\n".join(lines)
            head, lines = found[1], [found[2] or ""]
        elif head is not None and line and not line.startswith(" ") and not lines[-1]:
            yield head, "\n".join(lines)  # prose again, after a section
            head, lines = None, [line]
        else:
            lines.append(line)
    if any(lines):
        yield head, "\n".join(lines)


def _paragraphs(text: str) -> list[str]:
    return [p.strip("\n") for p in text.strip().split("\n\n") if p.strip()]


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each entry: an entry begins where the indentation is least."""
    name, words = "", []
    for line in inspect.cleandoc("\n" + text).splitlines():
        begins = re.match(r"([^\s:][^:]*): (.*)$|([^\s:][^:]*):$", line)
        if begins and not line.startswith(" "):
            if name:
                yield name, " ".join(words)
            name, words = begins[1] or begins[3], [begins[2] or ""]
        else:
            words.append(line.strip())
    if name:
        yield name, " ".join(words)


def _inline(text: str) -> str:
    """Return text with code in single backticks, and references as code."""
    text = re.sub(r":\w+:`~?(?:purenoise\.)?([^`]+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)
