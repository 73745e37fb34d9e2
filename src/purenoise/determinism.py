"""The same bits again on a GPU, where torch can; where it cannot, the operation is named.

On a CPU a run is repeated bit for bit anyway, with the same versions and number of threads. On a
GPU some sums are taken in the order in which threads arrive. ``deterministic=true`` has torch,
cuDNN and cuBLAS take the forms that do not, which are slower; an operation without such a form
still runs, and a warning says which.

Source: torch.use_deterministic_algorithms, whose documentation lists the operations.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # is looked at by cuBLAS, and asked for by torch
FIXED = ":4096:8"
LACKING = re.compile(r"(\S+) does not have a deterministic implementation")
# Of a cuBLAS workspace that lets sums change their order.
UNFIXED = re.compile(r"determinis.*\bCuBLAS\b", re.IGNORECASE | re.DOTALL)


@contextmanager
def deterministic_mode(wanted: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Let torch take deterministic forms where it has them, and give back its settings after.

    Args:
        wanted: False changes nothing.
        tell: Is called with a sentence for each operation that has no such form, once.
    """
    if not wanted:
        yield
        return
    with ExitStack() as stack:
        stack.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        stack.callback(setattr, torch.backends.cudnn, "deterministic",
                       torch.backends.cudnn.deterministic)  # fmt: skip
        if CUBLAS not in os.environ:
            os.environ[CUBLAS] = FIXED
            stack.callback(os.environ.pop, CUBLAS, None)
        stack.enter_context(_named(tell))
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield


@contextmanager
def _named(tell: Callable[[str], None]) -> Iterator[None]:
    """Turn torch's warnings of operations that are not deterministic into sentences of our own."""
    told: set[str] = set()
    with warnings.catch_warnings():
        for words in (LACKING, UNFIXED):
            warnings.filterwarnings("always", message=f"(?s).*{words.pattern}")
        show = warnings.showwarning

        def show_or_tell(message: Warning | str, *rest: Any, **more: Any) -> None:
            what, sentence = _sentence(str(message))
            if not sentence:
                show(message, *rest, **more)
            elif what not in told:
                told.add(what)
                tell(f"deterministic=true: {sentence}: results may differ by rounding from run to "
                     "run.")  # fmt: skip

        warnings.showwarning = show_or_tell
        yield


def _sentence(warning: str) -> tuple[str, str]:
    """Return what is not deterministic by a warning of torch, and how to say it; or nothing."""
    if found := LACKING.search(warning):
        return found[1], f"torch has no such form of {found[1]}, which this network uses"
    if UNFIXED.search(warning):
        return CUBLAS, (
            f"{CUBLAS}={os.environ.get(CUBLAS, '')} lets cuBLAS change the order of sums (unset "
            f"it, or set it to {FIXED} or :16:8)"
        )
    return "", ""
