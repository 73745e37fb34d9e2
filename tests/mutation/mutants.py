"""All mutants of a module, and a seeded sample of them.

A mutant is the module's text with one place changed. Left alone is what does no work or only words
a message: docstrings, annotations, texts and f-strings, what stands in a ``raise``, assertions
(they guard our own invariants), imports, decorators other than ``no_grad``, type aliases, the types
of ``isinstance``, and what is for type checkers. Mutants whose syntax trees are equal count once.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .operators import edits

SOURCE = Path(__file__).resolve().parents[2] / "src" / "purenoise"
AROUND = 40  # characters of a line that are shown beside a change


@dataclass(frozen=True)
class Mutant:
    """One change of one module, with the text of the line before and after it."""

    module: str
    function: str
    line: int
    kind: str
    before: str
    after: str
    source: str = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names a mutant also after other lines of the module have changed."""
        return self.module, self.function, self.before, self.after


@dataclass(frozen=True)
class _Place:
    """A node, the function it is in, and the statement (of a compound one, its head)."""

    node: ast.AST
    function: str
    statement: ast.AST


def mutants_of(module: str, text: str | None = None) -> list[Mutant]:
    """Return all mutants of a module, in the order of its text."""
    text = (SOURCE / f"{module}.py").read_text(encoding="utf-8") if text is None else text
    raw = text.encode()
    starts = [0, *itertools.accumulate(map(len, raw.splitlines(keepends=True)))]
    found = []
    for top in ast.parse(text).body:
        first, last = _span(starts, top, with_decorators=True)
        seen = {_dump(raw[first:last])}
        for place in _places(top, "", top):
            for kind, old, new in _edits(place.node):
                (begin, end), code = _span(starts, old), _written(new)
                dump = _dump(raw[first:begin] + code.encode() + raw[end:last])
                if dump is None or dump in seen:
                    continue
                seen.add(dump)
                before, after = _shown(raw, _head(starts, place.statement), (begin, end), code)
                source = (raw[:begin] + code.encode() + raw[end:]).decode()
                line = raw.count(b"\n", 0, begin) + 1
                found.append(Mutant(module, place.function, line, kind, before, after, source))
    return found


def _dump(statement: bytes) -> str | None:
    """Return the syntax tree of a statement as text; None if it cannot be compiled."""
    try:
        tree = ast.parse(statement)
        compile(tree, "mutant", "exec")
    except SyntaxError:
        return None
    return ast.dump(tree)


def _head(starts: Sequence[int], statement: ast.AST) -> tuple[int, int]:
    """Return the span of a statement; of a compound one, without its body."""
    begin, end = _span(starts, statement)
    body = getattr(statement, "body", None)
    return begin, _span(starts, body[0])[0] if body else end


def sample(modules: Sequence[str], n: int, seed: int) -> list[Mutant]:
    """Draw n mutants of all those of the modules, each with the same chance, none twice.

    Each mutant has a number, from a hash of the seed and what it changes; the smallest n are
    drawn. So a module that is edited exchanges few of them, unlike with places in a list.
    """
    every = [mutant for module in modules for mutant in mutants_of(module)]
    times: Counter[tuple[str, ...]] = Counter()
    numbers = []
    for place, mutant in enumerate(every):
        times[mutant.key] += 1  # the same line may come twice in a function
        words = repr((seed, *mutant.key, times[mutant.key]))
        numbers.append((hashlib.sha256(words.encode()).digest(), place))
    return [every[place] for place in sorted(place for _, place in sorted(numbers)[:n])]


def _edits(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    if isinstance(node, ast.FunctionDef):
        for decorator in node.decorator_list:
            if ast.unparse(decorator) == "torch.no_grad()":
                yield "decorator left out", decorator, ast.Lambda(_of_one_argument(), _name("f"))
    else:
        yield from edits(node)


def _of_one_argument() -> ast.arguments:
    return ast.arguments([], [ast.arg("f")], None, [], [], None, [])


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _places(node: ast.AST, function: str, statement: ast.AST) -> Iterator[_Place]:
    """Yield the nodes that may be changed, outer ones first."""
    if _is_left_alone(node, function):
        return
    if isinstance(node, ast.stmt):
        statement = node
    yield _Place(node, function, statement)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for child in _children(node):
        yield from _places(child, function, statement)


def _is_left_alone(node: ast.AST, function: str) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    if isinstance(node, ast.Assign) and not function:
        names_types = isinstance(node.value, ast.Subscript | ast.BinOp)
        return ast.unparse(node.targets[0]) == "__all__" or names_types
    return False


def _children(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Raise):
        return []
    if isinstance(node, ast.FunctionDef):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return [*defaults, *node.body]
    if isinstance(node, ast.ClassDef):
        return list(node.body)
    if isinstance(node, ast.AnnAssign):
        return [node.value] if node.value else []
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
        return [node.left]  # ``is 0`` would be a warning, not a fault
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
        return node.args[:1]
    return list(ast.iter_child_nodes(node))


def _span(
    starts: Sequence[int], node: ast.AST, *, with_decorators: bool = False
) -> tuple[int, int]:
    """Return where a node begins and ends in the text, in bytes."""
    begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
    if with_decorators and (decorators := getattr(node, "decorator_list", [])):
        begin = starts[decorators[0].lineno - 1]
    end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
    return begin, end


def _written(new: ast.AST) -> str:
    code = ast.unparse(ast.fix_missing_locations(new))
    bare = isinstance(new, ast.Slice | ast.Constant | ast.Name) or not isinstance(new, ast.expr)
    return code if bare else f"({code})"


def _shown(text: bytes, head: tuple[int, int], span: tuple[int, int], new: str) -> tuple[str, str]:
    """Return the line of a change before and after it, cut to what is around."""
    begin, end = min(head[0], span[0]), max(head[1], span[1])
    left, right = text[begin : span[0]].decode(), text[span[1] : end].decode()
    changed = text[span[0] : span[1]].decode()
    left, changed, right = (re.sub(r"\s+", " ", part) for part in (left, changed, right))
    left = f"...{left[-AROUND:]}" if len(left) > AROUND + 3 else left
    right = f"{right[:AROUND]}..." if len(right) > AROUND + 3 else right
    return f"{left}{changed}{right}".strip(), f"{left}{new}{right}".strip()
