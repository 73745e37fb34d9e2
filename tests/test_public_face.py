"""The names that users import."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import purenoise as pn


@pytest.mark.parametrize("name", pn.__all__)
def test_public_name_loads(name):
    """Every public name is there and is no module."""
    assert not isinstance(getattr(pn, name), type(pytest))


def test_no_submodule_bears_a_public_name():
    """A submodule called like a public function would take its place once it is imported."""
    assert not {m.name for m in pkgutil.iter_modules(pn.__path__)} & set(pn.__all__)


def test_unknown_name_is_an_attribute_error():
    """A name that is not there gives Python's own error."""
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = pn.opne


def test_import_does_not_load_torch():
    """`import purenoise` costs next to nothing."""
    code = "import sys, purenoise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
