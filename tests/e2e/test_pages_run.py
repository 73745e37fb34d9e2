"""Commands and snippets of recipes.md, extending.md, pitfalls.md, comparing.md, distributed.md.

Each page is run in a folder of its own: a ``yaml`` block is written to the file that its first line
names, ``sh`` lines are typed, ``python`` blocks follow one another, and what they print is what the
``text`` block below them says.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import purenoise as pn

from .support import Command

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.usefixtures("one_thread")


def text_of(page: str) -> str:
    """Return a page."""
    return (DOCS / page).read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """Return the words of every command of a page."""
    found = "".join(re.findall(r"```sh\n(.*?)```", text_of(page), re.DOTALL))
    return [shlex.split(line) for line in found.splitlines()]


def write_files(page: str, folder: Path) -> None:
    """Write the page's recipes, each named by its first line."""
    for name, content in re.findall(r"```yaml\n# (\S+\.yaml)\n(.*?)```", text_of(page), re.DOTALL):
        (folder / name).write_text(content, encoding="utf-8")


def snippets(page: str) -> list[tuple[str, str]]:
    """Return every Python block, with what the page says that it prints."""
    return re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", text_of(page), re.DOTALL)


def run_all(command: Command, page: str) -> list[str]:
    """Type every command of a page; return what each printed."""
    printed = []
    for program, *words in commands(page):
        assert program == "purenoise"
        done = command(*words)
        assert done.code == 0, (words, done.err)
        printed.append(done.out)
    return printed


def printed_by(page: str, folder: Path) -> list[str]:
    """Run the Python of a page in one process of its own; return what each block printed."""
    end = "== end of block"
    code = f"\nprint({end!r})\n".join(block for block, _ in snippets(page)) + f"\nprint({end!r})"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pn.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split(f"{end}\n")[:-1]


@pytest.mark.parametrize("page", ["pitfalls.md", "extending.md", "distributed.md"])
def test_snippets_print_what_the_page_says(page: str, tmp_path: Path) -> None:
    """Every number below a snippet is what the snippet gives."""
    said = [text for _, text in snippets(page)]
    assert said
    assert printed_by(page, tmp_path) == said


def test_numbers_of_pitfalls_have_n() -> None:
    """Every measured snippet says how many times it was measured."""
    for _, text in snippets("pitfalls.md"):
        assert re.search(r"\(n = \d+ ", text)


def test_commands_of_recipes_run(command: Command, tmp_path: Path) -> None:
    """Recipes are listed, shown, explained, checked, copied, changed, trained and compared."""
    write_files("recipes.md", tmp_path)
    printed = run_all(command, "recipes.md")
    assert "train.weight_decay" in printed[2]
    assert "This run is finished" in printed[5]  # two ways to write one experiment
    runs = {p.parent.relative_to(tmp_path).as_posix()
            for p in tmp_path.glob("runs/**/summary.json")}  # fmt: skip
    names = {re.sub(r"-[0-9a-f]{8}/", "-HASH/", run) for run in runs}
    assert len(runs) == 4
    assert {"runs/digits-HASH/drs/seed-0", "runs/digits-HASH/open/seed-1",
            "runs/mine-HASH/open/seed-0", "runs/steps/open/seed-0"} == names  # fmt: skip


def test_the_page_names_the_files_of_a_run(command: Command, tmp_path: Path) -> None:
    """The table of a run's folder has exactly what is there, and what other commands add."""
    assert command("train", "digits", "epochs=1", "method=erm", "threads=1").code == 0
    (run,) = (p.parent for p in tmp_path.glob("runs/**/summary.json"))
    table = text_of("recipes.md").split("| file | what it holds |")[1].split("\n\n")[0]
    named = {
        n.rstrip("/") for row in table.splitlines() for n in re.findall(r"`([\w.]+/?)`", row[:40])
    }
    assert {p.name for p in run.iterdir()} == named - {"adjusted", "export"}
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("epochs: 1", "epochs: 2"))
    assert "another recipe" in command.refused("train", run)


def test_commands_of_extending_run(command: Command, tmp_path: Path) -> None:
    """A method that is written in a recipe is checked, trained, and reported beside another."""
    write_files("extending.md", tmp_path)
    printed = run_all(command, "extending.md")
    assert "method custom-" in printed[0]
    assert re.search(r"custom-\w{8} against drs", printed[-1])
    assert (tmp_path / "runs" / "focal-noise" / "report.html").is_file()


def test_commands_of_comparing_run(command: Command, tmp_path: Path) -> None:
    """The comparison of the page, with one seed and two epochs, ends with what can be said."""
    for _, *words in commands("comparing.md"):
        short = [re.sub(r"^seeds=\d+$", "seeds=1", word) for word in words]
        done = command(*short, "epochs=2", "threads=1", "jobs=1")
        assert done.code == 0, done.err
        assert "open against drs" in " ".join(done.out.split())
    assert list(tmp_path.glob("runs/comparisons/*/report.html"))
