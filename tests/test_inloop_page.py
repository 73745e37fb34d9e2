"""docs/inloop.md says what is so: its snippets run, in order, and its names are public."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import purenoise as pn

PAGE = Path(__file__).resolve().parents[1] / "docs" / "inloop.md"
TEXT = PAGE.read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run all snippets one after another in one process; return what they print."""
    folder = tmp_path_factory.mktemp("page")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pn.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(SNIPPETS)],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(folder.iterdir())
    return done.stdout


def test_loop_makes_noise_in_its_last_epoch(printed):
    """The loop of the page makes noise, and the mistake in it gets the sentence that is shown."""
    assert int(re.search(r"(\d+) noise rows", printed)[1]) > 5
    shown = re.search(r"# (Images are .*?)\. \.\.\.", TEXT)[1]
    assert shown in printed


def test_classifier_does_what_the_page_says(printed):
    """The classifier has noise in the second phase only, and the search finds parameters."""
    (rows,) = re.findall(r"^\[([\d, ]+)\]$", printed, re.MULTILINE)
    noise = [int(n) for n in rows.split(",")]
    assert noise[:2] == [0, 0]
    assert min(noise[2:]) > 0
    assert re.search(r"\{'delta': .*, 'method': '(erm|open)'\}", printed)


def test_added_lines_are_few():
    """The loop has at most fifteen marked lines, and says so of no other snippet."""
    marked = [sum("# +" in line for line in snippet.splitlines()) for snippet in SNIPPETS]
    assert 0 < marked[1] <= 15
    assert sum(marked) == marked[1]


def test_public_names_exist():
    """What the page calls pn.NAME is public."""
    used = set(re.findall(r"\bpn\.(\w+)", TEXT))
    assert used
    assert used <= set(pn.__all__)


def test_headings_that_are_linked_exist():
    """The contents of the page lead to its headings."""
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-")
               for h in re.findall(r"^##+ (.*)$", TEXT, re.MULTILINE)}  # fmt: skip
    assert set(re.findall(r"\(#([\w-]+)\)", TEXT)) <= anchors
