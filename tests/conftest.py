"""What every test has: a cache of its own, so that none touches the user's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def cache_root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where decoded images are kept, for this process and those it starts."""
    root = tmp_path_factory.mktemp("cache") / "root"
    monkeypatch.setenv("PURENOISE_CACHE", str(root))
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run on one thread with a random state of its own, as training does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def gloo(tmp_path: Path) -> Iterator[None]:
    """Join a process group of one, without network."""
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="session", autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Let tests of signals mean the same below nohup, where a hangup is ignored."""
    number = getattr(signal, "SIGHUP", None)
    if number is None or signal.getsignal(number) != signal.SIG_IGN:
        yield
        return
    signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, signal.SIG_IGN)
