"""What the methods of a report are, a sentence each, for a reader who has only the page.

The sentences are the first ones of the methods' files, as ``purenoise recipes list`` shows them; a
combination says what it is put together from, and its parts are said with the others.
"""

from __future__ import annotations

from purenoise.lab.comparison import Comparison
from purenoise.methodfile import DEFERRED, METHODS, known_methods, load_method, method_names
from purenoise.report.document import Sentences
from purenoise.report.wording import clean
from purenoise.yamlfile import head_sentence


def methods_said(comparison: Comparison) -> Sentences:
    """Return one sentence for each method that is shown, and for each part of a combination."""
    said: dict[str, str] = {}
    for row in comparison.rows:
        _say(row.records[0].recipe.method_name(), said)
    return Sentences(tuple(f"{clean(name)}: {text}" for name, text in said.items()), "small")


def _say(name: str, said: dict[str, str]) -> None:
    """Add a method and what it is made of, in the order in which a reader meets them."""
    if name in said:
        return
    parts = method_names(name)
    if len(parts) > 1:
        said[name] = _put_together(*parts)
        for part in parts:
            _say(part, said)
    elif name in known_methods():
        said[name] = head_sentence(METHODS / f"{name}.yaml")
    elif name.startswith(DEFERRED):
        base = name.removeprefix(DEFERRED)
        same = len(load_method(name).phases) == 1  # what comes after training cannot come later
        said[name] = (
            f"The same as {base}, which comes after training." if same
            else f"Plain training first, {base} from the second phase on."
        )  # fmt: skip
        _say(base, said)
    else:
        said[name] = "Written out in the recipe; its phases are below."


def _put_together(a: str, b: str) -> str:
    """Say what a combination has of each of its two parts."""
    said = [f"Sampler and noise of {a}, loss and class weights of {b}"]
    for part in (a, b):
        method = load_method(part)
        said += [f"mixing of {part}"] * any(phase.mix for phase in method.phases)
        said += [f"training of the last layer of {part}"] * any(p.head for p in method.phases)
        said += [f"adjustment of {part}"] * (method.post is not None)
    return f"{', '.join(said)}."
