"""The short form of the bench, and what a mutant is."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from . import page, tally
from .mutants import mutants_of, sample
from .targets import TESTS, files

ROOT = Path(__file__).parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
TEXT = '''
"""Not changed: 1 + 1."""
from numpy import ndarray
A = ndarray | None
def f(x: int = 2, *, dim: int | None = None) -> "1 + 1":
    """Not changed: 1 < 2."""
    assert x > 1
    if x < 0 and dim is None:
        raise ValueError(f"{x + 1} is below 0", x + 1)
    return max(x, 1)
'''
EXPECTED = {
    ("constant", "def f(x: int = 2,", "def f(x: int = 3,"),
    ("constant", "dim: int | None = None)", "dim: int | None = 0)"),
    ("condition", "if x < 0 and dim is None:", "if True:"),
    ("condition", "if x < 0 and dim is None:", "if False:"),
    ("condition", "if x < 0 and dim is None:", "if (not (x < 0 and dim is None)):"),
    ("and, or", "if x < 0 and dim is None:", "if (x < 0 or dim is None):"),
    ("comparison", "if x < 0 and dim is None:", "if (x <= 0) and dim is None:"),
    ("comparison", "if x < 0 and dim is None:", "if (x >= 0) and dim is None:"),
    ("constant", "if x < 0 and dim is None:", "if x < 1 and dim is None:"),
    ("comparison", "if x < 0 and dim is None:", "if x < 0 and (dim is not None):"),
    ("statement left out", 'raise ValueError(f"{x + 1} is below 0", x + 1)', "pass"),
    ("return None", "return max(x, 1)", "return None"),
    ("function", "return max(x, 1)", "return (min(x, 1))"),
    ("call left out", "return max(x, 1)", "return x"),
    ("constant", "return max(x, 1)", "return max(x, 2)"),
    ("constant", "return max(x, 1)", "return max(x, 0)"),
}


def test_all_mutants_of_a_small_text_are_these():
    """Work is changed in each way there is; docstrings, types, messages and assertions are not."""
    found = [(m.kind, m.before, m.after) for m in mutants_of("text", TEXT)]
    assert len(found) == len(EXPECTED)
    for kind, before, after in EXPECTED:
        assert any(k == kind and before in b and after in a for k, b, a in found), (kind, after)


def changed_part(old: ast.AST, new: ast.AST) -> ast.AST:
    """Return the smallest node of ``old`` that holds all that differs."""
    pairs = list(zip(ast.iter_child_nodes(old), ast.iter_child_nodes(new), strict=False))
    if type(old) is not type(new) or len(pairs) != len(list(ast.iter_child_nodes(old))):
        return old
    unlike = [(a, b) for a, b in pairs if ast.dump(a) != ast.dump(b)]
    return changed_part(*unlike[0]) if len(unlike) == 1 else old


@pytest.mark.parametrize("module", ["longtail", "passes"])
def test_a_mutant_is_the_module_with_one_place_changed(module: str):
    """Each compiles, none equals the module or another, and one expression or line differs."""
    text = (ROOT / "src" / "purenoise" / f"{module}.py").read_text(encoding="utf-8")
    tree, found = ast.parse(text), mutants_of(module)
    dumps = {ast.dump(ast.parse(m.source)) for m in found}
    assert len(dumps) == len(found) > 20
    assert ast.dump(tree) not in dumps
    for mutant in found:
        compile(mutant.source, module, "exec")
        part = changed_part(tree, ast.parse(mutant.source))
        large = ast.Module | ast.FunctionDef | ast.ClassDef | ast.If | ast.For | ast.Try | ast.With
        assert not isinstance(part, large), (mutant, ast.unparse(part))


def test_the_sample_is_even_and_depends_on_the_seed_alone():
    """The same seed draws the same mutants, none twice, and over many seeds all alike."""
    first = sample(["mixedlabels", "draws"], 20, 3)
    assert first == sample(["mixedlabels", "draws"], 20, 3)
    assert len({m.source for m in first}) == 20
    every = mutants_of("mixedlabels")
    drawn = Counter(m.key for seed in range(40) for m in sample(["mixedlabels"], 10, seed))
    mean, p = 400 / len(every), 10 / len(every)
    spread = (40 * p * (1 - p)) ** 0.5
    assert all(abs(drawn[m.key] - mean) < 4.5 * spread for m in every)
    assert len(sample(["mixedlabels"], 10**6, 0)) == len(every)
    small = {m.key for m in sample(["draws"], 10, 3)}
    assert small <= {m.key for m in sample(["draws"], 15, 3)}


def test_targets_exist():
    """Each module of the bench, and each of its test files, is there."""
    for module in TESTS:
        assert (ROOT / "src" / "purenoise" / f"{module}.py").is_file()
        assert all((ROOT / name).is_file() for name in files(module))


@needs_fork
def test_most_faults_in_losses_are_noticed():
    """A few mutants of the losses go the whole way, and at most one is not noticed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation", "--module", "losses", "--n", "4", "--seed", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    row = next(line for line in done.stdout.splitlines() if line.startswith("losses  "))
    assert row.split()[1] == "4", done.stdout + done.stderr
    assert int(row.split()[4]) <= 1, done.stdout


SCRIPT = """
    import sys
    from pathlib import Path
    from tests.mutation import bench, warm
    from tests.mutation.mutants import SOURCE, Mutant

    folder = Path(sys.argv[1])
    warm.LIBRARIES = ("torch",)
    warm.files = lambda module: [str(folder / "test_it.py")]
    good = (SOURCE / "mixedlabels.py").read_text()
    whole = bench._as_it_is("mixedlabels")
    bench._as_it_is = lambda module: bad or whole
    bad = None
    def mutants():
        for line in ("", "while True: pass", "import os; os.abort()", "a = b", "MixedLabels = 1"):
            yield Mutant("mixedlabels", "", 1, line, "", "", good + line + chr(10))
    bench.SLACK, bench.TIMES = 8, 1
    for verdict in bench.run(list(mutants()), 3, 9):
        print(verdict.mutant.kind, "->", verdict.outcome, "|", verdict.by)
    bad = list(mutants())[-1]
    list(bench.run([bad], 1, 9))
"""


@needs_fork
def test_verdicts(tmp_path: Path):
    """Faults that hang, crash, cannot be imported or break a test are told apart; none survives.

    A module that fails as it is ends the bench with a sentence.
    """
    (tmp_path / "test_it.py").write_text(
        "from purenoise.mixedlabels import MixedLabels\n"
        "def test_class():\n    assert isinstance(MixedLabels, type)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if " -> " in line]
    assert len(told) == 5, done.stdout + done.stderr
    lines = dict(line.split(" -> ") for line in told)
    assert lines[""] == "survived | "
    assert lines["while True: pass"] == "timed out | "
    assert lines["import os; os.abort()"] == "killed | the process ended with -6"
    assert lines["a = b"].startswith("killed | import of")
    assert lines["MixedLabels = 1"].startswith("killed | ")
    assert lines["MixedLabels = 1"].endswith("test_class")
    assert done.returncode == 1
    assert done.stderr.startswith("mixedlabels as it is: killed by")


def test_reasons_are_of_mutants_that_exist():
    """Each explained survivor can still be made from the module, and has a reason, once."""
    rows = tally.read(tally.REASONS)
    keys = [tally.key_of(row) for row in rows]
    made = {m.key for module in {row["module"] for row in rows} for m in mutants_of(module)}
    assert not set(keys) - made, "remove these rows, or write them anew"
    assert len(keys) == len(set(keys))
    assert all(len(row["reason"]) > 15 for row in rows)


def test_page_holds_the_counts():
    """The table in docs/reliability.md is what the committed counts give; 90 % are noticed."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.split(page.BEGIN)[1].split(page.END)[0].strip() == page.table()
    sample, found = page.counts()
    assert sample.startswith(f"{found['all'].total()},")
    assert page.scores(found["all"])[1] >= 90
    assert sum(n for (_, now), n in found["all"].items() if now == "survived") == 0


def test_counts_join_a_run_and_those_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was noticed when drawn stays so; survivors are what a later run says of them."""
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(page, "reasons", lambda: {("m", "f", "x", "3"): "because"})
    outcomes = {"0": "killed", "1": "survived", "2": "survived", "3": "survived", "4": "timed out"}
    common = dict.fromkeys(tally.FIELDS, "") | {"sample": "5, seed 0", "module": "m"}
    common |= {"function": "f", "before": "x"}
    rows = [common | {"after": name, "outcome": outcome} for name, outcome in outcomes.items()]
    tally.write(tmp_path / "first.csv", rows)
    tally.write(tmp_path / "again.csv", [rows[1] | {"outcome": "killed"}, rows[3]])
    page.gather(tmp_path / "first.csv", [tmp_path / "again.csv"])
    assert page.counts()[1]["all"] == {
        ("killed", "killed"): 1, ("survived", "killed"): 1, ("survived", "survived"): 1,
        ("survived", page.EXPLAINED): 1, ("timed out", "timed out"): 1,
    }  # fmt: skip
    assert page.scores(page.counts()[1]["all"]) == (pytest.approx(40), pytest.approx(60))
    assert page.table().splitlines()[-1] == "| all | 5 | 40.0 % | 2 | 1 | 2 | 1 | 60.0 % |"
