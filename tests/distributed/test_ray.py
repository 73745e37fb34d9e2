"""``purenoise compare executor=ray`` on a cluster of two nodes: same bits, whatever is killed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import purenoise as pn
from purenoise.errors import PureNoiseError

from ..e2e.support import equal_weights, program

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
MARK = "PURENOISE_TEST_OF_RAY"  # tells processes of this cluster from those of another
KEEP = "save_seconds=0"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "distributed-compare.md"


class Nodes:
    """A cluster on this machine, and the processes that train on it."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.token = uuid.uuid4().hex
        os.environ[MARK] = self.token  # which raylets, and so their workers, have from here
        try:
            self.cluster = Cluster(initialize_head=True, head_node_args=SMALL)
            self.add()
        finally:
            del os.environ[MARK]

    def add(self, **more: Any) -> Any:
        """Add a node."""
        return self.cluster.add_node(**SMALL, **more)

    def workers(self) -> list[int]:
        """Return the processes that train, on all nodes."""
        found = []
        for place in Path("/proc").iterdir():
            try:
                if place.name.isdecimal() and (
                    b"purenoise.lab.worker" in (place / "cmdline").read_bytes()
                    and f"{MARK}={self.token}".encode() in (place / "environ").read_bytes()
                ):
                    found.append(int(place.name))
            except OSError:
                continue  # gone meanwhile
        return found

    def command(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start the command with this cluster's address."""
        return subprocess.Popen(
            [*program(), "compare", *words], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "RAY_ADDRESS": self.cluster.address}, **more,
        )  # fmt: skip


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Start a head and one more node, of one CPU each."""
    found = Nodes()
    try:
        yield found
    finally:
        found.cluster.shutdown()


def until(there: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for something and return it."""
    end = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
    return found


def parent(pid: int) -> int:
    """Return the process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def states(out: Path) -> list[Path]:
    """Return the states of runs, without those of shared phases."""
    return [path for path in out.rglob("state.pt") if "phases" not in path.parts]


def same_runs(out: Path, other: Path) -> int:
    """Check that two folders hold the same runs, bit for bit; return how many."""
    runs = [path.parent.relative_to(out) for path in sorted(out.rglob("summary.json"))]
    assert runs == [p.parent.relative_to(other) for p in sorted(other.rglob("summary.json"))]
    for run in runs:
        assert equal_weights(out / run, other / run), run
        a, b = (root / run / "predictions.npz" for root in (out, other))
        assert a.read_bytes() == b.read_bytes()
    return len(runs)


def killed(nodes: Nodes, out: Path, words: list[str], *, actor: bool) -> str:
    """Compare, kill one worker (or the actor that holds it) at work; return what was printed."""
    process = nodes.command(*words, "executor=ray", KEEP, f"out={out}")
    # Two runs that share nothing are at work, so that whichever worker is killed had one.
    until(lambda: len(states(out)) >= 2 or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    victim = nodes.workers()[0]
    os.kill(parent(victim) if actor else victim, signal.SIGKILL)
    said, err = process.communicate(timeout=400)
    assert process.returncode == 0, (said, err)
    return said


def test_a_worker_is_killed_and_no_bit_changes(nodes: Nodes, tmp_path: Path) -> None:
    """Three runs on two nodes, the actor of one killed: the table of this machine alone."""
    words = ["digits", "methods=erm,drs,rs", "seeds=1", "epochs=12"]
    said = killed(nodes, tmp_path / "ray", words, actor=True)
    assert "2 nodes" in said
    assert "its process ended (lost on node" in said
    assert "6 epochs were taken over from another run's first phase" in " ".join(said.split())
    alone = pn.compare("digits", methods="erm,drs,rs", seeds=1, epochs=12, out=tmp_path / "here")
    assert same_runs(tmp_path / "ray", tmp_path / "here") == 3
    assert not [p for p in (tmp_path / "ray").iterdir() if p.name.startswith(".")]
    row = f"{100 * alone.rows[2].estimates['accuracy'].mean:.1f}"
    assert row in said.partition("against")[0]


@pytest.mark.long
@pytest.mark.parametrize("actor", [True, False], ids=["actor", "process"])
def test_eight_runs_one_worker_killed(nodes: Nodes, tmp_path: Path, actor: bool) -> None:
    """Eight runs, one worker killed: the table is complete and equal to that of one machine."""
    words = ["digits", "methods=erm,drs,open,balanced-softmax", "seeds=2"]
    said = killed(nodes, tmp_path / "ray", words, actor=actor)
    print(said)
    here = subprocess.run(
        [*program(), "compare", *words, f"out={tmp_path / 'here'}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert same_runs(tmp_path / "ray", tmp_path / "here") == 8
    tables = [text[text.index("method ") : text.index("note: ")] for text in (said, here)]
    assert tables[0] == tables[1]


@pytest.mark.long
def test_a_node_dies_and_its_run_goes_on_elsewhere(nodes: Nodes, tmp_path: Path) -> None:
    """A third node is killed at work: it is said to be gone, and all runs are finished."""
    third = nodes.add()
    apart = "methods=erm,rs,focal"  # share no phase: each node has a run
    process = nodes.command("digits", apart, "seeds=1", "epochs=400", "executor=ray", KEEP,
                            f"out={tmp_path}")  # fmt: skip
    until(lambda: len(states(tmp_path)) == 3 or process.poll() is not None)
    assert not list(tmp_path.rglob("summary.json"))  # so that each node has one of the three
    nodes.cluster.remove_node(third, allow_graceful=False)
    said, err = process.communicate(timeout=400)
    assert process.returncode == 0, (said, err)
    assert "is gone" in said
    assert len(list(tmp_path.rglob("summary.json"))) == 3


def test_the_commands_of_the_page_do_what_it_says(nodes: Nodes, tmp_path: Path) -> None:
    """All shell lines of the page run in order; the last one finds every run finished."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 4
    said = []
    for line in lines:
        short = re.sub(r"^(purenoise compare [^>]*)", r"\1 epochs=2 ", line)
        done = subprocess.run(
            ["sh", "-c", short], cwd=tmp_path, text=True, capture_output=True, check=True,
            env={**os.environ, "RAY_ADDRESS": nodes.cluster.address},
        )  # fmt: skip
        said.append(done.stdout + done.stderr)
    assert "2 nodes" in said[0]
    assert "4 of 6 runs are finished and left out" in said[1]
    assert len((tmp_path / "jobs.txt").read_text().splitlines()) == 2
    assert "6 runs, 6 of them there already" in said[3]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_a_signal_keeps_states_and_leaves_the_cluster_clean(
    number: int, nodes: Nodes, tmp_path: Path
) -> None:
    """The command ends with 130 and the line to go on with; no process of it is left."""
    words = ["digits", "methods=erm,rs", "seeds=1", "epochs=400", "executor=ray", f"out={tmp_path}"]
    process = nodes.command(*words)
    until(lambda: len(list(tmp_path.rglob("events.jsonl"))) == 2 or process.poll() is not None)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "To go on: purenoise compare digits methods=erm,rs" in err
    assert len(states(tmp_path)) == 2
    until(lambda: not nodes.workers(), seconds=20)


@pytest.mark.long
def test_a_killed_command_leaves_no_worker(nodes: Nodes, tmp_path: Path) -> None:
    """Kill the command itself: Ray ends its workers, and the same line finishes the runs."""
    words = ["digits", "methods=erm,rs", "seeds=1", "executor=ray", KEEP, f"out={tmp_path}"]
    process = nodes.command(*words)
    until(lambda: len(states(tmp_path)) == 2)
    process.kill()
    process.communicate()
    until(lambda: not nodes.workers(), seconds=60)
    again = nodes.command(*words)
    said, err = again.communicate(timeout=400)
    assert again.returncode == 0, (said, err)
    assert len(list(tmp_path.rglob("summary.json"))) == 2


@pytest.mark.long
def test_a_port_of_something_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What listens there takes the connection and says nothing: half a minute, and a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(PureNoiseError, match="is no Ray cluster"):
            pn.compare("digits", methods="erm,rs", seeds=1, executor="ray", out=tmp_path)


def test_nodes_that_cannot_take_runs_are_all_named(nodes: Nodes, tmp_path: Path) -> None:
    """Another purenoise on one node and a folder that is not shared: each is said, at once."""
    copy = tmp_path / "older" / "purenoise"
    shutil.copytree(Path(pn.__file__).parent, copy)
    start = (copy / "__init__.py").read_text().replace(pn.__version__, "0.0.9")
    (copy / "__init__.py").write_text(start)
    older = nodes.add(env_vars={"PYTHONPATH": str(copy.parent)})
    own = os.open(tmp_path, os.O_RDONLY)  # a path through it is another one in other processes
    try:
        process = nodes.command(
            "digits", "methods=erm,rs", "seeds=1", "executor=ray", f"out=/proc/self/fd/{own}/runs",
            pass_fds=(own,),
        )  # fmt: skip
        _, err = process.communicate(timeout=100)
    finally:
        os.close(own)
        nodes.cluster.remove_node(older)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert err.startswith("purenoise: Nodes of the Ray cluster cannot take runs")
    assert err.count("is not the folder that is there") == 3
    assert err.count(f"it has purenoise 0.0.9, here {pn.__version__}") == 1
    assert "give a folder that all nodes share" in err
    assert "needs the same purenoise" in err
    assert not list((tmp_path / "runs").iterdir())


def test_runs_that_no_node_can_take_are_refused(nodes: Nodes, tmp_path: Path) -> None:
    """A run of more threads than any node has CPUs would wait for ever: it is refused."""
    process = nodes.command("digits", "methods=erm,rs", "threads=2", "executor=ray", cwd=tmp_path)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2, err
    assert "A run takes 2 CPUs, and no node of the Ray cluster" in err


@pytest.mark.parametrize(
    ("address", "change", "said"),
    [
        ("127.0.0.1:9", {}, "No Ray cluster answers at 127.0.0.1:9"),
        ("ray://127.0.0.1:9", {}, "Give HOST:PORT of the head node"),
        ("nowhere", {}, "Give HOST:PORT of the head node"),
        ("", {"threads": "auto"}, "needs a number of threads"),
        ("", {"device": "cuda:1"}, "cannot be asked of a cluster"),
        ("", {"executor": "rai"}, "Did you mean 'ray'?"),
        ("", {"jobs": 0}, "jobs=0 cannot be read"),
    ],
)
def test_mistakes_are_a_sentence(
    address: str, change: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them takes a minute, or a cluster."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    given = {"executor": "ray", "out": tmp_path, **change}
    with pytest.raises(PureNoiseError, match=re.escape(said)):
        pn.compare("digits", methods="erm,rs", seeds=1, **given)
    assert not list(tmp_path.iterdir())


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    real = importlib.util.find_spec

    def without_ray(name: str, *rest: Any) -> Any:
        return None if name == "ray" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_ray)
    with pytest.raises(PureNoiseError, match=r'pip install "purenoise\[ray\]"'):
        pn.compare("digits", methods="erm,rs", executor="ray")
