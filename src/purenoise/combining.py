"""``A+B``: two methods put together, so that nothing that makes up either of them is lost unseen.

Sampler and noise are of A, loss and class weights of B; mixing, a second stage of the head or an
adjustment at last are of the one that has it. A second stage brings along the sampler and the class
weights that it learns with. What would be lost is refused: a table must not call a method by the
name of something that it does not contain. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from purenoise.errors import RecipeError

if TYPE_CHECKING:  # which asks this module to put methods together
    from purenoise.methodfile import Method, PhaseSpec, Start

RULE = "A+B takes sampler and noise of A, loss and class weights of B"
# What each part of a phase is called, and what it is in plain training.
_PARTS = {
    "sampler": ("sampler", "instance"),
    "noise": ("noise", "none"),
    "weights": ("class weights", "none"),
}


def combine(name: str, a: Method, b: Method) -> Method:
    """Put two methods together.

    Args:
        name: ``A+B``, for messages.
        a: Gives sampler and noise.
        b: Gives loss and class weights.

    Raises:
        RecipeError: If a part of one of them would be lost or comes twice, or the class shares
            would be taken out twice.
    """
    _refuse_two_of_a_kind(name, a, b)
    found = _joined(a, b)
    _refuse_twice_adjusted(name, found, _joined(b, a))
    lost = [(part, _lost(method, found)) for part, method in zip(_parts(name), (a, b), strict=True)]
    if any(what for _, what in lost):
        said = " and ".join(f"{' and '.join(what)} of {part!r}" for part, what in lost if what)
        raise RecipeError(f"Method {name!r} would lack {said}: {RULE}.", _other_way(name, a, b))
    return found


def counters(method: Method) -> list[str]:
    """Say what a method does in its last phase against the class shares of its training images.

    Example:
        >>> from purenoise.methodfile import load_method
        >>> counters(load_method("drw")), counters(load_method("erm"))
        (['its last phase weighs classes (effective-number)'], [])
    """
    last = method.phases[-1]
    loss = method.loss_of(last).name
    said = [f"its last phase samples by {last.sampler!r}"] * (last.sampler != "instance")
    said += [f"its last phase weighs classes ({last.weights})"] * (last.weights != "none")
    said += [f"its loss is {loss!r}"] * (loss in ("balanced-softmax", "ldam"))
    return said


def adjusted_twice(method: Method) -> list[str]:
    """Say what takes the class shares out before logit adjustment does so again, if it does."""
    post = method.post
    adjusts = post is not None and post.name == "logit-adjustment" and post.tau != 0
    if not adjusts or post is None or post.prior != "train":
        return []
    return counters(method)


def _joined(a: Method, b: Method) -> Method:
    """Join two methods, whatever is lost."""
    starts: list[Start] = ["begin"]
    if len(a.phases) + len(b.phases) > 2:
        starts.append("defer")
    phases = [_phase(start, a.at(start), b.at(start)) for start in starts]
    if phases[-1].model_copy(update={"start": "begin"}) == phases[0]:  # nothing changes there
        phases = phases[:1]
    post = a.post or b.post
    adjusts = post is not None and post.name == "logit-adjustment" and post.prior == "train"
    if post is not None and adjusts and phases[-1].sampler != "instance":
        # What resampling has evened out already must not be taken out again.
        post = post.model_copy(update={"prior": "sampled"})
    return type(a)(loss=b.loss, phases=phases, post=post)


def _phase(start: Start, a: PhaseSpec, b: PhaseSpec) -> PhaseSpec:
    changes: dict[str, Any] = {"start": start, "weights": b.weights, "loss": b.loss}
    changes |= {"mix": a.mix or b.mix, "head": a.head or b.head}
    if b.head is not None and a.sampler == "instance":
        changes["sampler"] = b.sampler
    if a.head is not None and b.weights == "none":
        changes["weights"] = a.weights
    return a.model_copy(update=changes)


def _lost(method: Method, found: Method) -> list[str]:
    """Name what a method has beyond plain training and a combination lacks, each once."""
    lost: dict[str, None] = {}
    plain = type(method.loss)()
    starts: list[Start] = ["begin", "defer"]
    for start in starts:
        own, phase = method.at(start), found.at(start)
        for key, (called, none) in _PARTS.items():
            value = getattr(own, key)
            if value not in (none, getattr(phase, key)):
                lost[f"the {called} {value!r}"] = None
        loss = method.loss_of(own)
        if loss not in (plain, found.loss_of(phase)):
            lost[f"the loss {loss.name!r}"] = None
    return list(lost)


def _other_way(name: str, a: Method, b: Method) -> str:
    """Say what holds all of both methods."""
    first, second = _parts(name)
    other = _joined(b, a)
    if _lost(a, other) or _lost(b, other):
        return (
            "The other way round something would be lost too. Leave one of them out, or write the "
            "loss and phases that are wanted into a recipe, under method."
        )
    same = [part for part, method in ((first, a), (second, b)) if method == other]
    return f"Did you mean {(same or [f'{second}+{first}'])[0]!r}?"


def _refuse_two_of_a_kind(name: str, a: Method, b: Method) -> None:
    """Refuse two ways of mixing, two second stages or two adjustments that are not the same."""
    heads = [{phase.head for phase in method.phases} - {None} for method in (a, b)]
    twice = [
        (heads[0] and heads[1] and heads[0] != heads[1], "a way of their own to train the head"),
        (a.post and b.post and a.post != b.post, "an adjustment of the trained network"),
    ]
    for clash, what in twice:
        if clash:
            raise RecipeError(
                f"Both methods of {name!r} have {what}.", "At most one of A+B may have one."
            )
    starts: list[Start] = ["begin", "defer"]
    mixes = [(a.at(start).mix, b.at(start).mix) for start in starts]
    both = all(any(column) for column in zip(*mixes, strict=True))
    if both and any(of_a != of_b for of_a, of_b in mixes):
        raise RecipeError(
            f"Both methods of {name!r} mix images, and not in the same way at the same time.",
            "At most one of A+B may mix: take sampler or loss from a method without mixing.",
        )


def _refuse_twice_adjusted(name: str, *ways: Method) -> None:
    """Refuse, in either order, to take out after training a prior that the training takes out."""
    found = [why for method in ways for why in adjusted_twice(method)]
    twice = [why for why in dict.fromkeys(found) if "'ldam'" not in why]  # margins are no prior
    if twice:
        raise RecipeError(
            f"Method {name!r} would take the class shares out twice: while it trains "
            f"({', '.join(twice)}) and by logit adjustment at the end.",
            "Leave one of the two out. For other shares than all alike, `purenoise adjust RUN "
            "tau=0 prior=...` adjusts a run of the other method.",
        )


def _parts(name: str) -> list[str]:
    return [part.strip() for part in name.split("+")]
