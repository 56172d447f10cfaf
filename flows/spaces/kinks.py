"""Potentials with kinks: what is recognized, and the parts that it splits into.

V = S + R with S smooth and R a convex function that knows its proximal map. R may be
any of ``flows.nonsmooth``, a user's ``prox``, and in typed formulas sums of
a |x_i - p| with a >= 0, multiples of r = |x|, and phi(r) with phi' nondecreasing.
Weights and places of typed kinks may depend on time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import to_numpy
from flows.energies import Potential
from flows.flow import offers
from flows.nonsmooth import ProxField
from flows.nonsmooth.norms import L2
from flows.nonsmooth.radial import EachRadial, Radial
from flows.nonsmooth.separable import Kinks
from flows.nonsmooth.sums import combined
from flows.nonsmooth.user import UserField
from flows.spaces.composite_steps import composite_step
from flows.spaces.formulas import Kink, numeric_expr, take_kinks
from flows.symbolic import SeparableField, SymbolicField

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flows.energies import Energy
    from flows.flow import Memory

__all__ = [
    "Rough",
    "Split",
    "advise",
    "explain",
    "is_rough",
    "kink_prox",
    "split_at",
    "split_terms",
]

Array = Any
Expr = Any


def is_rough(term: Any) -> bool:
    """Whether a potential needs a proximal map of its own."""
    return term.prox is not None or not term.function.smooth


def kink_prox(functional: Energy) -> Callable[..., tuple[Array, Memory]]:
    """The proximal map of a potential with kinks, ``prox(t, u, h, memory)``.

    Raises
    ------
    TypeError
        When no method is known; the text says what would be.
    """
    named = {term.function.dimension for term in functional.terms} - {None}
    # Where the terms fit every dimension, a few are tried.
    if all(split_terms(functional.terms, d) is None for d in named or (1, 2, 3)):
        raise TypeError(explain(functional))
    return KinkProx(functional)


@dataclass(frozen=True, eq=False)
class KinkProx:
    """Proximal map of a potential that splits into a smooth and a known part."""

    functional: Energy

    def __call__(
        self, t: Any, u: Array, h: Any, memory: Memory
    ) -> tuple[Array, Memory]:
        split = split_at(self.functional, u)
        start = memory[0] if memory else None
        v = composite_step(split.smooth, split.rough.at(t), t, u, h, start)
        return v, (v,)


def split_at(functional: Energy, u: Array) -> Split:
    """The parts for states like ``u``.

    Raises
    ------
    TypeError
        Where they are not known in this dimension.
    """
    split = split_terms(functional.terms, u.shape[-1])
    if split is None:
        raise TypeError(explain(functional, u.shape[-1]))
    return split


@dataclass(frozen=True, eq=False)
class Split:
    """V = the sum of the potentials ``smooth`` + ``rough``."""

    smooth: tuple[Potential, ...]
    rough: Rough


@dataclass(frozen=True, eq=False)
class Rough:
    """A sum of known functions and typed kinks, which may depend on time."""

    fields: tuple[ProxField, ...]
    kinks: tuple[tuple[int | None, Any, Any], ...] = ()
    size: int | None = None
    _known: list[ProxField] = field(default_factory=list, repr=False)

    @property
    def timed(self) -> bool:
        """Whether some kink depends on time."""
        return any(callable(v) for kink in self.kinks for v in kink[1:])

    def at(self, t: Any) -> ProxField:
        """The function at time t.

        Raises
        ------
        ValueError
            For a kink whose weight is negative at this time.
        """
        if self._known and not self.timed:
            return self._known[0]
        fields = [*self.fields, *self._kinks_at(t)]
        whole = combined(fields)
        if whole is None:
            raise TypeError(unknown_sum(fields))
        if not self.timed:
            self._known.append(whole)
        return whole

    def _kinks_at(self, t: Any) -> list[ProxField]:
        """Typed kinks as one field for each, to be merged; (b, 1) times as rows."""
        t = to_numpy(t) if getattr(t, "ndim", 0) else t
        found: dict[tuple[int | None, Any], Any] = {}
        for axis, p, a in self.kinks:
            at, weight = (v(t) if callable(v) else v for v in (p, a))
            key = (axis, at if np.ndim(at) == 0 else id(at))
            before = found.get(key, (at, 0.0))[1]
            found[key] = at, before + weight
        fields: list[ProxField] = []
        for (axis, _), (at, weight) in found.items():
            if np.any(np.asarray(weight) < 0.0):
                raise ValueError(
                    f"The weight of a kink is {np.min(weight):g} at t = {t}; a "
                    "proximal step needs weights >= 0."
                )
            where = np.ones(1) if axis is None else np.eye(self.size or 1)[axis]
            a, p = (np.asarray(v, dtype=float) * where for v in (weight, at))
            if np.any(a):
                size = None if axis is None else self.size
                fields.append(Kinks(a[None], a[None], p[None], "kinks", size))
        if not fields and not self.fields:
            zero = np.zeros((1, 1))
            fields.append(Kinks(zero, zero, zero, "kinks"))
        return fields


@lru_cache(maxsize=256)
def split_terms(terms: tuple[Any, ...], d: int) -> Split | None:
    """The smooth and the rough part in dimension d; None when V has no known split.

    Every step asks, and sympy is slow.
    """
    smooth: list[Potential] = []
    fields: list[ProxField] = []
    kinks: list[tuple[int | None, Any, Any]] = []
    for term in terms:
        function = term.function
        if isinstance(function, ProxField) or term.prox is not None:
            if term.scale < 0.0:
                return None
            own = isinstance(function, ProxField)
            fields.append(function.scaled(term.scale) if own else UserField(term))
        elif function.smooth:
            smooth.append(term)
        else:
            found = split_formula(term, d)
            if found is None:
                return None
            smooth.extend(found.smooth)
            fields.extend(found.rough.fields)
            kinks.extend(found.rough.kinks)
    if not combinable(fields, kinks):
        # Those with a Lipschitz gradient may count as smooth.
        gentle = [field for field in fields if math.isfinite(field.lipschitz)]
        smooth.extend(Potential(field) for field in gentle)
        fields = [field for field in fields if field not in gentle]
        if not combinable(fields, kinks):
            return None
    return Split(tuple(smooth), Rough(tuple(fields), tuple(kinks), d))


def combinable(fields: Sequence[ProxField], kinks: Sequence[Any]) -> bool:
    """Whether the sum has a proximal map, and constant kinks have weights >= 0."""
    weights: dict[Any, float] = {}
    for axis, p, a in kinks:
        if not callable(p) and not callable(a):
            weights[axis, p] = weights.get((axis, p), 0.0) + a
    if any(a < 0.0 for a in weights.values()):
        return False
    # At weight 1 in the place of the unknown one.
    ones = np.ones((1, 1))
    stand_in = [Kinks(ones, ones, 0.0 * ones, "kinks")] if kinks else []
    if any(p for _, p, _ in kinks) and fields:
        stand_in = [Kinks(ones, ones, ones, "kinks")]
    return not (fields or stand_in) or combined([*fields, *stand_in]) is not None


def split_formula(term: Any, d: int) -> Split | None:
    """The same for one typed formula."""
    function = term.function
    if isinstance(function, SeparableField):
        expr = numeric_expr(function, 1, timed=True)
        if expr is None:
            return None
        typed, rest = take_kinks(expr, 1)
        kinks = [(None, *in_time(kink, term.scale)) for kink in typed]
        part: Any = SeparableField(rest)
        if not part.smooth:
            found = split_rest(rest, kinks, term.scale, 1)
            return found if d == 1 or found is None else every(found, d)
        smooth = (Potential(part, scale=term.scale),) if rest != 0 else ()
        return Split(smooth, Rough((), tuple(kinks), d))
    if function.dimension not in (None, d):
        return None
    expr = numeric_expr(function, d, timed=True)
    if expr is None:
        return None
    typed, rest = take_kinks(expr, d)
    own = [(kink.axis, *in_time(kink, term.scale)) for kink in typed]
    return split_rest(rest, own, term.scale, d)


def every(found: Split, d: int) -> Split | None:
    """A split on the line, for every coordinate."""
    fields = []
    for one in found.rough.fields:
        if not isinstance(one, Radial):
            return None
        fields.append(EachRadial(one))
    smooth = tuple(
        Potential(SeparableField(term.V.source), scale=term.scale)
        for term in found.smooth
    )
    return Split(smooth, Rough(tuple(fields), found.rough.kinks, d))


def split_rest(rest: Expr, kinks: list[Any], scale: float, d: int) -> Split | None:
    """What remains of a formula without its kinks: smooth, or a function of |x|."""
    import sympy

    parts = sympy.Add.make_args(rest)
    rough = [part for part in parts if has_kink(part, d)]
    gentle = sympy.Add(*(part for part in parts if part not in rough))
    fields: tuple[ProxField, ...] = ()
    if rough:
        found = radial(scale * sympy.Add(*rough), d)
        if found is None:
            return None
        fields = (found,)
    smooth: tuple[Potential, ...] = ()
    if gentle != 0:
        smooth = (Potential(in_dimension(gentle, d), scale=scale),)
    return Split(smooth, Rough(fields, tuple(kinks), d))


def has_kink(expr: Expr, d: int) -> bool:
    """Whether a formula in coordinates has a kink, that of roots of r^2 included."""
    import sympy

    from flows.symbolic.vocabulary import coordinates

    square = sum(x**2 for x in coordinates(d))
    roots = (p for p in expr.atoms(sympy.Pow) if p.exp.is_number and p.exp < 1)
    if any((root.base - square).expand() == 0 for root in roots):
        return True
    return not in_dimension(expr, d).smooth


def in_dimension(expr: Expr, d: int) -> SymbolicField:
    """A formula of points (.., d), also where it does not name the last coordinate."""
    from flows.symbolic.vocabulary import coordinates

    result = SymbolicField(expr)
    names = result.names | {str(coordinates(d)[-1])}
    object.__setattr__(result, "names", names)
    return result


def in_time(kink: Kink, scale: float) -> tuple[Any, Any]:
    """Place and weight of a kink: numbers, or functions of time."""
    return moment(kink.place), moment(scale * kink.weight)


def moment(expr: Expr) -> Any:
    """A number, or a function of NumPy times."""
    import sympy

    if expr.is_number:
        return float(expr)
    return sympy.lambdify(sorted(expr.free_symbols, key=str), expr, "numpy")


def radial(expr: Expr, d: int) -> ProxField | None:
    """phi(|x|), if ``expr`` is one with phi' nondecreasing where sampled."""
    import sympy

    from flows.symbolic.vocabulary import coordinates

    symbols = coordinates(d)
    if expr.free_symbols - set(symbols):
        return None
    s = sympy.Symbol("s", positive=True)
    phi = expr.subs(dict.fromkeys(symbols[1:], 0)).subs(symbols[0], s)
    length = sympy.sqrt(sum(x**2 for x in symbols))
    back = phi.subs(s, length if len(symbols) > 1 else sympy.Abs(symbols[0]))
    point = {x: sympy.Rational(7 + 3 * i, 5) for i, x in enumerate(symbols)}
    signs = {x: (-1) ** (i + 1) * v for i, (x, v) in enumerate(point.items())}
    for at in (point, signs):
        if abs(complex(sympy.N((expr - back).subs(at)))) > 1e-12:
            return None
    slope = sympy.diff(phi, s)
    if slope.is_number and slope >= 0:
        return L2(float(slope))
    functions = [sympy.lambdify(s, f, "numpy") for f in (phi, slope, slope.diff(s))]
    samples = np.logspace(-6, 3, 40)
    with np.errstate(all="ignore"):
        slopes = np.broadcast_to(functions[1](samples), samples.shape)
    if not (np.diff(slopes) >= -1e-9 * (1 + np.abs(slopes[1:]))).all() or slopes[0] < 0:
        return None
    return Radial(tuple(functions), str(expr))


def advise(flow: Any) -> str:
    """What follows a path along a kink of the flow's energy."""
    try:
        known = offers(flow, "parts") and offers(flow, "prox")
    except TypeError:
        known = False
    if known:
        return (
            "Its proximal step is known: take ForwardBackward() or "
            "MinimizingMovement() with a number dt, or TRBDF2()."
        )
    return (
        "No proximal step of this energy is known: write the kink with fl.nonsmooth "
        "(l1, hinge, linf, ...) or typed, as in 'abs(x)', give "
        "`Potential(V, prox=...)`, or smooth it, as 'sqrt(x**2 + 1e-6)' does 'abs(x)'. "
        "An explicit scheme with a number dt, fl.Euler() with dt=0.01, follows the "
        "path to within dt."
    )


def unknown_sum(fields: Sequence[ProxField]) -> str:
    """Why the sum of these functions has no proximal step."""
    listed = " + ".join(map(repr, fields))
    return (
        f"The proximal map of the sum {listed} is not known: keep one of them, or "
        "replace one by its `fl.theory.moreau_envelope(.., h)`, which is smooth."
    )


def explain(functional: Energy, d: int | None = None) -> str:
    """Why the proximal step of an energy is not known (in R^d)."""
    terms = functional.terms
    rough = [t for t in terms if isinstance(t.function, ProxField) or t.prox]
    for term in rough:
        if term.scale < 0.0:
            return f"{term!r} is not convex, so that its proximal step is not known."
    if len(rough) > 1:
        return unknown_sum([t.function for t in rough])
    if d is not None:
        return f"The proximal step of {functional!r} is not known in R^{d}."
    return (
        f"The proximal step of {functional!r} is not known: it has a kink that is "
        "neither a sum of a*abs(x_i - p), a >= 0, nor a convex function of r = |x|. "
        "Give `Potential(V, prox=...)`."
    )
