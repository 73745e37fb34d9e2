"""A Ray cluster: how it is reached, what its nodes are, and whether they can take runs.

Nodes must see the folder of the runs: states and results pass through it, and a run that goes on
after its node was lost is found there. They must have the same program, because otherwise a run's
result would depend on the node that it happened to meet. Both are asked of every node before it is
given anything.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from purenoise.errors import RunError
from purenoise.lab.place import Place, program
from purenoise.runlog import writing

ADDRESS = "RAY_ADDRESS"
ANSWERS = 5.0  # seconds in which an address must be reached
HEALTH = 30.0  # and in which it must say that it is a Ray cluster


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Args:
        id: Ray's.
        name: Its address, for messages.
        slots: How many runs it can train at a time.
    """

    id: str
    name: str
    slots: int


@dataclass(frozen=True)
class Demand:
    """What a run takes of a node.

    Args:
        cpus: Its threads; 0 if it takes a GPU.
        gpus: 1 or 0.
    """

    cpus: int
    gpus: int

    def options(self) -> dict[str, int]:
        """Return it as Ray reads it."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}

    def fits(self, resources: Mapping[str, float]) -> int:
        """Return how often it fits."""
        kind, each = ("GPU", self.gpus) if self.gpus else ("CPU", self.cpus)
        return int(resources.get(kind, 0) // each)

    def __str__(self) -> str:
        return "a GPU" if self.gpus else f"{self.cpus} CPU{'s' * (self.cpus > 1)}"


@contextmanager
def connected() -> Iterator[str]:
    """Connect to the cluster that RAY_ADDRESS names, that `ray start` began here, or a new one.

    A connection that the program has already is used and stays.

    Yields:
        Where the cluster is, for messages.

    Raises:
        RunError: If it cannot be reached.
    """
    import ray

    if ray.is_initialized():
        yield f"the Ray cluster at {ray.get_runtime_context().gcs_address}"
        return
    given = os.environ.get(ADDRESS, "")
    if given not in ("", "auto", "local"):
        _reach(given)
    _begin(given)
    try:
        yield f"the Ray cluster at {ray.get_runtime_context().gcs_address}"
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Say soon if nothing answers, or no Ray, for which connecting itself takes many minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise RunError(
            f"{ADDRESS}={address} cannot be used.",
            "Give HOST:PORT of the head node, and run this on a machine of the cluster.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise RunError(
            f"No Ray cluster answers at {address} ({ADDRESS}): {error}.",
            f"`ray start --head` on the head node prints its address; without {ADDRESS} a cluster "
            "of this machine alone is started.",
        ) from error
    asking = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        well = not subprocess.run(
            asking, capture_output=True, timeout=HEALTH, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        well = False
    if not well:
        raise RunError(
            f"What answers at {address} ({ADDRESS}) is no Ray cluster of this Ray's version, or is "
            "not well.",
            f"`ray health-check --address {address}` says more.",
        )


def _begin(given: str) -> None:
    """Connect; Ray's own handler of SIGTERM gives way to the one that was there."""
    import ray

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        ray.init(
            address=given or None, log_to_driver=False, logging_level=logging.ERROR,
            include_dashboard=False,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()
        raise RunError(
            f"The Ray cluster{f' at {given}' * bool(given)} cannot be used: "
            f"{first[0] if first else type(error).__name__}",
            f"`ray status` says what it does; {ADDRESS}=HOST:PORT names another.",
        ) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def demand_of(device: str, threads: int) -> Demand:
    """Return what a run takes: a GPU if it asks for one, or may have one and there are some."""
    import ray

    there = any(n["Alive"] and n["Resources"].get("GPU", 0) >= 1 for n in ray.nodes())
    on_gpu = device == "cuda" or (device == "auto" and there)
    return Demand(0, 1) if on_gpu else Demand(threads, 0)


def nodes_for(demand: Demand) -> list[Node]:
    """Return the nodes that are alive and large enough for a run, in a fixed order."""
    import ray

    found = [
        Node(n["NodeID"], n["NodeManagerAddress"], demand.fits(n["Resources"]))
        for n in ray.nodes()
        if n["Alive"]
    ]
    return sorted((node for node in found if node.slots), key=lambda node: (node.name, node.id))


def refuse_too_small(demand: Demand, cluster: str) -> None:
    """Refuse runs that no node could ever take.

    Raises:
        RunError: With what the nodes have.
    """
    import ray

    if nodes_for(demand):
        return
    alive = [n for n in ray.nodes() if n["Alive"]]
    kind = "GPU" if demand.gpus else "CPU"
    have = ", ".join(f"{n['NodeManagerAddress']}: {n['Resources'].get(kind, 0):g}" for n in alive)
    raise RunError(
        f"A run takes {demand}, and no node of {cluster} has that ({kind}s by node: {have}).",
        "Add nodes, or lower threads=N." if kind == "CPU" else "Add nodes, or say device=cpu.",
    )


class Inspection:
    """Asks nodes whether they can take runs.

    Args:
        out: The folder of the runs.
        recipes: Of the runs.
    """

    def __init__(self, out: Path, recipes: Sequence[Mapping[str, Any]]) -> None:
        text = secrets.token_hex(8)
        self.out = Path(os.path.abspath(out))
        self.token = self.out / f".seen-{text}"
        self.question = {"token": str(self.token), "text": text, "recipes": list(recipes)}
        self.program = program()
        with writing(self.token):
            self.out.mkdir(parents=True, exist_ok=True)
            self.token.write_text(text, encoding="utf-8")

    def close(self) -> None:
        """Remove what nodes were asked to look for."""
        self.token.unlink(missing_ok=True)

    def ask(self, node: Node, demand: Demand) -> Any:
        """Ask a node; return Ray's reference to its answer."""
        import ray

        place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked = ray.remote(_asking()).options(
            num_cpus=0, num_gpus=demand.gpus, max_retries=1, scheduling_strategy=place
        )
        return asked.remote(json.dumps(self.question), os.getcwd())

    def faults(self, node: Node, found: Any) -> list[str]:
        """Return why a node cannot take runs, a sentence each.

        Args:
            node: Which one.
            found: Its answer, or the error that came instead.
        """
        if isinstance(found, Exception):
            return [f"{node.name}: it cannot be asked ({str(found).strip().splitlines()[0]})"]
        if "said" in found:
            return [f"{node.name}: purenoise does not run there ({found['said']})"]
        other = [
            f"{key} {found['program'].get(key)}, here {value}"
            for key, value in self.program.items()
            if found["program"].get(key) != value
        ]
        faults = [f"{node.name}: it has {'; '.join(other)}"] * bool(other)
        if not found["shared"]:
            faults.append(f"{node.name}: {self.out} is not the folder that is there")
        if found["fault"]:
            faults.append(f"{node.name}: {found['fault']}")
        return faults


def _asking() -> Any:
    """Return the function that runs on a node: by value, as purenoise may be missing there."""

    def ask(question: str, folder: str) -> dict[str, Any]:
        import json
        import os
        import subprocess
        import sys

        cwd = folder if os.path.isdir(folder) else None
        done = subprocess.run(
            [sys.executable, "-m", "purenoise.lab.place"], input=question, text=True, cwd=cwd,
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return {"said": lines[-1] if lines else f"exit code {done.returncode}"}
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return ask


def refuse_unfit(faults: Sequence[str], out: Path) -> None:
    """Refuse a cluster some of whose nodes cannot take runs.

    Raises:
        RunError: With all that is wrong.
    """
    if not faults:
        return
    hints = ["Mend or stop these nodes."]
    if any("is not the folder" in fault for fault in faults):
        hints.append(
            f"States and results pass through out={out}: give a folder that all nodes share."
        )
    if any("it has purenoise" in fault or "does not run there" in fault for fault in faults):
        hints.append("Every node needs the same purenoise in the Python that Ray runs there.")
    raise RunError(
        "Nodes of the Ray cluster cannot take runs of this comparison.\n" + "\n".join(faults),
        " ".join(hints),
    )


def common_places(answers: Mapping[Node, Mapping[str, Any]]) -> tuple[list[Place] | None, str]:
    """Return where runs take place, if that is the same on all nodes; else None and why not."""
    nodes = list(answers)
    first = answers[nodes[0]]["places"]
    for node in nodes[1:]:
        for one, other in zip(first, answers[node]["places"], strict=True):
            if one != other:
                a, b = ({**p["environment"], **p["speed"], "kind of device": p["device"]}
                        for p in (one, other))  # fmt: skip
                keys = [key for key in a if a[key] != b.get(key)]
                what = "; ".join(f"{key} {a[key]} and {b.get(key)}" for key in keys)
                return None, f"{nodes[0].name} and {node.name} differ: {what}"
    return first, ""
