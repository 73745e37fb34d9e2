"""What a mutant changes: for each node of a syntax tree, the nodes that may stand in its place.

One change each, of the kind that a slip of the hand makes: a comparison that is off by one, a sign,
an axis, an option left out, a line left out. What only words a message is left alone, see
:mod:`tests.mutation.mutants`.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

Edit = tuple[str, ast.AST, ast.AST]  # kind, the node, what stands in its place

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("clamp_min", "clamp_max"), ("argmin", "argmax"),
    ("sum", "mean"), ("any", "all"), ("zeros", "ones"), ("zeros_like", "ones_like"),
    ("new_zeros", "new_ones"), ("sin", "cos"), ("softmax", "log_softmax"), ("mul_", "div_"),
    ("add_", "sub_"), ("floor", "ceil"),
)  # fmt: skip
SWAPPED = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
DROPPED = {"detach", "clamp_min", "clamp_max", "clamp", "clamp_", "abs", "float", "long", "copy"}
TEXT = (ast.JoinedStr, ast.Constant)


def edits(node: ast.AST) -> Iterator[Edit]:
    """Yield each change that may be made at a node itself, not at those below it."""
    for kind, make in _BY_TYPE.get(type(node), ()):
        for new in make(node):
            yield kind, node, new
    for test in _tests(node):
        for new in _forced(test):
            yield "condition", test, new


def _with(node: Any, **fields: Any) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for place, op in enumerate(node.ops):
        for other in COMPARISONS.get(type(op), ()):
            yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])


def _arithmetic(node: ast.BinOp) -> Iterator[ast.AST]:
    sides = (node.left, node.right)
    if any(isinstance(side, ast.JoinedStr | ast.Tuple | ast.List) or _is_text(side)
           for side in sides):  # fmt: skip
        return  # texts and tuples are joined or repeated: nothing else is possible
    if isinstance(node.op, ast.BitOr) and all(_names_a_type(side) for side in sides):
        return
    if type(node.op) in ARITHMETIC:
        yield _with(node, op=ARITHMETIC[type(node.op)]())


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _names_a_type(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _names_a_type(node.left) and _names_a_type(node.right)
    return isinstance(node, ast.Name | ast.Attribute | ast.Subscript)


def _in_place(node: ast.AugAssign) -> Iterator[ast.AST]:
    if type(node.op) in ARITHMETIC and not isinstance(node.op, ast.BitOr):
        yield _with(node, op=ARITHMETIC[type(node.op)]())


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if value is None:
        yield ast.Constant(0)
    elif isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
        if value == 1:
            yield ast.Constant(type(value)(0))


def _slice(node: ast.Slice) -> Iterator[ast.AST]:
    for name in ("lower", "upper", "step"):
        if getattr(node, name) is not None:
            yield _with(node, **{name: None})


def _option_left_out(node: ast.Call) -> Iterator[ast.AST]:
    for option in node.keywords:
        if option.arg is not None:
            yield _with(node, keywords=[other for other in node.keywords if other is not option])


def _swapped(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func
    if isinstance(name, ast.Name) and name.id in SWAPPED:
        yield _with(node, func=_with(name, id=SWAPPED[name.id]))
    if isinstance(name, ast.Attribute) and name.attr in SWAPPED:
        yield _with(node, func=_with(name, attr=SWAPPED[name.attr]))


def _dropped(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func
    if isinstance(name, ast.Attribute) and name.attr in DROPPED:
        yield name.value
    if isinstance(name, ast.Name) and name.id in ("min", "max") and len(node.args) == 2:
        yield from (arg for arg in node.args if not isinstance(arg, ast.Constant))


def _removed(node: Any) -> Iterator[ast.AST]:
    """A statement is left out, unless what it names would be missing afterwards."""
    if isinstance(node, ast.Assign):
        own = {n.id for target in node.targets for n in _names(target)}
        if own and not own <= {n.id for n in _names(node.value)}:
            return
    elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Call):
        return
    yield ast.Pass()


def _names(node: ast.AST) -> Iterator[ast.Name]:
    """The names in a node; of an attribute or an item that is assigned to, none."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner


def _returned(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _tests(node: Any) -> list[ast.expr]:
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return [node.test]
    return node.ifs if isinstance(node, ast.comprehension) else []


def _forced(test: ast.expr) -> Iterator[ast.AST]:
    yield ast.Constant(True)
    yield ast.Constant(False)
    # Of a comparison, the opposite is among those of its operator; of ``not x`` it is x.
    is_single = isinstance(test, ast.Compare) and len(test.ops) == 1
    if not is_single and not isinstance(test, ast.UnaryOp):
        yield ast.UnaryOp(ast.Not(), test)


_BY_TYPE: dict[type[ast.AST], tuple[tuple[str, Callable[[Any], Iterator[ast.AST]]], ...]] = {
    ast.Compare: (("comparison", _compare),),
    ast.BinOp: (("arithmetic", _arithmetic),),
    ast.AugAssign: (("arithmetic", _in_place), ("statement left out", _removed)),
    ast.UnaryOp: (("sign or not left out", _unary),),
    ast.BoolOp: (("and, or", _boolean),),
    ast.Constant: (("constant", _constant),),
    ast.Slice: (("slice", _slice),),
    ast.Call: (
        ("argument left out", _option_left_out), ("function", _swapped), ("call left out", _dropped)
    ),
    ast.Return: (("return None", _returned),),
    ast.Raise: (("statement left out", _removed),),
    ast.Expr: (("statement left out", _removed),),
    ast.Assign: (("statement left out", _removed),),
    ast.Continue: (("statement left out", _removed),),
}  # fmt: skip
