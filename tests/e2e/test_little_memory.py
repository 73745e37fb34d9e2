"""Too little memory to load a library: every command says so in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Fails as the loader of libraries does, from some library on and for all that come after it.
FAILING = """
import sys
first, full = sys.argv.pop(), []
class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == first or full:
            full.append(name)
            raise ImportError(f"{name}.so: failed to map segment from shared object")
sys.meta_path.insert(0, Finder)
from purenoise.cli import main
main()
"""


@pytest.mark.parametrize(
    ("words", "library"),
    [("train", "torch"), ("compare", "torch"), ("evaluate x", "numpy"), ("report x", "numpy"),
     ("inspect digits", "pydantic"), ("predict x y", "torch")],
)  # fmt: skip
def test_a_library_that_cannot_be_loaded_is_a_sentence(
    words: str, library: str, tmp_path: Path
) -> None:
    """Nothing more is loaded to say it, as that would fail alike."""
    done = subprocess.run([sys.executable, "-c", FAILING, *words.split(), library], cwd=tmp_path,
                          text=True, capture_output=True, timeout=120, check=False)  # fmt: skip
    assert done.stderr.startswith("purenoise: There was too little memory for that.\n")
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
