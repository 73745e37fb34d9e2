"""``purenoise train`` under torchrun: killed processes, mistakes, who speaks and who writes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from purenoise.runlog import read_events

from .test_processes import ROOT, torchrun

SMALL = ("digits", "epochs=6", "batch_size=64", "threads=1", "save_seconds=0")


def train(out: Path, *words: str, options: tuple[str, ...] = ("--standalone",)):
    """Train in two processes."""
    return torchrun(2, "-m", "purenoise", "train", *SMALL, *words, f"out={out}", options=options)


def line_of_the_page(out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of docs/distributed.md that starts processes, with a folder for its run."""
    text = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    (words,) = map(shlex.split, lines)  # another line needs a test of its own, or is marked text
    assert words[0] == "torchrun"
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words[1:], f"out={out}"],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def folder_of(out: Path) -> Path:
    """Return the only run folder."""
    (found,) = (p.parent for p in out.rglob("recipe.yaml"))
    return found


def test_one_speaks_and_one_writes(tmp_path: Path) -> None:
    """The page's line: one table, one set of files, each epoch once; again, it is finished."""
    done = line_of_the_page(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("balanced accuracy %") == 1
    assert done.stdout.count("run folder:") == 1
    events = read_events(folder_of(tmp_path) / "events.jsonl")
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [0, 1]
    again = line_of_the_page(tmp_path)
    assert again.stdout.count("This run is finished") == 1, again.stderr


def test_a_killed_process_is_restarted_and_the_result_is_the_same(tmp_path: Path) -> None:
    """SIGKILL of one of two processes within an epoch: torchrun starts both anew; equal bits."""
    quiet = train(tmp_path / "quiet")
    assert quiet.returncode == 0, quiet.stderr
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node=2", "--max-restarts=3", "-m", "purenoise", "train", *SMALL,
               f"out={tmp_path / 'killed'}"]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    agent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env
    )
    victim = wait_for_follower(agent.pid, tmp_path / "killed")
    os.kill(victim, signal.SIGKILL)
    out, err = agent.communicate(timeout=300)
    assert agent.returncode == 0, err
    a, b = folder_of(tmp_path / "quiet"), folder_of(tmp_path / "killed")
    events = read_events(b / "events.jsonl")
    starts = [e["resumed_at"] for e in events if e["event"] == "start"]
    assert len(starts) >= 2, (starts, out)
    assert starts[-1] != [0, 0]
    one, two = (load_file(f / "weights.safetensors") for f in (a, b))
    assert all((two[key] == value).all() for key, value in one.items())
    tests = [json.loads((f / "summary.json").read_text())["test"] for f in (a, b)]
    assert tests[0] == tests[1]


def wait_for_follower(agent: int, out: Path) -> int:
    """Wait until the second epoch has begun; return the process of rank 1."""
    for _ in range(1200):
        time.sleep(0.05)
        logs = list(out.rglob("events.jsonl"))
        if logs and '"event": "epoch"' in logs[0].read_text():
            for pid in children(agent):
                text = Path(f"/proc/{pid}/environ").read_bytes()
                if b"\0RANK=1\0" in b"\0" + text:
                    return pid
    raise AssertionError("training did not begin")


def children(parent: int) -> list[int]:
    """Return the processes that a process started."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in text.split()]


def test_a_lost_process_ends_the_other_with_a_sentence(tmp_path: Path) -> None:
    """Without restarts the process that is left says what happened and how to go on."""
    port = free_port()
    ranks = [start(rank, port, tmp_path) for rank in range(2)]
    for _ in range(1200):
        time.sleep(0.05)
        logs = list(tmp_path.rglob("events.jsonl"))
        if logs and '"event": "epoch"' in logs[0].read_text():
            break
    ranks[1].kill()
    ranks[1].communicate(timeout=60)
    out, err = ranks[0].communicate(timeout=120)
    assert ranks[0].returncode == 2, (out, err)
    assert "Another process of this run is gone" in err
    assert "Traceback" not in err
    assert list((folder_of(tmp_path) / "state").glob("*.pt"))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """A port in use gets a sentence with its number."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        rank = start(0, port, tmp_path)
        _, err = rank.communicate(timeout=120)
    assert rank.returncode == 2, err
    assert f"port {port} of this machine is taken" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lr=fast",), "train.lr: must be a number"),
        (("batch_norm=auxiliary",), "Several processes cannot train one run"),
    ],
)
def test_mistakes_are_told_once(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """A fault of the recipe is one message of the first process, and all end with status 2."""
    done = train(tmp_path, *words)
    assert done.returncode != 0
    assert done.stderr.count(said) == 1, done.stderr
    assert "exitcode  : 2" in done.stderr


def test_a_fault_of_one_follower_is_told_by_it(tmp_path: Path) -> None:
    """The last test image falls to the second process; if it is broken, its name is said."""
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "15.png").write_bytes((tmp_path / "15.png").read_bytes()[:60])
    for name, rows in (("train", range(8)), ("test", range(8, 16))):
        (tmp_path / f"{name}.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in rows))
    words = [f"data={tmp_path / 'train.txt'}", f"data.root={tmp_path}", "data.decode=later",
             f"data.test_list={tmp_path / 'test.txt'}", "model=small_cnn", "epochs=1",
             "batch_size=4", "threads=1", "cache=off", f"out={tmp_path / 'runs'}"]  # fmt: skip
    done = torchrun(2, "-m", "purenoise", "train", *words)
    assert done.returncode != 0
    assert "purenoise: process 1: " in done.stderr, done.stderr
    said = next(line for line in done.stderr.splitlines() if "process 1: " in line)
    assert "15.png" in said
    assert "Traceback" not in done.stderr.partition("ChildFailedError")[0].partition(said)[0]


def test_a_command_for_one_process_says_so(tmp_path: Path) -> None:
    """``compare`` spreads runs itself, and refuses to be started by torchrun."""
    done = torchrun(2, "-m", "purenoise", "compare", "digits", f"out={tmp_path}")
    assert done.stderr.count("cannot be started by torchrun") == 1, done.stderr


def start(rank: int, port: int, out: Path) -> subprocess.Popen[str]:
    """Start one of two processes by hand."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": "2",
                        "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2",
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    command = [sys.executable, "-m", "purenoise", "train", *SMALL, "epochs=40", f"out={out}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
