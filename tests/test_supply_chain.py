"""What is installed for development: locked, within the bounds of pyproject.toml, from anywhere."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements-dev.lock"


def locked() -> dict[str, str]:
    """Return the version of each package in the lock file."""
    pins = re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s\\]+)", LOCK.read_text(encoding="utf-8"))
    return {canonicalize_name(name): version for name, version in pins}


def wanted() -> list[Requirement]:
    """Return all that development needs, extras taken apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["test"], *extras["dev"]]
    return [r for r in map(Requirement, texts) if r.name != project["name"]]


def test_the_lock_satisfies_the_project():
    """Each requirement of `.[dev]` has one locked version, within its bounds."""
    pins = locked()
    for requirement in wanted():
        name = canonicalize_name(requirement.name)
        assert name in pins, requirement
        assert requirement.specifier.contains(pins[name], prereleases=True), requirement


def test_the_lock_names_no_machine():
    """The lock has no path and no index; each package has a hash or none has."""
    text = LOCK.read_text(encoding="utf-8")
    assert not re.search(r"file:|https?:|--index|--find-links| @ |/opt/|/home/|/tmp/", text)
    n_hashes = text.count("--hash=sha256:")
    assert n_hashes in (0, len(locked()))
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}$", text, re.M)) == n_hashes


def test_dependencies_are_bounded_below():
    """Each dependency says from which version on it does."""
    for requirement in wanted():
        if requirement.name != "types-PyYAML":
            assert any(s.operator == ">=" for s in requirement.specifier), requirement


@pytest.mark.parametrize("script", ["run", "lock", "oldest"])
def test_scripts_can_be_read_by_a_shell(script: str):
    """The scripts of CI are executable, and their syntax is right."""
    path = ROOT / ".ci" / script
    assert path.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_the_wheel_has_what_the_package_reads():
    """Recipes, methods and the report's templates lie inside the package that is built."""
    package = ROOT / "src" / "purenoise"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/purenoise"]
    for pattern in ("recipes/*.yaml", "recipes/methods/*.yaml", "report/templates/*.j2"):
        assert list(package.glob(pattern)), pattern
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert not {"*.yaml", "*.j2", "*.js", "*.css"} & set(ignored)  # hatchling leaves those out
