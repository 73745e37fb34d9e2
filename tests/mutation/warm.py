"""A warm parent that forks one child per mutant; a child is the first to import purenoise.

The parent has imported the libraries, and nothing of purenoise. In the child an import hook serves
the mutant's text where the module's own would be read, so that whoever imports from it, however
early, gets the mutant. Then the child runs pytest on the module's tests until the first that fails.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from .mutants import SOURCE, Mutant
from .targets import LEFT_OUT, files

LIBRARIES = (
    "hypothesis", "numpy", "PIL.Image", "pydantic", "safetensors.torch", "scipy.stats",
    "sklearn.datasets", "timm", "torch", "torch._dynamo", "torch.utils.checkpoint",
    "torch.utils.data", "torchvision", "yaml",
)  # fmt: skip
FAULT = 70  # exit code of a child in which the bench itself went wrong
MEMORY = 6 << 30  # bytes that a child may add; a mutant may ask for any amount


def warm_up() -> None:
    """Import the libraries, once for all children."""
    for name in LIBRARIES:
        importlib.import_module(name)
    from hypothesis import settings

    settings.register_profile("mutation", derandomize=True, database=None, deadline=None)
    early = [name for name in sys.modules if name.partition(".")[0] == "purenoise"]
    assert not early, f"{early} were imported before the mutant"


class _Text(importlib.machinery.SourceFileLoader):
    """Loads a module from a text, as if its file held that."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text, self.was_used = text, False

    def get_code(self, fullname: str) -> CodeType:
        """Compile the text; nothing is read from or written to a cache."""
        self.was_used = True
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Hook(importlib.abc.MetaPathFinder):
    """Finds one module, before anything else is asked for it."""

    def __init__(self, module: str, text: str) -> None:
        self.name = f"purenoise.{module}"
        self.loader = _Text(self.name, str(SOURCE / f"{module}.py"), text)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the text's module if it is the one that is asked for."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.loader.path, loader=self.loader)


class _Witness:
    """Keeps the first test that failed."""

    def __init__(self) -> None:
        self.failed = ""
        self.passed = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Look at a test's end."""
        self.passed += report.when == "call" and report.passed
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        """Look at the import of a file."""
        if report.failed and not self.failed:
            self.failed = f"import of {report.nodeid}"


@dataclass
class Child:
    """A process at work on a mutant."""

    mutant: Mutant
    pid: int
    folder: Path
    begun: float
    limit: float


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``killed``, ``timed out`` or ``survived``, by which test, when."""

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


def start(mutant: Mutant, folder: Path, limit: float) -> Child:
    """Fork a child that runs the tests of the mutant's module."""
    folder.mkdir()
    sys.stdout.flush()
    sys.stderr.flush()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = FAULT
        try:
            code = _work(mutant, folder)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return Child(mutant, pid, folder, begun, limit)


def _work(mutant: Mutant, folder: Path) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()  # so that what it starts ends with it
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    sys.path.insert(0, str(SOURCE.parent))
    hook, witness = _Hook(mutant.module, mutant.source), _Witness()
    sys.meta_path.insert(0, hook)
    words = " and ".join(f"not {name}" for name in LEFT_OUT)
    code = pytest.main(
        ["-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist",
         "-W", "ignore::pytest.PytestAssertRewriteWarning", "--hypothesis-profile=mutation",
         f"--basetemp={folder / 'tmp'}", "-k", words, "-m", "not long and not gpu",
         *files(mutant.module)],
        plugins=[witness],
    )  # fmt: skip
    told = {"code": int(code), "failed": witness.failed, "passed": witness.passed,
            "used": hook.loader.was_used}  # fmt: skip
    (folder / "told.json").write_text(json.dumps(told))
    return 0


def look(child: Child) -> Verdict | None:
    """Return the verdict on a child that has ended or is over its time, else None."""
    done, status = os.waitpid(child.pid, os.WNOHANG)
    seconds = time.monotonic() - child.begun
    if not done and seconds < child.limit:
        return None
    end_group(child.pid)
    if not done:
        os.waitpid(child.pid, 0)
        verdict = Verdict(child.mutant, "timed out", "", seconds)
    else:
        verdict = _verdict(child, os.waitstatus_to_exitcode(status), seconds)
    shutil.rmtree(child.folder, ignore_errors=True)
    return verdict


def end_group(pid: int) -> None:
    """Kill a child and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _verdict(child: Child, code: int, seconds: float) -> Verdict:
    told_at, said_at = child.folder / "told.json", child.folder / "said"
    said = said_at.read_text(errors="replace") if said_at.exists() else ""
    if code == FAULT:
        raise RuntimeError(f"The bench failed: {said[-2000:]}")
    if not told_at.exists():  # a crash
        return Verdict(child.mutant, "killed", f"the process ended with {code}", seconds)
    told = json.loads(told_at.read_text())
    if told["code"] in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"The tests of {child.mutant.module} cannot be run: {said[-500:]}")
    if told["code"] == pytest.ExitCode.OK:
        if not told["used"] or not told["passed"]:
            raise RuntimeError(f"No test of {child.mutant.module} imports it.")
        return Verdict(child.mutant, "survived", "", seconds)
    return Verdict(child.mutant, "killed", told["failed"] or "pytest itself", seconds)
