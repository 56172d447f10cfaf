"""From formulas to code for NumPy, torch and scalars; loads sympy.

The source of a function is straight-line Python: common subexpressions once, integer
powers as products, every constant a Python float, so float32 stays float32. Names in it
are x0, x1, ..., t, p0, p1, ...: nothing that a user typed reaches ``compile``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy
from sympy.logic.boolalg import BooleanFalse, BooleanTrue

from flows.symbolic.derivatives import SAFE, SQUARE, at_origin
from flows.symbolic.vocabulary import CALLS, RADIUS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_printable", "define", "source"]

Expr = Any

_UNARY: dict[Any, str] = {
    function: name
    for name, function in CALLS.items()
    if name not in ("Abs", "min", "max", "Min", "Max", "sqrt")
}
_BINARY = {"maximum": "maximum", "minimum": "minimum", "curvature": "curvature"}
_COMPARE = {
    sympy.Lt: "<",
    sympy.Le: "<=",
    sympy.Gt: ">",
    sympy.Ge: ">=",
    sympy.Eq: "==",
    sympy.Ne: "!=",
}


def check_printable(expr: Expr, owner: str) -> None:
    """Refuse sympy objects for which there is no code.

    Raises
    ------
    ValueError
        Naming the object and the functions that are known.
    """
    for node in sympy.preorder_traversal(expr):
        if isinstance(node, (sympy.Symbol, sympy.Add, sympy.Mul, sympy.Pow)):
            continue
        if node.is_number or node.func in _UNARY or node.func.__name__ in _BINARY:
            if node.is_Number and not _is_finite(node):
                raise ValueError(f"{owner} contains {node}, which is no finite number.")
            continue
        known = (sympy.Piecewise, sympy.Tuple, sympy.And, sympy.Or, sympy.Not)
        boolean = (BooleanTrue, BooleanFalse)
        if isinstance(node, (*known, *boolean, *_COMPARE)):
            continue
        if type(node).__name__ in ("ExprCondPair", "power"):
            continue
        raise ValueError(
            f"{owner} contains {node} ({type(node).__name__}), which has no numeric "
            f"code here; known functions: {', '.join(CALLS)}, Piecewise."
        )


def _is_finite(number: Expr) -> bool:
    try:
        return bool(abs(float(number)) < float("inf"))
    except (TypeError, OverflowError):
        return False


class _Writer:
    """Writes expressions as Python, collecting the lines that come before."""

    def __init__(self, names: Mapping[Expr, str], scalar: bool) -> None:
        self.names = dict(names)
        self.scalar = scalar
        self.lines: list[str] = []
        self.powers: dict[tuple[str, int], str] = {}

    def write(self, expr: Expr) -> str:
        if expr in self.names:
            return self.names[expr]
        if expr.is_number:
            return self._number(expr)
        if isinstance(expr, sympy.Add):
            return self._sum(expr)
        if isinstance(expr, sympy.Mul):
            return self._product(expr)
        if isinstance(expr, sympy.Pow):
            return self._power(expr.base, expr.exp)
        if isinstance(expr, sympy.Piecewise):
            return self._piecewise(expr)
        if isinstance(expr, at_origin):
            there, elsewhere = expr.args
            return self._where("at0", self.write(there), self.write(elsewhere))
        name = type(expr).__name__
        arguments = [self.write(argument) for argument in expr.args]
        if name == "power":
            return f"({arguments[0]}**{arguments[1]})"
        return f"{_BINARY.get(name) or _UNARY[expr.func]}({', '.join(arguments)})"

    def _number(self, expr: Expr) -> str:
        text = repr(_float(expr))
        return f"({text})" if text.startswith("-") else text

    def _where(self, condition: str, there: str, elsewhere: str) -> str:
        if self.scalar:
            return f"({there} if {condition} else {elsewhere})"
        return f"where({condition}, {there}, {elsewhere})"

    def _sum(self, expr: Expr) -> str:
        terms: list[str] = []
        for term in expr.as_ordered_terms():
            minus = bool(terms) and term.could_extract_minus_sign()
            sign = " - " if minus else " + " if terms else ""
            terms.append(sign + self.write(-term if minus else term))
        return f"({''.join(terms)})"

    def _product(self, expr: Expr) -> str:
        coefficient, rest = expr.as_coeff_Mul()
        above, below = [], []
        for factor in sympy.Mul.make_args(rest):
            if factor.is_number:
                coefficient *= factor
            elif isinstance(factor, sympy.Pow) and _is_negative(factor.exp):
                below.append(self._power(factor.base, -factor.exp))
            else:
                above.append(self.write(factor))
        number = _float(coefficient)
        if number not in (1.0, -1.0) or not above:
            above.insert(0, repr(abs(number)))
        text = "*".join(above)
        if below:
            text += "/" + (below[0] if len(below) == 1 else f"({'*'.join(below)})")
        return f"(-{text})" if number < 0 else f"({text})"

    def _power(self, base: Expr, exponent: Expr) -> str:
        if not exponent.is_number:
            return f"({self.write(base)}**{self.write(exponent)})"
        if _is_negative(exponent):
            return f"(1.0/{self._power(base, -exponent)})"
        text = self.write(base)
        twice = 2 * exponent
        if not twice.is_Integer or twice > 128:
            return f"({text}**{self._number(exponent)})"
        whole, half = divmod(int(twice), 2)
        if half and not whole:
            return f"sqrt({text})"
        product = self._repeated(text, whole)
        return f"({product}*sqrt({text}))" if half else product

    def _repeated(self, base: str, n: int) -> str:
        """Integer power by repeated squaring; NumPy's own is slow."""
        if n == 1:
            return base
        if not base.isidentifier():
            base = self._named(base, 1, base)
        if n == 2:
            return f"({base}*{base})"
        if n == 3:
            return f"({base}*{base}*{base})"
        half = self._named(base, n // 2, self._repeated(base, n // 2))
        return f"({half}*{half})" if n % 2 == 0 else f"({half}*{half}*{base})"

    def _named(self, base: str, n: int, text: str) -> str:
        key = (base, n)
        if key not in self.powers:
            name = f"q{len(self.powers)}"
            self.lines.append(f"{name} = {text}")
            self.powers[key] = name
        return self.powers[key]

    def _piecewise(self, expr: Expr) -> str:
        pairs = list(expr.args)
        if pairs[-1].cond is sympy.true:
            text = self.write(pairs.pop().expr)
        else:
            text = "nan"
        for value, condition in reversed(pairs):
            text = self._where(self._condition(condition), self.write(value), text)
        return text

    def _condition(self, expr: Expr) -> str:
        if isinstance(expr, (BooleanTrue, BooleanFalse)):
            return str(expr)
        if isinstance(expr, sympy.Not):
            return f"({self._condition(expr.args[0])} == False)"
        if isinstance(expr, (sympy.And, sympy.Or)):
            sign = " & " if isinstance(expr, sympy.And) else " | "
            return f"({sign.join(self._condition(part) for part in expr.args)})"
        left, right = expr.args
        return f"({self.write(left)} {_COMPARE[expr.func]} {self.write(right)})"


def _float(number: Expr) -> float:
    try:
        return float(number)
    except (TypeError, OverflowError):
        raise ValueError(
            f"A formula or its derivative contains {number}, which is no real number "
            "in the range of float64."
        ) from None


def _is_negative(exponent: Expr) -> bool:
    return bool(exponent.is_number and exponent.is_negative)


def source(
    outputs: Sequence[Expr],
    arguments: Sequence[Expr],
    name: str,
    *,
    scalar: bool,
    dimension: int = 0,
) -> str:
    """Source of a function of ``arguments`` that returns the tuple of ``outputs``.

    Parameters
    ----------
    outputs : sequence of sympy expressions
    arguments : sequence of sympy symbols
        In the source they are called a0, a1, ...
    name : str
        Name of the function.
    scalar : bool
        Conditional expressions for numbers instead of ``where`` for arrays.
    dimension : int
        The squared length s is computed from that many leading arguments; 0 when it
        is an argument itself or does not occur.

    Notes
    -----
    The free names of the source are elementary functions (``exp``, ``where``, ...),
    given to ``define``.
    """
    labels = {symbol: f"a{i}" for i, symbol in enumerate(arguments)}
    outputs = [_with_floats(expr) for expr in outputs]
    temporaries = sympy.numbered_symbols("c", real=True)
    steps, results = sympy.cse(outputs, symbols=temporaries, order="none")
    used = set().union(*(e.free_symbols for e in (*outputs, sympy.Integer(0))))
    lines = []
    if dimension:
        squares = [f"a{i}*a{i}" for i in range(dimension)]
        lines.append(f"s = {' + '.join(squares)}")
        labels[SQUARE] = "s"
    guarded = any(e.has(at_origin) for e in outputs)
    if SQUARE in labels and (guarded or {RADIUS, SAFE} & used):
        lines += _lengths(labels[SQUARE], scalar, RADIUS in used)
        labels |= {RADIUS: "r", SAFE: "rs"}
    writer = _Writer(labels, scalar)
    for symbol, expr in steps:
        text = writer.write(expr)
        writer.lines.append(f"{symbol} = {text}")
        writer.names[symbol] = str(symbol)
    returned = "".join(f"{writer.write(expr)}, " for expr in results)
    lines += [*writer.lines, f"return ({returned})"]
    head = f"def {name}({', '.join(f'a{i}' for i in range(len(arguments)))}):"
    return "\n    ".join([head, *lines]) + "\n"


def _with_floats(expr: Expr) -> Expr:
    """Evaluate constants such as log(2), before they are taken for subexpressions."""
    found = {}
    nodes = sympy.preorder_traversal(expr)
    for node in nodes:
        if getattr(node, "is_number", False) and not node.is_Rational:
            found[node] = sympy.Float(_float(node))
            nodes.skip()
    return expr.xreplace(found) if found else expr


def _lengths(square: str, scalar: bool, plain: bool) -> list[str]:
    """Lines for r and for the safe r, with derivatives that torch keeps finite."""
    if scalar:
        return [
            f"at0 = {square} == 0.0",
            f"r = sqrt({square})",
            "rs = 1.0 if at0 else r",
        ]
    lines = [f"at0 = {square} == 0.0", f"rs = sqrt(where(at0, 1.0, {square}))"]
    return [*lines, "r = where(at0, 0.0, rs)"] if plain else lines


def define(text: str, name: str, functions: Mapping[str, Any]) -> Any:
    """The function of a generated source, with its elementary functions."""
    namespace = dict(functions)
    exec(compile(text, f"<formula {name}>", "exec"), namespace)
    return namespace[name]
