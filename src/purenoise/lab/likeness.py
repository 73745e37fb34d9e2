"""Whether two recipes train the same, whatever they are called.

What has no effect is left out: options that say what the method says by itself, and keys of noise
and of a second phase where the method has none. Imports no torch.
"""

from __future__ import annotations

import json
from typing import Any

from purenoise.methodfile import LossSpec, Method
from purenoise.recipe import Recipe

OF_NOISE = ("delta", "noise", "stop_gradient", "batch_norm")


def likeness(recipe: Recipe) -> str:
    """Return a text that two recipes have in common if they train the same.

    Example:
        >>> from purenoise.recipe import load_recipe
        >>> a, b = (load_recipe("digits", w) for w in (["method=erm"], ["method=erm", "delta=0.5"]))
        >>> likeness(a) == likeness(b)
        True
        >>> likeness(a) == likeness(load_recipe("digits", ["method=drs"]))
        False
    """
    content, method = recipe.content(), recipe.resolved_method()
    content.pop("options", None)  # the method has them
    kinds = {phase.noise for phase in method.phases} - {"none"}
    idle = [key for key in OF_NOISE if not kinds] + ["delta"] * ("open" not in kinds)
    idle += ["defer"] * (len(method.phases) == 1)
    for key in idle:
        content.pop(key, None)
    return json.dumps(content | {"method": _written_out(method)}, sort_keys=True)


def _written_out(method: Method) -> dict[str, Any]:
    """Return a method with its defaults, and the loss of each phase in the phase."""
    phases = []
    for phase in method.phases:
        written = phase.model_dump(mode="json") | {"loss": _loss(method.loss_of(phase))}
        if phase.mix is not None:
            written["mix"] = {"name": phase.mix.name, **phase.mix.settings()}
        phases.append(written)
    post = None if method.post is None else method.post.model_dump(mode="json")
    if post is not None and post.get("target") == "uniform":
        del post["target"]  # which it is without a word
    return {"phases": phases, "post": post}


def _loss(loss: LossSpec) -> dict[str, Any]:
    written = loss.model_dump(mode="json")
    if not written.get("label_smoothing"):
        written.pop("label_smoothing", None)
    if loss.name != "balanced-softmax":
        written.pop("prior", None)
    return written
