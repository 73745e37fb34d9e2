"""The processes that train one run together, as ``torchrun`` starts them; one alone is the rule.

All plan the same batches from the run's seed and each takes its rows of every batch, so what is
drawn (images, noise, augmentation) does not depend on how many they are. The first process writes;
the others write nothing. What one alone decides or learns (a signal, a fault, the time to save) is
agreed upon, so that no process waits for another that has left.

Host values travel by gloo over the CPU also where gradients travel by NCCL.
"""

from __future__ import annotations

import importlib
import inspect
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from purenoise.errors import PureNoiseError, RunError

Result = TypeVar("Result")
PATIENCE = timedelta(hours=2)  # for the others, which may evaluate or write for long
_wrapped: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # what holds on to the processes' group
LOST = ("Connection closed", "Connection reset", "Broken pipe", "peer", "Timed out", "timed out")


class Team:
    """The processes of a run; made by :func:`joined`, or alone.

    Args:
        rank: Of this process, from 0.
        size: How many there are.
        host: The group by which values of the CPU travel; None: the usual one.
    """

    def __init__(self, rank: int = 0, size: int = 1, host: Any = None) -> None:
        self.rank, self.size, self.host = rank, size, host

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def rows(self, n: int) -> slice:
        """Return this process's share of n rows; shares differ by at most one row.

        Example:
            >>> [Team(rank, 3).rows(7) for rank in range(3)]
            [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return a module whose backward pass averages gradients over the processes.

        Args:
            module: Whose one ``forward`` is a step.
            device: Where it is.
        """
        if self.is_alone:
            return module
        ids = [device] if device.type == "cuda" else None
        wrapper = nn.parallel.DistributedDataParallel
        # Synchronised statistics are the same everywhere; torch gave the switch another name.
        names = inspect.signature(wrapper.__init__).parameters
        switch = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        options: dict[str, Any] = {"device_ids": ids, switch: False}
        whole = wrapper(module, **options)
        _wrapped.add(whole)
        return whole

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether it is true in any process."""
        if self.is_alone:
            return flags
        found = torch.tensor(flags, dtype=torch.uint8)
        self._do(lambda: dist.all_reduce(found, dist.ReduceOp.MAX, group=self.host))
        return tuple(found.bool().tolist())

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the processes, on the device of the values."""
        if self.is_alone:
            return values
        total = values.clone()
        group = self.host if total.device.type == "cpu" else None
        self._do(lambda: dist.all_reduce(total, group=group))
        return total

    def joined_rows(self, own: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        """Return all n rows of which each process has its share (:meth:`rows`), shape (n, C)."""
        if self.is_alone:
            return own
        whole = torch.zeros(n, own.shape[1])
        whole[self.rows(n)] = torch.from_numpy(own)
        self._do(
            lambda: dist.all_reduce(whole, group=self.host)
        )  # every row is zero in all processes but one
        return whole.numpy()

    def sent(self, content: bytes | None) -> bytes | None:
        """Return what the first process gives; the others give anything."""
        if self.is_alone:
            return content
        length = torch.tensor([-1 if content is None else len(content)])
        self._do(lambda: dist.broadcast(length, 0, group=self.host))
        n = int(length)
        if n < 0:
            return None
        data = torch.zeros(n, dtype=torch.uint8)
        if self.leads and content:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if n:
            self._do(lambda: dist.broadcast(data, 0, group=self.host))
        return data.numpy().tobytes()

    def together(self, what: Callable[[], Result]) -> Result:
        """Do something in every process; if it fails in one, all fail with its sentence.

        Raises:
            PureNoiseError: What was raised here, or that another process could not do it.
        """
        if self.is_alone:
            return what()
        found: Result | None = None
        failed: Exception | None = None
        try:
            found = what()
        except Exception as error:  # of any kind: the others must not wait for this process
            failed = error
        own = str(failed) or type(failed).__name__
        texts = self._texts("" if failed is None else own)
        if failed is not None:
            raise shared(failed) if isinstance(failed, PureNoiseError) else failed
        for rank, text in enumerate(texts):
            if text:
                message, _, hint = text.partition("\n")
                raise shared(RunError(f"Process {rank} of {self.size}: {message}", hint))
        return found  # type: ignore[return-value]

    def refuse_differing(self, values: Mapping[str, Any], settings: str = "") -> None:
        """Refuse processes that would not train one and the same run.

        Args:
            values: What must be equal, under the names that a message gives them.
            settings: What is behind them, a line each, of which those that differ are named.

        Raises:
            RunError: Naming what differs, and a process where it does.
        """
        if self.is_alone:
            return
        for name, value in values.items():
            texts = self._texts(str(value))
            other = next((rank for rank, text in enumerate(texts) if text != texts[0]), None)
            if other is not None:
                lines = [[line.strip() for line in text.splitlines()]
                         for text in self._texts(settings)]  # fmt: skip
                first, second = ("; ".join(line for line in lines[a] if line not in lines[b])
                                 for a, b in ((0, other), (other, 0)))  # fmt: skip
                raise shared(RunError(
                    f"The processes of this run differ in the {name}: it is "
                    f"{first[:200] or texts[0][:40]} in process 0 and "
                    f"{second[:200] or texts[other][:40]} in process {other}.",
                    "Start the same command on the same data, under the same paths, everywhere.",
                ))  # fmt: skip

    def _texts(self, own: str) -> list[str]:
        """Return a text of each process, of at most 4,000 bytes."""
        data = torch.zeros(4000, dtype=torch.uint8)
        content = own.encode()[: len(data)]
        data[: len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        parts = [torch.empty_like(data) for _ in range(self.size)]
        self._do(lambda: dist.all_gather(parts, data, group=self.host))
        return [bytes(p.tolist()).rstrip(b"\0").decode(errors="replace") for p in parts]

    def _do(self, exchange: Callable[[], Any]) -> None:
        with losses_told():
            exchange()


@contextmanager
def losses_told() -> Iterator[None]:
    """Turn what torch says when another process has gone into a sentence.

    Raises:
        RunError: If one has gone.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, PureNoiseError) or not is_loss(error):
            raise
        raise shared(RunError(
            "Another process of this run is gone, so this one stops as well. If it ended with a "
            "sentence of its own, that says why.",
            "The states that were saved are kept. Start the same command again to go on; torchrun "
            "does so by itself with --max-restarts=3.",
        )) from error  # fmt: skip


Error = TypeVar("Error", bound=PureNoiseError)


def shared(error: Error) -> Error:
    """Mark an error that every process of a run raises, so that only the first one says it."""
    error.is_shared = True
    return error


def is_loss(error: RuntimeError) -> bool:
    """Whether an error says that another process is no longer there."""
    text = str(error)
    of_network = isinstance(error, dist.DistError) or "gloo" in text or "NCCL" in text
    return of_network and any(word in text for word in LOST)


def here() -> Team:
    """Return the processes of this run as they are joined now."""
    if dist.is_available() and dist.is_initialized():
        return Team(dist.get_rank(), dist.get_world_size())
    return Team()


def announced() -> int:
    """Return how many processes the environment announces (``WORLD_SIZE``); 1 if it says nothing.

    Raises:
        RunError: If it is no number.
    """
    return _number("WORLD_SIZE", 1)


def beside() -> int:
    """Return how many processes of the run share this machine (``LOCAL_WORLD_SIZE``)."""
    return _number("LOCAL_WORLD_SIZE", 1) if announced() > 1 else 1


@contextmanager
def joined() -> Iterator[Team]:
    """Join the processes that ``torchrun`` started; alone, and where they are joined, do nothing.

    Raises:
        RunError: If they cannot be joined.
    """
    there = dist.is_available() and dist.is_initialized()
    if there and "gloo" not in dist.get_backend_config():
        # A caller's group that knows GPUs only: values of the CPU need a way of their own.
        host = dist.new_group(backend="gloo", timeout=PATIENCE)
        try:
            yield Team(dist.get_rank(), dist.get_world_size(), host)
        finally:
            dist.destroy_process_group(host)
        return
    if there or announced() == 1:
        yield here()
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_gpu())
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    # Its functions keep, as default arguments, the group that is there when it is first imported,
    # and torch imports it somewhere in the course of a run: see _leave.
    importlib.import_module("torch.distributed.nn.functional")
    try:
        store, rank, size = next(iter(rendezvous("env://")))
        # torchrun's store outlives a restart: without a prefix, processes that were started anew
        # would look for those before them under the addresses that these have left.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.PrefixStore(f"attempt_{attempt}", store)
        dist.init_process_group(backend, timeout=PATIENCE, world_size=size, rank=rank, store=store)
    except (ValueError, RuntimeError, dist.DistError) as error:
        raise RunError(
            f"The {announced()} processes cannot be joined: {_reason(error)}.",
            "Start them with torchrun, which sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; "
            "a port that is taken is changed with --master-port.",
        ) from error
    try:
        yield here()
    finally:
        _leave()


def _leave() -> None:
    """Leave the group so that no thread of it is left.

    A thread of gloo that lets go of a value while Python ends aborts the process (SIGABRT,
    "terminate called without an active exception") after all has gone well. The threads end with
    the last object that holds the group, so what torch's wrappers keep of it goes first: a caller's
    variable, or the traceback of an error, may still hold a wrapper.
    """
    for wrapper in list(_wrapped):
        for name in ("logger", "reducer", "process_group"):
            wrapper.__dict__.pop(name, None)
    dist.destroy_process_group()


def local_gpu() -> int:
    """Return the GPU of this process on its machine.

    Raises:
        RunError: If there are fewer GPUs than processes.
    """
    number = _number("LOCAL_RANK", 0)
    if number >= torch.cuda.device_count():
        raise RunError(
            f"Process {number} of this machine has no GPU of its own; there are "
            f"{torch.cuda.device_count()}.",
            "Start at most as many processes as there are GPUs.",
        )
    return number


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise RunError(f"The environment variable {name} is {text!r}, which is no number.")
    return int(text)


def _reason(error: Exception) -> str:
    text = str(error)
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        port = os.environ.get("MASTER_PORT", "")
        return f"port {port} of this machine is taken by another program"
    return (text.strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")
