"""Proximal steps of potentials with kinks: what is recognized, and how it is solved.

Recognized are V(x) = phi(|x|) in any dimension, with phi' nondecreasing, and
V(x) = sum_i a_i |x_i| + S(x) with a_i >= 0 and S smooth. A user's ``prox`` goes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, to_numpy
from flows.linear import NewtonFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy
    from flows.flow import Memory

__all__ = ["kink_prox"]

Array = Any
MOST_ITERATIONS = 200


def kink_prox(functional: Energy) -> Callable[..., tuple[Array, Memory]]:
    """The proximal map of a potential with kinks, ``prox(t, u, h, memory)``.

    Raises
    ------
    TypeError
        When no method is known; the text says what would be.
    """
    own = [term for term in functional.terms if term.prox is not None]
    if own:
        if len(functional.terms) > 1:
            raise TypeError(
                "A Potential with `prox` must stand alone: the proximal map of a "
                "sum is not the sum of the maps."
            )
        return UserProx(own[0])
    forms = known_forms(functional.terms)
    if forms is None:
        raise TypeError(
            f"The proximal step of {functional!r} is not known: it has a kink that is "
            "neither a function of r = |x| nor a sum of a*abs(x_i) and a smooth part. "
            "Give `Potential(V, prox=...)`."
        )
    return KinkProx(functional, forms)


@lru_cache(maxsize=256)
def known_forms(terms: tuple[Any, ...]) -> dict[int, Form] | None:
    """Recognized forms by dimension, or None when there is none.

    Every step asks, and sympy is slow. Where the terms fit every dimension, 1, 2 and 3
    are tried, and others added when they are met.
    """
    if any(term.time_dependent for term in terms):
        return None
    named = {term.function.dimension for term in terms} - {None}
    found = {d: form_of(terms, d) for d in (named or (1, 2, 3))}
    return {d: form for d, form in found.items() if form is not None} or None


@dataclass(frozen=True, eq=False)
class UserProx:
    """The user's ``prox(x, h)`` of an unscaled V."""

    term: Any

    def __call__(
        self, t: float, u: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        v = self.term.prox(u, h * self.term.scale)
        if v is None:
            raise TypeError("`prox` returned None; did you forget `return`?")
        if tuple(getattr(v, "shape", ())) != tuple(u.shape):
            raise ValueError(
                f"`prox` returned shape {tuple(np.shape(v))} for points of shape "
                f"{tuple(u.shape)}; they must be equal."
            )
        return v, ()


@dataclass(frozen=True, eq=False)
class Form:
    """A recognized potential: ``weights`` a_i and the functions of the smooth part.

    ``radial`` holds phi, phi', phi'' of one variable instead.
    """

    weights: np.ndarray
    smooth: tuple[Callable[..., Any], ...] = ()
    radial: tuple[Callable[..., Any], ...] = ()


def form_of(terms: tuple[Any, ...], d: int) -> Form | None:
    """The recognized form in dimension d, or None."""
    import sympy

    from flows.symbolic.vocabulary import coordinates, parameter, to_sympy

    parts = []
    for term in terms:
        if term.function.dimension not in (None, d):
            return None
        part = term.function.expr(d)
        if part is None:
            return None
        values = term.function.parameters or {}
        numbers = {parameter(name): float(v) for name, v in values.items()}
        parts.append(term.scale * to_sympy(part).subs(numbers))
    symbols = coordinates(d)
    expr = sympy.nsimplify(sympy.expand(sympy.Add(*parts)), rational=True)
    if expr.free_symbols - set(symbols):
        return None
    return separate(expr, symbols) or radial(expr, symbols)


def separate(expr: Any, symbols: tuple[Any, ...]) -> Form | None:
    """Form sum a_i |x_i| + S(x), if ``expr`` is one."""
    import sympy

    weights = np.zeros(len(symbols))
    for i, x in enumerate(symbols):
        a = expr.coeff(sympy.Abs(x))
        if not a.is_number or float(a) < 0:
            return None
        weights[i] = float(a)
        expr = sympy.expand(expr - a * sympy.Abs(x))
    kinks = (sympy.Abs, sympy.sign, sympy.Max, sympy.Min, sympy.Heaviside)
    roots = [p for p in expr.atoms(sympy.Pow) if not p.exp.is_Integer or p.exp < 0]
    if expr.has(*kinks) or any(p.base.free_symbols for p in roots):
        return None
    gradient = [sympy.diff(expr, x) for x in symbols]
    hessian = [[sympy.diff(g, x) for x in symbols] for g in gradient]
    functions = tuple(
        sympy.lambdify(symbols, f, "numpy") for f in (expr, gradient, hessian)
    )
    return Form(weights, smooth=functions)


def radial(expr: Any, symbols: tuple[Any, ...]) -> Form | None:
    """Form phi(|x|), if ``expr`` is one with phi' nondecreasing where sampled."""
    import sympy

    s = sympy.Symbol("s", positive=True)
    phi = expr.subs(dict.fromkeys(symbols[1:], 0)).subs(symbols[0], s)
    length = sympy.sqrt(sum(x**2 for x in symbols))
    back = phi.subs(s, length if len(symbols) > 1 else sympy.Abs(symbols[0]))
    point = {x: sympy.Rational(7 + 3 * i, 5) for i, x in enumerate(symbols)}
    signs = {x: (-1) ** (i + 1) * v for i, (x, v) in enumerate(point.items())}
    for at in (point, signs):
        if abs(float(sympy.N((expr - back).subs(at)))) > 1e-12:
            return None
    first, second = sympy.diff(phi, s), sympy.diff(phi, s, 2)
    functions = tuple(sympy.lambdify(s, f, "numpy") for f in (phi, first, second))
    samples = np.logspace(-6, 3, 40)
    with np.errstate(all="ignore"):
        slopes = np.broadcast_to(functions[1](samples), samples.shape)
    if not (np.diff(slopes) >= -1e-9 * (1 + np.abs(slopes[1:]))).all() or slopes[0] < 0:
        return None
    return Form(np.zeros(len(symbols)), radial=functions)


class KinkProx:
    """Proximal map of a recognized potential; the form is found once per dimension."""

    def __init__(self, functional: Energy, forms: dict[int, Form]) -> None:
        self.functional = functional
        self.forms = forms

    def __reduce__(self) -> tuple[Any, ...]:
        return kink_prox, (self.functional,)

    def __call__(
        self, t: float, u: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        x = to_numpy(u).astype(np.float64)
        d = x.shape[-1]
        if d not in self.forms:
            form = form_of(self.functional.terms, d)
            if form is None:
                raise TypeError(
                    f"The proximal step of {self.functional!r} is not known in R^{d}."
                )
            self.forms[d] = form
        form = self.forms[d]
        step = radial_step if form.radial else separate_step
        rows = [step(form, row, h) for row in x.reshape(-1, d)]
        return array_like(np.array(rows).reshape(x.shape), u), ()


def radial_step(form: Form, u: np.ndarray, h: float) -> np.ndarray:
    """s u/|u| with s + h phi'(s) = |u|, or 0 where no s > 0 has it."""
    length = float(np.linalg.norm(u))
    if length == 0.0:
        return u
    slope = form.radial[1]

    def excess(s: float) -> float:
        with np.errstate(all="ignore"):
            return s + h * float(slope(s)) - length

    tiny = length * 1e-300 + 1e-300
    if excess(tiny) >= 0.0:
        return np.zeros_like(u)
    from scipy.optimize import brentq

    s = float(brentq(excess, tiny, length, xtol=1e-300, rtol=8.9e-16, maxiter=500))
    return (s / length) * u


def soft(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Soft threshold sign(x) (|x| - a)_+."""
    return np.asarray(np.sign(x) * np.maximum(np.abs(x) - a, 0.0))


def separate_step(form: Form, u: np.ndarray, h: float) -> np.ndarray:
    """argmin S(v) + sum a_i |v_i| + |v - u|^2 / 2h by a semismooth Newton method.

    The signs of v are those of the soft threshold of a gradient step; on the set where
    v is not 0 the equation is smooth and Newton's method solves it. A step that does
    not lower the objective is halved.
    """
    value, gradient, hessian = form.smooth

    def objective(v: np.ndarray) -> float:
        move = float(np.sum((v - u) ** 2))
        return float(h * value(*v) + h * form.weights @ np.abs(v) + 0.5 * move)

    def slope(v: np.ndarray) -> np.ndarray:
        return np.asarray(h * np.array(gradient(*v), dtype=float) + v - u)

    v = soft(u, h * form.weights)
    best = objective(v)
    for _ in range(MOST_ITERATIONS):
        matrix = np.eye(len(u)) + h * np.array(hessian(*v), dtype=float)
        scale = 1.0 / max(1e-12, float(np.abs(matrix).sum(axis=1).max()))
        g = slope(v)
        target = soft(v - scale * g, scale * h * form.weights)
        # The natural residual of the optimality condition.
        size = 1.0 + float(np.abs(u).max())
        if float(np.abs(v - target).max()) <= 4e-16 * size * max(scale, 1e-3):
            return v
        active = target != 0.0
        newton = np.zeros_like(v)
        if active.any():
            signs = np.sign(target[active])
            inner = matrix[np.ix_(active, active)]
            rest = g[active] + h * form.weights[active] * signs
            rest -= matrix[np.ix_(active, ~active)] @ v[~active]
            newton[active] = v[active] - np.linalg.solve(inner, rest)
        candidates = [newton, target]
        values = [
            objective(c) if np.isfinite(c).all() else math.inf for c in candidates
        ]
        choice = 0 if values[0] <= values[1] else 1
        if values[choice] >= best - 1e-16 * abs(best):
            return candidates[choice] if values[choice] <= best else v
        v, best = candidates[choice], values[choice]
    raise NewtonFailure("the proximal step did not converge", [best])
