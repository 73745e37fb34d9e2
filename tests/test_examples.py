"""The scripts in examples/ run as they lie there; without their marked lines they are plain."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

import purenoise as pn
from purenoise.noise import choose_noise, replacement_probabilities

FOLDER = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = ["plain_pytorch.py", "timm_loop.py", "lightning_module.py", "hf_trainer.py"]
EPOCHS = 3
MOST = 15  # lines that OPeN may add
RUN_BOTH = """
import runpy, sys
folder, script, plain = sys.argv[1:]
sys.path[0] = folder
for path in (script, plain):
    sys.argv = [path, "--epochs", "3"]
    runpy.run_path(path, run_name="__main__")
    print("== end", flush=True)
"""


def lines(script: str) -> list[str]:
    """Return the lines of an example."""
    return (FOLDER / script).read_text(encoding="utf-8").splitlines()


def plain(script: str) -> str:
    """Return an example without the lines that OPeN adds, and with those that they replace."""
    kept = (line for line in lines(script) if not line.endswith("# +"))
    return "\n".join(re.sub(r"^( *)# - ", r"\1", line) for line in kept) + "\n"


def noise_rows(counts: list[int]) -> int:
    """Draw, step by step, how many rows of the last epoch become noise."""
    labels = np.repeat(np.arange(10), counts)
    drawn = pn.ClassBalancedSampler(labels).order(EPOCHS - 1)
    generator, p = torch.Generator().manual_seed(0), replacement_probabilities(counts)
    parts = torch.from_numpy(labels[drawn]).split(64)
    return sum(int(choose_noise(part, p, generator).sum()) for part in parts)


@pytest.fixture(scope="module", params=SCRIPTS)
def outputs(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return what a script prints, and what it prints as a plain loop.

    One process runs both, offline, on one thread, in an empty folder that stays empty: importing
    the libraries takes most of the time.
    """
    folder, empty = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("empty")
    (folder / request.param).write_text(plain(request.param), encoding="utf-8")
    src = str(Path(pn.__file__).parents[1])
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": src}
    paths = [FOLDER, FOLDER / request.param, folder / request.param]
    done = subprocess.run(
        [sys.executable, "-c", RUN_BOTH, *map(str, paths)],
        cwd=empty, env={**os.environ, **offline}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(empty.iterdir())
    marked, without, rest = done.stdout.split("== end\n")
    assert rest == ""
    return marked, without


def test_all_examples_are_run():
    """No script lies in the folder that is neither run here nor imported by one that is."""
    assert {p.name for p in FOLDER.glob("*.py")} == {*SCRIPTS, "digits_lt.py"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_open_adds_few_lines(script):
    """OPeN takes at most fifteen lines, and without them nothing of it is left."""
    added = [line for line in lines(script) if line.endswith("# +")]
    assert 0 < len(added) <= MOST
    assert "pn." in "".join(added)
    assert not re.search(r"\bpn\b|\bnoise\b", plain(script).split('"""')[2])


def test_example_runs(outputs):
    """The script trains with noise in its last epoch only, and is evaluated with plain batch norm.

    The number of noise rows is what sampler and coins give when they are drawn one after another,
    whoever's loop it is; so the deferred start and the order of epochs hold everywhere.
    """
    out, _ = outputs
    counts = [int(n) for n in re.search(r"per class: \[(.*?)\]", out)[1].split()]
    assert f"noise rows: {noise_rows(counts)}\n" in out
    assert noise_rows(counts) > 40
    assert "batch norms: {'BatchNorm2d'}" in out
    assert 0.0 < float(re.search(r"test accuracy: (\S+)", out)[1]) <= 1.0


def test_plain_loop_runs(outputs):
    """The script without the marked lines is the plain loop: it trains, and makes no noise."""
    _, out = outputs
    assert "test accuracy: " in out
    assert "noise" not in out
    assert "batch norms: {'BatchNorm2d'}" in out


def test_readme_lists_every_example():
    """The README of the folder has each script with its command."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"python examples/{script}" in text for script in SCRIPTS)


def test_malicious_releases_are_excluded():
    """No extra lets in the two releases of lightning that were malicious."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    found = [Requirement(text) for texts in extras.values() for text in texts]
    lightning = [requirement for requirement in found if requirement.name == "lightning"]
    assert len(lightning) >= 2
    for requirement in lightning:
        assert not {"2.6.2", "2.6.3"} & set(requirement.specifier.filter(["2.6.2", "2.6.3"]))
        assert requirement.specifier.contains("2.6.6")
