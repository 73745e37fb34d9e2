"""The house: four floors, imports that only point down, short files, no global random numbers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "purenoise"

# Every module stands on one floor, and may import from its own and the floors below.
# A name with a dot and a star stands for a whole folder.
FLOORS: dict[int, list[str]] = {
    0: ["errors", "smallfile", "outofmemory"],
    1: [
        "noise", "syncnorm", "exactness", "masked", "darbn", "passes", "twopass", "maskedpass",
        "auxbn", "conversion", "inloop", "longtail", "samplers", "deferred",
        "lossbase", "losses",
        "mixedlabels", "mixing", "metrics", "confusion", "schedules", "names",
        "lab.intervals", "posthoc.heads", "posthoc.fitting", "places",
    ],
    2: [
        "augment", "auto_ops", "auto_policies", "draws", "image_ops", "data", "data.*", "models",
        "models.*", "checksums",
    ],
    3: [
        "yamlfile", "faults", "overrides", "headspec", "methodfile", "methodoptions", "datasection",
        "noisesection", "trainsection", "combining", "recipe", "keyhelp", "methods", "headstage",
        "noisesource", "fitting", "runtime", "determinism", "team", "resuming", "runidentity",
        "speed", "step", "finetune", "modelinput", "feed", "network", "prepare", "plan",
        "optimizer", "meter", "telling", "training", "evaluate", "probes", "checkpoint", "runlog",
        "predictions", "finishing", "ourlines",
        "experiment", "predict", "wholefile", "runlinks", "eventlog", "stateform", "summaryform",
        "estimatorfit", "datasources",
        "lab", "lab.*",
        "posthoc", "posthoc.*",
        "export", "export.manifest", "export.source", "export.standalone", "export.checking",
        "export.plainweights", "export.onnxfile", "export.program", "export.reading",
    ],
    4: [
        "report", "report.*", "terminal", "terminal.*", "cli", "__main__", "inspection", "doctor",
        "estimator",
        "ldamfiles", "ldamflags",
        "export.*",
    ],
    5: [""],  # the package itself, which only names what it offers
}  # fmt: skip
MAX_LINES = 350
# Files that seed the global generator, inside fork_rng or giving its state back.
SEEDERS = {"models/__init__.py", "training.py"}
GLOBAL_RANDOM = {
    "np.random.seed", "np.random.rand", "np.random.randn", "np.random.randint", "np.random.random",
    "np.random.choice", "np.random.shuffle", "np.random.permutation", "np.random.normal",
    "np.random.uniform", "random.seed", "random.random", "random.shuffle", "random.choice",
    "random.randint", "random.sample",
}  # fmt: skip
SEEDING = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.random.manual_seed",
           "torch.cuda.manual_seed_all", "torch.default_generator.manual_seed"}  # fmt: skip


def modules() -> dict[str, Path]:
    """Return all modules: name inside the package to file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
each_module = pytest.mark.parametrize("module", MODULES)


def floor_of(module: str) -> int | None:
    """Return the floor a module stands on; None if it is not listed."""
    folder = f"{module.partition('.')[0]}.*"
    for floor, names in FLOORS.items():
        if module in names or ("." in module and folder in names):
            return floor
    return None


def imports(tree: ast.AST, module: str, known: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Yield the modules of the package that are imported in ``tree``, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                is_package = known[module].name == "__init__.py"
                parts = ["purenoise", *filter(None, module.split("."))]
                up = len(parts) - node.level + is_package
                base = ".".join([*parts[:up], *filter(None, [base])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            head, _, inside = name.partition(".")
            if head != "purenoise":
                continue
            while inside and inside not in known:
                inside = inside.rpartition(".")[0]
            lazy = not inside and name not in ("purenoise", "purenoise.__version__")
            yield (name.removeprefix("purenoise.") if lazy else inside), node.lineno


def uphill(module: str, tree: ast.AST, known: dict[str, Path]) -> list[str]:
    """Return a sentence for each import that points up."""
    own = floor_of(module)
    assert own is not None
    faults = []
    for target, line in imports(tree, module, known):
        if target == "" and own >= 1:
            continue  # the package's own name and version: it imports nothing by itself
        floor = floor_of(target)
        if floor is None or floor > own:
            faults.append(f"{module}:{line} imports {target}, which is on floor {floor}")
    return faults


def at_import(tree: ast.Module) -> ast.Module:
    """Return only what runs when the module is imported: no functions, no TYPE_CHECKING."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
            if "TYPE_CHECKING" in ast.unparse(node.test):
                return node.orelse or None
            return self.generic_visit(node)

    return Strip().visit(ast.parse(ast.unparse(tree)))


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return a circle in the graph, or None."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        for after in sorted(graph.get(node, ())):
            if found := walk(after, [*path, node]):
                return found
        done.add(node)
        return None

    return next((found for node in graph if (found := walk(node, []))), None)


def calls(tree: ast.AST) -> set[str]:
    """Return the dotted names of all that is called, with numpy written np."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.add(ast.unparse(node.func).replace("numpy.", "np."))
    return found


@each_module
def test_module_has_a_floor(module: str) -> None:
    """Every module is listed in FLOORS, so that a new one gets its place by decision."""
    assert floor_of(module) is not None, f"{module!r} is on no floor: add it to FLOORS"


def test_no_module_is_listed_twice() -> None:
    """A module stands on one floor."""
    names = [name for floor in FLOORS.values() for name in floor]
    assert len(names) == len(set(names))


@each_module
def test_imports_point_down(module: str) -> None:
    """No module imports from a floor above its own, not even inside a function."""
    assert not uphill(module, TREES[module], MODULES)


def test_no_circles() -> None:
    """What modules import while they are imported makes no circle."""
    graph = {
        name: {target for target, _ in imports(at_import(tree), name, MODULES)} - {"", name}
        for name, tree in TREES.items()
    }
    assert cycle(graph) is None


def test_files_are_short() -> None:
    """No file of the package or of its tests is longer than MAX_LINES."""
    files = [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    lengths = {str(f): len(f.read_text(encoding="utf-8").splitlines()) for f in files}
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


@each_module
def test_no_global_random_numbers(module: str) -> None:
    """No module draws from global generators, and only SEEDERS seed torch's, giving it back."""
    called = calls(TREES[module])
    assert not called & GLOBAL_RANDOM
    if called & SEEDING:
        assert MODULES[module].relative_to(PACKAGE).as_posix() in SEEDERS


@each_module
def test_nothing_is_left_over(module: str) -> None:
    """Every module says what it is, and none has an empty body or a bare except."""
    tree = TREES[module]
    assert not any(isinstance(n, ast.ExceptHandler) and n.type is None for n in ast.walk(tree))
    if MODULES[module].read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree)


@pytest.mark.parametrize(
    ("module", "code", "wrong"),
    [
        ("losses", "from purenoise.recipe import Recipe", True),
        ("losses", "import purenoise.recipe", True),
        ("losses", "from purenoise import recipe", True),
        ("losses", "def f():\n    from purenoise.data.cifar import load_cifar", True),
        ("losses", "from . import recipe", True),
        ("losses", "from purenoise import train", True),
        ("losses", "from purenoise import __version__", False),
        ("data.cifar", "from ..recipe import Recipe", True),
        ("data.cifar", "from . import types\nfrom ..longtail import groups", False),
        ("losses", "from purenoise.longtail import check_counts", False),
        ("recipe", "from purenoise import losses, yamlfile", False),
    ],
)
def test_the_walk_can_fail(module: str, code: str, wrong: bool) -> None:
    """The walk sees every way to write an import that points up, and no other."""
    assert bool(uphill(module, ast.parse(code), MODULES)) == wrong


def test_circles_and_calls_are_seen() -> None:
    """The search for circles finds one, unless a function breaks it; calls are seen by name."""
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    lazy = at_import(ast.parse("def f():\n    import purenoise.recipe\nimport purenoise.losses"))
    assert [target for target, _ in imports(lazy, "errors", MODULES)] == ["losses"]
    hidden = at_import(ast.parse("if TYPE_CHECKING:\n    import purenoise.recipe"))
    assert not list(imports(hidden, "errors", MODULES))
    assert calls(ast.parse("import numpy\nnumpy.random.seed(0)")) & GLOBAL_RANDOM
    assert calls(ast.parse("torch.manual_seed(0)")) & SEEDING
    assert not calls(ast.parse("torch.Generator().manual_seed(0)")) & SEEDING
    assert floor_of("nonsense") is None
