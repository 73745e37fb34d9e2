"""Which GPU a process or a worker takes, counted without one."""

from __future__ import annotations

import pytest
import torch

from purenoise.errors import RunError
from purenoise.lab.starting import gpu_places
from purenoise.runtime import resolve_device
from purenoise.team import local_gpu


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let torch believe in two GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("CUDA_VISIBLE_DEVICES", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_each_worker_has_a_gpu_of_its_own(gpus: pytest.MonkeyPatch) -> None:
    """They are those that the user made visible; a device with a number is everybody's."""
    shown = "CUDA_VISIBLE_DEVICES"
    assert gpu_places("auto") == [{shown: "0"}, {shown: "1"}]
    gpus.setenv(shown, "5, 3,1")
    assert gpu_places("cuda") == [{shown: "5"}, {shown: "3"}]
    assert gpu_places("cuda:1") == []
    gpus.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_places("cuda") == []


def test_each_process_has_a_gpu_of_its_own(gpus: pytest.MonkeyPatch) -> None:
    """The number on the machine says which; alone it is torch's own choice."""
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    gpus.setenv("WORLD_SIZE", "4")
    gpus.setenv("LOCAL_RANK", "1")
    assert local_gpu() == 1
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 1)
    gpus.setenv("LOCAL_RANK", "2")
    with pytest.raises(RunError, match=r"Process 2 .* no GPU of its own; there are 2"):
        local_gpu()
