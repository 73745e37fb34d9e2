"""Workers on the nodes of a Ray cluster, with the interface of those of this machine.

On its node each is a Ray actor that holds one worker process of :mod:`purenoise.lab.pool`: the same
program that trains runs here, with threads and random state of its own, so the same bits come out.
If the actor goes, with its node or alone, the process loses its input and ends at once; the run is
then given to another worker, which goes on from the run's last state. Ray restarts nothing itself.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purenoise.lab.executors import Message
from purenoise.lab.place import Place
from purenoise.lab.pool import Pool
from purenoise.lab.raycluster import (
    Demand,
    Inspection,
    Node,
    common_places,
    demand_of,
    nodes_for,
    refuse_too_small,
    refuse_unfit,
)

NEWCOMERS = 5.0  # seconds between looks at which nodes there are
INSPECTED = 120.0  # seconds in which a node must have answered
LISTEN = (
    5.0  # seconds that an actor waits for news of its process before it says that there is none
)
PATIENCE = 60.0  # seconds without any worker before that is said
STARTS = 3  # of workers on a node, one after another in vain, before it is left out


class Host:
    """Holds one worker process on a node; a Ray actor.

    Args:
        folder: Where the process works, if it is there on the node.
    """

    def __init__(self, folder: str) -> None:
        self.pool = Pool(1, folder=folder if Path(folder).is_dir() else None)

    def begin(self) -> None:
        """Start the process, so that it is ready when the task comes."""
        self.pool.idle()

    def give(self, content: Message) -> None:
        """Give the process a task; one that has died is replaced."""
        self.pool.give(self.pool.idle(), True, content)

    def told(self) -> list[Message]:
        """Return what it told meanwhile."""
        found: list[Message] = []
        while heard := self.pool.next_message(0 if found else LISTEN):
            worker, message = heard
            if message["kind"] in ("done", "failed", "stopped", "died"):
                worker.task = None
            found.append(message)
        return found

    def stop(self) -> None:
        """Ask it to keep its state and stop."""
        self.pool.stop()


@dataclass(eq=False)
class RayWorker:
    """A worker as the driver sees it.

    Args:
        node: Where it is.
        actor: Ray's handle.
        ready: Whether its node has started it.
        task: What it is doing, or None.
        asked_to_stop: Whether it was told to keep its state and stop.
    """

    node: Node
    actor: Any
    ready: bool = False
    task: Any = None
    asked_to_stop: bool = False


class RayWorkers:
    """Workers on a cluster that this process is connected to.

    Args:
        cluster: Where it is, for messages.
        demand: What a run takes of a node.
        limit: How many workers at most.
        inspection: Asks nodes whether they can take runs.
    """

    def __init__(self, cluster: str, demand: Demand, limit: int, inspection: Inspection) -> None:
        self.cluster, self.demand, self.limit = cluster, demand, limit
        self.inspection = inspection
        self.workers: list[RayWorker] = []
        self.known: dict[str, bool] = {}  # whether a node can take runs
        self.fit: list[Node] = []
        self._in_vain: Counter[str] = Counter()  # starts of workers, by node
        self._asked: dict[Any, Node] = {}
        self._calls: dict[Any, RayWorker] = {}  # of actors that tell something
        self._given: dict[Any, RayWorker] = {}  # of actors that were given a task
        self._places: list[Place] | None = None
        self._messages: deque[tuple[RayWorker | None, Message]] = deque()
        self._looked_at = self._worked_at = 0.0

    @property
    def jobs(self) -> int:
        """How many runs train at a time."""
        return min(self.limit, sum(node.slots for node in self.fit))

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers; those at work are ended in the middle of it."""
        for worker in self.workers:
            self._end(worker)
        self.workers.clear()
        self._calls.clear()
        self._given.clear()

    def inspect(self) -> tuple[list[Place] | None, str]:
        """Ask all nodes whether they can take runs, and where runs would take place on them.

        One that leaves the cluster meanwhile is said to be gone, and not asked for more.

        Raises:
            RunError: If some cannot, with all reasons.
        """
        refuse_too_small(self.demand, self.cluster)
        asked = {self.inspection.ask(n, self.demand): n for n in nodes_for(self.demand)}
        answers = self._answers(asked, INSPECTED)
        there = {node.id for node in nodes_for(self.demand)}
        for node in list(answers):
            if isinstance(answers[node], Exception) and node.id not in there:
                self.note(f"node {node.name} is gone")
                del answers[node]
        if not answers:
            return self.inspect()
        nodes = [node for node in asked.values() if node in answers]
        faults = [f for n in nodes for f in self.inspection.faults(n, answers[n])]
        refuse_unfit(faults, self.inspection.out)
        self.fit = nodes
        self.known = {node.id: True for node in nodes}
        self._places, why_not = common_places(answers)
        return self._places, why_not

    def _answers(self, asked: Mapping[Any, Node], seconds: float) -> dict[Node, Any]:
        import ray

        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
        found: dict[Node, Any] = {asked[ref]: _result(ref) for ref in done}
        silent = TimeoutError(f"no answer in {seconds:.0f} seconds")
        return found | {asked[ref]: silent for ref in late}

    def idle(self) -> RayWorker | None:
        """Return a worker without a task, or None; one more is started if there is room."""
        for worker in self.workers:
            if worker.ready and worker.task is None:
                return worker
        if len(self.workers) < self.jobs:
            self._start()
        return None

    def give(self, worker: RayWorker, task: Any, content: Message) -> None:
        """Give a worker a task, with whole paths."""
        worker.task = task
        whole = {key: os.path.abspath(content[key]) for key in ("folder", "store")}
        self._given[worker.actor.give.remote({**content, **whole})] = worker

    def next_message(self, timeout: float) -> tuple[RayWorker | None, Message] | None:
        """Return what a worker told, or None after about ``timeout`` seconds.

        A worker that was lost tells ``{"kind": "died", "said": ...}``, once.
        """
        if not self._messages:
            self._look_around()
            self._listen(timeout)
        return self._messages.popleft() if self._messages else None

    def stop(self) -> None:
        """Ask all workers to keep the state of what they are doing and stop."""
        for worker in self.workers:
            if worker.task is not None and not worker.asked_to_stop:
                worker.asked_to_stop = True
                worker.actor.stop.remote()

    def _listen(self, timeout: float) -> None:
        """Wait for one answer of an actor or a node."""
        import ray

        waiting = [*self._calls, *self._given, *self._asked]
        if not waiting:
            time.sleep(timeout)
            return
        done, _ = ray.wait(waiting, timeout=timeout)
        for ref in done:
            found = _result(ref)
            if ref in self._asked:
                self._admit(self._asked.pop(ref), found)
                continue
            tells = ref in self._calls
            worker = (self._calls if tells else self._given).pop(ref)
            if isinstance(found, Exception):
                self._lose(worker, found)
            if isinstance(found, Exception) or not tells:
                continue
            worker.ready = True
            self._in_vain[worker.node.id] = 0
            self._messages.extend((worker, message) for message in found or [])
            self._calls[worker.actor.told.remote()] = worker

    def _start(self) -> None:
        """Start a worker on the node with the most room."""
        import ray

        used = [worker.node.id for worker in self.workers]
        node = max(self.fit, key=lambda n: n.slots - used.count(n.id))
        place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        actor = ray.remote(Host).options(
            **self.demand.options(), scheduling_strategy=place, max_restarts=0, max_concurrency=4
        )
        worker = RayWorker(node, actor.remote(os.getcwd()))
        self.workers.append(worker)
        self._calls[worker.actor.begin.remote()] = worker

    def _lose(self, worker: RayWorker, error: Exception) -> None:
        """Tell, once, that a worker is gone; it may be cut off only, so it is ended first."""
        if worker not in self.workers:
            return
        self._end(worker)
        self.workers.remove(worker)
        self._looked_at = 0.0
        if not worker.ready:
            self._in_vain[worker.node.id] += 1
            if self._in_vain[worker.node.id] == STARTS:
                self.known[worker.node.id] = False
                why = str(error).strip().splitlines()[0]
                self.note(f"node {worker.node.name} is left out: no worker starts there ({why})")
        said = f"lost on node {worker.node.name}: {type(error).__name__}"
        self._messages.append((worker, {"kind": "died", "said": said}))

    def _end(self, worker: RayWorker) -> None:
        import ray

        ray.kill(worker.actor, no_restart=True)

    def _look_around(self) -> None:
        """Look which nodes are there; ask those that are new."""
        now = time.monotonic()
        if any(worker.ready for worker in self.workers) or self._worked_at == 0.0:
            self._worked_at = now
        elif now - self._worked_at > PATIENCE:
            self._worked_at = now
            self.note(f"waiting for a node that has {self.demand} free")
        if now - self._looked_at < NEWCOMERS:
            return
        self._looked_at = now
        there = nodes_for(self.demand)
        for node in there:
            if node.id not in self.known:
                self.known[node.id] = False
                self._asked[self.inspection.ask(node, self.demand)] = node
        gone = [node for node in self.fit if node.id not in {n.id for n in there}]
        for node in gone:
            self.note(f"node {node.name} is gone")
        self.fit = [node for node in there if self.known[node.id]]

    def _admit(self, node: Node, found: Any) -> None:
        """Take a node that has come, unless it cannot take runs."""
        faults = self.inspection.faults(node, found)
        if not faults and self._places is not None:  # states are named by where runs take place
            planned = Node("", "the plan", 0)
            _, differs = common_places({planned: {"places": self._places}, node: found})
            faults = [differs] * bool(differs)
        if faults:
            self.note(f"a node that came is left out: {'; '.join(faults)}")
            return
        self.known[node.id] = True
        self._looked_at = 0.0
        self.note(f"node {node.name} has come")

    def note(self, text: str) -> None:
        """Have something told that concerns no run."""
        self._messages.append((None, {"kind": "note", "text": text}))


def _result(ref: Any) -> Any:
    """Return what a call came to, or the error that it ended with."""
    import ray

    try:
        return ray.get(ref)
    except ray.exceptions.RayError as error:
        return error


@contextmanager
def inspected(
    cluster: str,
    recipes: Sequence[Mapping[str, Any]],
    device: str,
    threads: int,
    limit: int,
    out: Path,
) -> Iterator[tuple[RayWorkers, list[Place] | None]]:
    """See whether the nodes of a cluster can take runs.

    Args:
        cluster: Where it is, for messages; this process is connected to it.
        recipes: Of the runs.
        device: Of the runs.
        threads: Of each run.
        limit: How many train at a time, at most.
        out: The folder of the runs.

    Yields:
        Workers, and where each recipe takes place; None if that depends on the node.

    Raises:
        RunError: If a node cannot take the runs, or none is large enough.
    """
    inspection = Inspection(out, recipes)
    try:
        workers = RayWorkers(cluster, demand_of(device, threads), limit, inspection)
        places, why_not = workers.inspect()
        workers.note(f"{cluster}: {len(workers.fit)} nodes")
        if why_not:
            workers.note(f"first phases are not shared, and no bit is promised: {why_not}")
        yield workers, places
    finally:
        inspection.close()
