"""Each switch on and off, in the same run: memory format, compiler, bfloat16, the fused update."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.forms import Forms, Setting
from benchmarks.rows import Rows
from benchmarks.timing import alternate, ratios
from purenoise.optimizer import build_optimizer
from purenoise.speed import why_no_bf16, why_no_compile
from purenoise.trainsection import Train

ROUNDS = {"toy": 2, "small": 9, "full": 30}


def measure(setting: Setting, rows: Rows) -> None:
    """Measure every switch that this device has, for plain and two-pass steps in float32."""
    device, case = rows.device, f"{setting.name} {setting.batch}x{setting.side}"
    setting = replace(setting, bf16=False)
    steps: dict[str, Callable[[], None]] = {}
    for form in ("plain", "two-pass"):
        steps[form] = Forms(setting, device).step(form)
        rows_of_pixels = replace(setting, channels_last=False)
        steps[f"{form}: channels_last=false"] = Forms(rows_of_pixels, device).step(form)
        if why_no_bf16(device, "float32") is None:
            steps[f"{form}: bf16=true"] = Forms(replace(setting, bf16=True), device).step(form)
    if why_no_compile(device, "float32") is None and rows.size != "toy":
        for form, name in (("plain", "plain"), ("masked", "two-pass")):
            step = Forms(setting, device).step(form, compile=True)
            start = time.perf_counter()
            step()
            rows.add("switches", case, f"{form}: compiling", "s", [time.perf_counter() - start])
            steps[f"{name}: compile=true"] = step
    times = alternate(steps, ROUNDS[rows.size], device)
    for name in steps:
        form, _, switch = name.partition(": ")
        if switch:
            rows.add("switches", case, f"{name} / default", "", ratios(times, name, form))
    _update(setting, rows, case)


def _update(setting: Setting, rows: Rows, case: str) -> None:
    """Measure the update of the weights alone: in one kernel, and as torch does it by default."""
    first = Forms(setting, rows.device).first
    steps = {}
    for name, fused in (("fused", True), ("default", False)):
        model = copy.deepcopy(first).to(rows.device)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer = build_optimizer(model, Train(lr=1e-6))
        for group in optimizer.param_groups:
            group["fused"] = fused
        steps[name] = optimizer.step
    times = alternate(steps, max(9, ROUNDS[rows.size]), rows.device, 3)
    rows.add("switches", case, "update: fused", "ms", [1000 * s for s in times["fused"]])
    rows.add(
        "switches", case, "update: fused / default of torch", "", ratios(times, "fused", "default")
    )
