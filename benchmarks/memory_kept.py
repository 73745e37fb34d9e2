"""What keeping freed memory is worth: the same steps in processes that do and that do not."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.forms import Forms, Setting
from benchmarks.rows import Rows
from purenoise.runtime import keep_freed_memory

PROCESSES = {"toy": 1, "small": 7, "full": 7}
STEPS = {"toy": 2, "small": 8, "full": 8}


def measure(setting: Setting, rows: Rows) -> None:
    """Measure plain and two-pass steps in processes of both kinds, in turns, each by itself."""
    if rows.device.type != "cpu":
        return
    found: dict[str, dict[str, list[float]]] = {"kept": {}, "default": {}}
    for turn in range(PROCESSES[rows.size]):
        for kind in ("kept", "default") if turn % 2 else ("default", "kept"):
            for form in ("plain", "two-pass"):
                words = [kind, form, setting.name, setting.batch, setting.side, rows.threads,
                         STEPS[rows.size]]  # fmt: skip
                command = [sys.executable, "-m", "benchmarks.memory_kept", *map(str, words)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                    found[kind].setdefault(name, []).append(value)
    case = f"{setting.name} {setting.batch}x{setting.side}"
    for name in found["kept"]:
        if name.endswith("faults"):
            for kind in ("kept", "default"):
                rows.add("memory kept", case, f"{name}, {kind}", "", found[kind][name])
            continue
        both = zip(found["kept"][name], found["default"][name], strict=True)
        rows.add("memory kept", case, f"{name}: kept / default", "", [a / b for a, b in both])
    for kind, times in found.items():
        pairs = zip(times["two-pass"], times["plain"], strict=True)
        rows.add("memory kept", case, f"two-pass / plain, {kind}", "", [a / b for a, b in pairs])


def _here(
    kind: str, form: str, name: str, batch: int, side: int, threads: int, steps: int
) -> dict[str, float]:
    """Time steps of one form in this process; median seconds and page faults per step."""
    if kind == "kept":
        keep_freed_memory()
    torch.set_num_threads(threads)
    forms = Forms(Setting(name, batch, side, 10), torch.device("cpu"))
    step = forms.step(form)
    times, faults = [], []
    for turn in range(-3, steps):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        if turn >= 0:
            times.append(seconds)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return {form: statistics.median(times), f"{form}: page faults": statistics.median(faults)}


if __name__ == "__main__":
    words = sys.argv[1:]
    print(json.dumps(_here(*words[:3], *map(int, words[3:]))))
