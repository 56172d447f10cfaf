"""Strings to sympy expressions, through a whitelist over Python's ``ast``.

Nothing of a string is ever evaluated: the characters are checked, ``ast.parse`` makes a
tree, and each node of it is translated by hand. Size, depth and powers are bounded, so
every string is accepted or refused at once.
"""

from __future__ import annotations

import ast
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Syntax", "parse", "read", "translate"]

Expr = Any

MAX_LENGTH = 2000
MAX_NODES = 500
MAX_DEPTH = 40
MAX_CALLS = 16
MAX_EXPONENT = 64
MAX_INTEGER = 10**15
# exp beyond this overflows float64; sympy would expand exp(n log 9) into an integer.
MAX_EXP = 700

# A number that runs into a letter, as in "2x"; Python would only warn of some of them.
_GLUED = re.compile(
    r"(?<![\w.])((?:\d[\d_]*+\.?+\d*+|\.\d++)(?:[eE][+-]?\d++)?+)([A-Za-z_]\w*)"
)

ALLOWED = "numbers, names, + - * / **, parentheses and functions"
FUNCTIONS = (
    "exp, log, sqrt, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, asinh, acosh, "
    "atanh, erf, erfc, log1p, expm1, sigmoid, softplus, logcosh, abs, sign, heaviside, "
    "min, max"
)
_MANY = frozenset({"min", "max", "Min", "Max"})
_CALLABLE = frozenset(FUNCTIONS.split(", ")) | {"Abs", "Min", "Max"}

_HINTS = {
    "^": "powers are written `**`",
    "|": "the absolute value is `abs(...)`, the length of the point `r`",
    "=": "only one expression is allowed, no assignment or comparison",
    "<": "comparisons are not allowed; use `heaviside`, `min`, `max` or a callable",
    ">": "comparisons are not allowed; use `heaviside`, `min`, `max` or a callable",
    "[": "coordinates are x, y, z or x1, x2, ...",
}


class Syntax(NamedTuple):
    """A string that passed the whitelist.

    ``names`` are all names that stand alone, also those that cancel (``0*y``).
    """

    text: str
    tree: ast.expr
    names: frozenset[str]
    owner: str


def parse(text: str, names: Mapping[str, Any], owner: str = "expression") -> Expr:
    """Sympy expression of a formula typed as text.

    Parameters
    ----------
    text : str
        Numbers, ``+ - * / **``, the listed functions and names. At most 2000
        characters, 500 nodes, exponents up to 64 in absolute value.
    names : mapping of str to sympy.Symbol
        The names that may stand in the text (``pi`` and ``e`` always may).
    owner : str
        What the formula is, for messages.

    Raises
    ------
    TypeError
        When ``text`` is not a string.
    ValueError
        For anything that is not a plain, real, finite formula; the text names the
        offending piece and what is allowed.
    """
    return translate(read(text, owner), names)


def read(text: str, owner: str = "expression") -> Syntax:
    """Check a string against the whitelist, without sympy."""
    if not isinstance(text, str):
        raise TypeError(f"{owner} must be a string, got {type(text).__name__}.")
    if len(text) > MAX_LENGTH:
        raise ValueError(
            f"{owner} has {len(text)} characters, at most {MAX_LENGTH} are allowed; "
            "write a callable instead."
        )
    text = " ".join(text.split())
    if not text:
        raise ValueError(f"{owner} is empty; write a formula such as 'x**2/2'.")
    _check_characters(text, owner)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or "nested too deeply"
        raise ValueError(
            f"{owner} = {_short(text)} is not a formula: {reason}. "
            f"Allowed are {ALLOWED}."
        ) from None
    return Syntax(text, tree, _check_tree(tree, text, owner), owner)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _check_characters(text: str, owner: str) -> None:
    found = re.search(r"[^A-Za-z0-9_.+\-*/(), ]", text)
    if found is not None:
        character = found.group()
        hint = _HINTS.get(character, f"allowed are {ALLOWED}")
        raise ValueError(
            f"{owner} = {_short(text)} contains {character!a} at position "
            f"{found.start()}: {hint}."
        )
    glued = _GLUED.search(text)
    if glued is not None:
        number, name = glued.groups()
        raise ValueError(
            f"{owner} = {_short(text)} contains {glued.group()!r}, which is not "
            f"allowed; write the product {number}*{name}."
        )
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ValueError(
            f"{owner} has parentheses nested {deepest} deep, at most {MAX_DEPTH} "
            "are allowed."
        )


def _check_tree(tree: ast.expr, text: str, owner: str) -> frozenset[str]:
    """Refuse nodes that are not on the whitelist; return the names."""
    names: set[str] = set()
    count = 0
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        count += 1
        if count > MAX_NODES:
            raise ValueError(
                f"{owner} has more than {MAX_NODES} numbers, names and operations; "
                "write a callable instead."
            )
        match node:
            case ast.Constant():
                _check_number(node.value, owner)
            case ast.Name():
                _check_name(node.id, owner)
                names.add(node.id)
            case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
                stack.append(node.operand)
            case ast.BinOp(
                op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow()
            ):
                stack += [node.left, node.right]
            case ast.Call(func=ast.Name(), keywords=[]) if node.args:
                _check_call(node, owner)
                stack += node.args
            case _:
                raise ValueError(
                    f"{owner} = {_short(text)} contains {_short(ast.unparse(node))}, "
                    f"which is not allowed. Allowed are {ALLOWED} "
                    f"({FUNCTIONS})."
                )
    return frozenset(names)


def _check_number(value: Any, owner: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{owner} contains {value!r}; only real numbers are allowed.")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ValueError(
            f"{owner} contains an integer above {MAX_INTEGER:.0e}; write it as a "
            "floating-point number such as 1e20."
        )
    if not math.isfinite(value):
        raise ValueError(f"{owner} contains a number that overflows to infinity.")


def _check_name(name: str, owner: str) -> None:
    if name.startswith("_") or "__" in name:
        raise ValueError(f"{owner} contains the name {name!r}: no underscore in front.")
    if name in _CALLABLE:
        raise ValueError(
            f"{owner} names the function {name!r} without argument; write {name}(...)."
        )


def _check_call(node: ast.Call, owner: str) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in _CALLABLE:
        raise ValueError(
            f"{owner} calls {name!r}, which is not a known function; allowed: "
            f"{FUNCTIONS}. (A product needs its `*`.)"
        )
    given = len(node.args)
    if name in _MANY and given < 2:
        raise ValueError(f"{owner}: {name}(...) takes two or more arguments.")
    if name not in _MANY and given != 1:
        raise ValueError(f"{owner}: {name}(...) takes one argument, got {given}.")


def translate(syntax: Syntax, names: Mapping[str, Any]) -> Expr:
    """Sympy expression of a checked string; ``names`` gives the symbols."""
    from flows.symbolic import vocabulary

    unknown = sorted(syntax.names - set(names) - set(vocabulary.CONSTANTS))
    if unknown:
        listed = ", ".join(f"{name!r}" for name in unknown)
        example = ", ".join(f'"{name}": 1.0' for name in unknown)
        valid = ", ".join([*names, *vocabulary.CONSTANTS])
        raise ValueError(
            f"{syntax.owner} = {_short(syntax.text)} contains the unknown name(s) "
            f"{listed}; known are {valid}. Give other constants as "
            f"parameters={{{example}}}."
        )
    try:
        expr = _Builder(syntax.owner, names).build(syntax.tree, 0, 0, 1.0)
    except RecursionError:
        raise ValueError(f"{syntax.owner} is nested too deeply.") from None
    return vocabulary.from_sympy(expr)


class _Builder:
    """Translates a checked tree node by node, bounding what sympy would blow up."""

    def __init__(self, owner: str, names: Mapping[str, Any]) -> None:
        from flows.symbolic import vocabulary

        self.owner = owner
        self.names = {**vocabulary.CONSTANTS, **names}
        self.calls = vocabulary.CALLS

    def build(self, node: ast.expr, depth: int, calls: int, power: float) -> Expr:
        """Expression of ``node``; ``power`` is the product of the powers around it."""
        if depth > MAX_DEPTH or calls > MAX_CALLS:
            raise ValueError(
                f"{self.owner} is nested too deeply: at most {MAX_DEPTH} levels and "
                f"{MAX_CALLS} functions inside each other are allowed."
            )
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self.names[node.id]
            case ast.UnaryOp():
                inner = self.build(node.operand, depth + 1, calls, power)
                return -inner if isinstance(node.op, ast.USub) else inner
            case ast.BinOp(op=ast.Pow()):
                return self._power(node, depth + 1, calls, power)
            case ast.BinOp():
                return self._chain(node, depth + 1, calls, power)
            case ast.Call(func=ast.Name(id=name)):
                return self._call(name, node.args, depth + 1, calls + 1, power)
        raise ValueError(f"{self.owner} contains {ast.dump(node)[:40]}.")

    def _number(self, node: ast.Constant) -> Expr:
        import sympy

        value = node.value
        return sympy.Integer(value) if isinstance(value, int) else sympy.Float(value)

    def _chain(self, node: ast.expr, depth: int, calls: int, power: float) -> Expr:
        """A sum or product of many operands, which ``ast`` nests to the left."""
        import sympy

        sums: tuple[type[ast.operator], ...] = (ast.Add, ast.Sub)
        products: tuple[type[ast.operator], ...] = (ast.Mult, ast.Div)
        kind = products
        if isinstance(node, ast.BinOp) and isinstance(node.op, sums):
            kind = sums
        operands = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, kind):
            right = self.build(node.right, depth, calls, power)
            if isinstance(node.op, ast.Sub):
                right = -right
            elif isinstance(node.op, ast.Div):
                right = self._reciprocal(right)
            operands.append(right)
            node = node.left
        operands.append(self.build(node, depth, calls, power))
        combine = sympy.Add if kind is sums else sympy.Mul
        return self._real(combine(*reversed(operands)))

    def _reciprocal(self, divisor: Expr) -> Expr:
        if divisor.is_zero:
            raise ValueError(f"{self.owner} divides by zero.")
        return self._real(1 / divisor)

    def _power(self, node: ast.BinOp, depth: int, calls: int, power: float) -> Expr:
        import sympy

        exponent = self.build(node.right, depth, calls + 1, power)
        if exponent.is_Float and float(exponent).is_integer():
            exponent = sympy.Integer(int(exponent))
        if exponent.is_number:
            size = abs(self._float(exponent))
            power *= max(1.0, size)
            if size > MAX_EXPONENT or power > MAX_EXPONENT:
                raise ValueError(
                    f"{self.owner} has the power {max(size, power):g}; at most "
                    f"{MAX_EXPONENT} is allowed, nested powers multiplied."
                )
        base = self.build(node.left, depth, calls, power)
        if base.is_number:
            limit = MAX_EXP if base == sympy.E else MAX_EXPONENT
            self._check_constants(exponent, limit, "an exponent")
        if base.is_zero and exponent.is_negative:
            raise ValueError(f"{self.owner} divides by zero.")
        if base.is_number and not exponent.is_number and self._float(base) <= 0:
            raise ValueError(
                f"{self.owner} has the number {self._float(base):g} under a variable "
                "exponent; only positive numbers are allowed there."
            )
        result = self._real(base**exponent)
        if base.is_number and exponent.is_number:
            self._float(result)
        return result

    def _call(
        self, name: str, nodes: list[ast.expr], depth: int, calls: int, power: float
    ) -> Expr:
        import sympy

        arguments = [self.build(node, depth, calls, power) for node in nodes]
        if name == "exp":
            self._check_constants(arguments[0], MAX_EXP, "exp of")
        if name in ("abs", "Abs", "sign", "heaviside", *_MANY):
            # The sign of an exact constant can be a hard question, of a float never.
            arguments = [
                sympy.Float(self._float(u)) if u.is_number and not u.is_Rational else u
                for u in arguments
            ]
        function = self.calls[name]
        result = arguments[0] if name in _MANY else function(*arguments)
        for other in arguments[1:]:
            result = function(result, other)
        if all(u.is_number for u in arguments):
            self._float(result)
        return self._real(result)

    def _check_constants(self, expr: Expr, limit: float, where: str) -> None:
        """Bound the constants of an exponent, which sympy may expand to integers."""
        import sympy

        for part in sympy.Add.make_args(expr):
            if part.is_number and abs(self._float(part)) > limit:
                raise ValueError(
                    f"{self.owner} has {where} {self._float(part):g}; at most "
                    f"{limit} in absolute value is allowed."
                )

    def _float(self, number: Expr) -> float:
        try:
            value = float(number)
        except (TypeError, OverflowError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(
                f"{self.owner} contains a constant that is not a real finite number."
            )
        return value

    def _real(self, expr: Expr) -> Expr:
        """Refuse constants that are infinite, undefined, complex or out of range."""
        import sympy

        for part in (expr, *expr.args):
            if part.is_Number or part in (sympy.zoo, sympy.I):
                self._float(part)
            elif part.is_number and part.is_extended_real is False:
                self._float(sympy.I)
        if expr.has(sympy.I, sympy.zoo, sympy.nan, sympy.oo):
            raise ValueError(
                f"{self.owner} contains a constant that is not a real finite number, "
                "for instance a division by zero or the root of a negative number."
            )
        return expr
