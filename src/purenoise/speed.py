"""What makes a run fast on the device at hand: decided once, recorded, and said where it cannot be.

A recipe asks (``speed``), the device answers. ``auto`` takes what is known to win there, ``true``
is a wish that falls back with a word, ``force`` is an order that fails with a sentence. None of the
switches changes more than rounding; the tests hold each against the plain path, in float64 except
bf16, which rounds to 8 bits.

Not built, because there was no GPU to prove them on: CUDA graphs of whole steps, and several seeds
side by side on one GPU.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from purenoise.errors import RecipeError
from purenoise.trainsection import Speed

Asked = bool | str


@dataclass(frozen=True)
class Switches:
    """What is on in a run.

    Args:
        step: ``two-pass`` or ``masked``: the form of steps with noise.
        channels_last: Whether images and weights lie in memory channel by channel within a pixel.
        bf16: Whether the model runs under bfloat16 autocast; weights stay float32.
        compile: Whether ``torch.compile`` compiles the model for fixed shapes.
        compile_forced: Whether a model that cannot be compiled is an error.
        masked_asked: Whether the masked form was asked for, compiled or not.
        warnings: Wishes that the device cannot grant, one sentence each.
    """

    step: str = "two-pass"
    channels_last: bool = False
    bf16: bool = False
    compile: bool = False
    compile_forced: bool = False
    masked_asked: bool = False
    warnings: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return what changes rounding, as plain values for a run's identity and summary."""
        kept = ("step", "channels_last", "bf16", "compile")
        return {name: value for name, value in asdict(self).items() if name in kept}

    def without_compiling(self) -> Switches:
        """Return what is on if the model cannot be compiled after all."""
        step = "masked" if self.masked_asked else "two-pass"
        return replace(self, step=step, compile=False)


def resolve_speed(speed: Speed, device: torch.device, precision: str) -> Switches:
    """Decide the switches of a run.

    Args:
        speed: What the recipe asks for.
        device: Where the run takes place.
        precision: Of the weights.

    Raises:
        RecipeError: If what is forced cannot be done; all such faults at once.
    """
    faults: list[str] = []
    warnings: list[str] = []

    def decide(name: str, best: bool, why_not: Callable[[torch.device, str], str | None]) -> bool:
        asked: Asked = getattr(speed, name)
        if asked is False or (asked == "auto" and not best):
            return False
        reason = why_not(device, precision)
        if reason is not None and asked != "auto":
            text = f"speed.{name} cannot be had: {reason}"
            if asked == "force":
                faults.append(text)
            else:
                warnings.append(f"{text}; going on without")
        return reason is None

    on_gpu = device.type == "cuda"
    fast_layout = precision == "float32" and device.type in ("cpu", "cuda")
    channels_last = decide("channels_last", fast_layout, lambda *_: None)
    bf16 = decide("bf16", on_gpu, why_no_bf16)
    compiled = decide("compile", False, why_no_compile)
    if compiled and speed.step == "two-pass":
        warnings.append("speed.compile compiles phases without noise only, as speed.step=two-pass")
    if faults:
        raise RecipeError(". ".join(faults) + ".", "true instead of force falls back with a word.")
    step = "masked" if compiled else "two-pass"
    return Switches(
        step=step if speed.step == "auto" else speed.step,
        channels_last=channels_last,
        bf16=bf16,
        compile=compiled,
        compile_forced=speed.compile == "force",
        masked_asked=speed.step == "masked",
        warnings=tuple(f"{text}." for text in warnings),
    )


def why_no_bf16(device: torch.device, precision: str) -> str | None:
    """Return why bfloat16 autocast cannot be used, or None."""
    if precision != "float32":
        return f"it goes with float32 weights, and precision is {precision}"
    if device.type == "cuda":
        there = torch.cuda.is_bf16_supported(including_emulation=False)
        return None if there else f"{torch.cuda.get_device_name(device)} has no bfloat16 units"
    if device.type == "cpu":
        # Without such units torch emulates them, many times slower than float32.
        return None if _cpu_has_bf16() else "this CPU has no bfloat16 units"
    return f"it was never tried on {device.type}"


def why_no_compile(device: torch.device, precision: str) -> str | None:  # noqa: ARG001
    """Return why ``torch.compile`` cannot be used, or None as far as can be told beforehand."""
    if device.type == "cuda":
        there = importlib.util.find_spec("triton") is not None
        return None if there else "torch.compile needs the package triton on a GPU"
    if device.type != "cpu":
        return f"it was never tried on {device.type}"
    names = (os.environ.get("CXX", ""), "g++", "clang++", "cl" if sys.platform == "win32" else "")
    there = any(shutil.which(name) for name in names if name)
    return None if there else "torch.compile needs a C++ compiler (g++ or clang++) and none is here"


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 numbers itself, by AVX-512 or AMX."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    found = (getattr(torch.cpu, name, None) for name in probes)
    return any(probe() for probe in found if probe is not None)
