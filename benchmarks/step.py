"""One training step: plain, the paper's listing, two passes, masked."""

from __future__ import annotations

import torch

from benchmarks.counting import ceilings, peak_memory, waits, work
from benchmarks.forms import Forms, Setting
from benchmarks.rows import Rows
from benchmarks.timing import Times, alternate, ratios

ROUNDS = {"toy": 2, "small": 15, "full": 50}
FORMS = ("plain", "natural", "listing", "two-pass", "masked")
COMPARED = (
    ("two-pass", "plain"), ("two-pass", "listing"), ("two-pass", "natural"),
    ("masked", "plain"), ("listing", "plain"),
)  # fmt: skip


def settings(size: str, device: torch.device) -> list[Setting]:
    """Return the networks of a size."""
    bf16 = device.type == "cuda"
    if size == "toy":
        return [Setting("resnet8", 16, 16, 10)]
    small = [Setting("resnet32", 128, 32, 10)]
    if size == "small":
        return small
    return [
        *small,
        Setting("resnet32", 128, 32, 10, bf16),
        Setting("wide_resnet28_10", 128, 32, 10, bf16),
        Setting("torchvision:resnet50", 256, 224, 1000, bf16),
    ]


def measure(setting: Setting, rows: Rows) -> None:
    """Measure all forms of the step of one network."""
    device, case = rows.device, _case(setting)
    forms = Forms(setting, device)
    steps = {name: forms.step(name) for name in FORMS}
    times: Times = {}
    for name, base in COMPARED:  # one pair at a time: caches and heap are as those two leave them
        pair = {name: steps[name], base: steps[base]}
        found = alternate(pair, ROUNDS[rows.size], device, warm_up=1 if rows.size == "toy" else 3)
        rows.add("step", case, f"{name} / {base}: time", "", ratios(found, name, base))
        times = found | times
    for name, seconds in times.items():
        rows.add("step", case, f"{name}: step", "ms", [1000 * s for s in seconds])
        n = forms.n if name == "natural" else setting.batch
        rows.add("step", case, f"{name}: images", "img/s", [n / s for s in seconds])
    _memory(steps, rows, case)
    for name in ("plain", "listing", "two-pass", "masked"):
        rows.add("step", case, f"{name}: waits for the device", "", [waits(steps[name], device)])
    if device.type == "cuda" or rows.size == "toy":
        _share_of_ceilings(setting, rows, steps, times)


def _memory(steps: dict, rows: Rows, case: str) -> None:
    """Measure the peak of tensors during a step, above weights and optimiser."""
    peaks = {name: peak_memory(steps[name], rows.device) for name in steps if name != "natural"}
    for name, peak in peaks.items():
        rows.add("step", case, f"{name}: peak memory", "MiB", [peak / 2**20])
    for name in ("two-pass", "masked", "listing"):
        rows.add("step", case, f"{name} / plain: peak memory", "", [peaks[name] / peaks["plain"]])


def _share_of_ceilings(setting: Setting, rows: Rows, steps: dict, times: dict) -> None:
    """Compare the plain and the two-pass step with what the device can do at best."""
    dtype = torch.bfloat16 if setting.bf16 else torch.float32
    flops, bandwidth = ceilings(rows.device, dtype)
    rows.add("step", _case(setting), "ceiling: arithmetic", "TFLOP/s", [flops / 1e12])
    rows.add("step", _case(setting), "ceiling: memory", "GB/s", [bandwidth / 1e9])
    for name in ("plain", "two-pass"):
        done, touched = work(steps[name])
        best = min(times[name])
        shares = {"arithmetic": done / best / flops, "memory": touched / best / bandwidth}
        for kind, share in shares.items():
            rows.add("step", _case(setting), f"{name}: share of {kind}", "", [share])


def _case(setting: Setting) -> str:
    kind = " bf16" if setting.bf16 else ""
    return f"{setting.name} {setting.batch}x{setting.side}{kind}"
