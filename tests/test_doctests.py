"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import purenoise

NOT_IMPORTED = {"purenoise.__main__"}  # runs the command line
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(purenoise.__path__, "purenoise.")
    if name not in NOT_IMPORTED
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    """The examples of a module print what they say, without warnings and with no files left."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = doctest.testmod(module)
    assert result.failed == 0
    assert not list(tmp_path.iterdir())


def test_there_are_examples():
    """The walk finds modules, and they hold examples."""
    found = [doctest.DocTestFinder().find(importlib.import_module(name)) for name in MODULES]
    assert sum(bool(test.examples) for tests in found for test in tests) > 20
