"""The parts of any classifier: its head (the layers that give the logits) and its last block.

timm's models say which their head is; in other models it is the last layer with a weight matrix.
No library says where blocks begin, so the last one is found by how networks are built: of blocks
of one class, one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def head_names(model: nn.Module) -> list[str]:
    """Return the names of the layers that give the logits; timm has models with two.

    Args:
        model: A classifier.

    Example:
        >>> head_names(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 5)))
        ['2']
    """
    given: Any = getattr(model, "get_classifier", None)
    found = given() if callable(given) else ()
    layers = found if isinstance(found, tuple | list | nn.ModuleList) else (found,)
    heads = [m for m in layers if isinstance(m, nn.Module) and any(True for _ in m.parameters())]
    names = [name for name, module in model.named_modules() if any(module is h for h in heads)]
    return names or _matrices(model)[-1:]


def last_block(model: nn.Module) -> list[str]:
    """Return the names of the layers with weights from the last block on, without the head.

    A block is the largest part, with two weight matrices or more, of a class that occurs more than
    once, unless it is a list of such parts. In a network that is no more than a list of layers
    (VGG), the last hidden layer counts as the block. What is defined after the block (a last norm,
    a last convolution) belongs to it.

    Args:
        model: A classifier.

    Example:
        >>> last_block(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)))
        ['1']
    """
    order = [name for name, m in model.named_modules() if name and _own_parameters(m)]
    heads = _below(order, head_names(model))
    blocks = _blocks(model)
    hidden = [name for name in _matrices(model) if name not in heads]
    first = [blocks[-1]] if blocks else hidden[-1:]
    if not first:
        return []
    start = next(i for i, name in enumerate(order) if _inside(name, first[0]))
    return [name for name in order[start:] if name not in heads]


def _blocks(model: nn.Module) -> list[str]:
    """The names of all blocks, in the order in which they are defined."""
    parts = {
        name: m
        for name, m in model.named_modules()
        if name and not isinstance(m, CONTAINERS) and len(_matrices(m)) > 1
    }
    stages = {type(m) for m in parts.values() if _holds_a_list(m)}
    kinds = Counter(type(m) for m in parts.values() if type(m) not in stages)
    found: list[str] = []
    for name, module in parts.items():  # an outer one comes before an inner one
        if kinds[type(module)] > 1 and not any(_inside(name, outer) for outer in found):
            found.append(name)
    return found


def _holds_a_list(module: nn.Module) -> bool:
    """Whether a part is itself a list of parts of one class."""
    for child in module.children():
        if isinstance(child, CONTAINERS):
            kinds = Counter(type(m) for m in child.children() if len(_matrices(m)) > 1)
            if kinds and max(kinds.values()) > 1:
                return True
    return False


def _matrices(module: nn.Module) -> list[str]:
    """The names of layers that have a weight of two or more dimensions of their own."""
    return [
        name
        for name, m in module.named_modules()
        if any(p.dim() > 1 for p in m.parameters(recurse=False))
    ]


def _own_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _inside(name: str, outer: str) -> bool:
    return name == outer or name.startswith(f"{outer}.")


def _below(names: Sequence[str], outers: Sequence[str]) -> list[str]:
    return [name for name in names if any(_inside(name, outer) for outer in outers)]
