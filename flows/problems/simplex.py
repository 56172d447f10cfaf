"""Flows of probability vectors: softmax, relative entropy, replicator equations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows import energies
from flows.arrays import array_like, namespace
from flows.energies import Potential
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, start, time, vector
from flows.problems.base import Problem
from flows.problems.vectors import number_or_array

__all__ = ["replicator", "rock_paper_scissors", "simplex_kl", "simplex_linear"]

Array = Any
REPLICATOR = (
    "J. Hofbauer, K. Sigmund, Evolutionary Games and Population Dynamics, Cambridge "
    "University Press 1998, doi:10.1017/CBO9781139173179"
)


def probabilities(x0: Any, name: str = "x0") -> Array:
    """Positive vectors of sum 1."""
    x = start(x0, name)
    sums = x.sum(axis=-1, keepdims=True)
    if not (x > 0).all() or np.abs(sums - 1.0).max() > 1e-9:
        raise ValueError(
            f"`{name}` must be positive with sum 1; minimum {x.min():g}, sum "
            f"{np.ravel(sums)[0]:g}."
        )
    return x / sums


def normalized(logs: Array) -> Array:
    """exp(logs) with sum 1."""
    e = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class SoftmaxPath:
    """x0 e^{-c t}, normalized."""

    c: Array
    x0: Array

    def logs(self, t: float) -> Array:
        """log x, also where x underflows."""
        from scipy.special import logsumexp

        z = np.log(self.x0) - time(t) * self.c
        return z - logsumexp(z, axis=-1, keepdims=True)

    def __call__(self, t: float) -> Array:
        return normalized(np.log(self.x0) - time(t) * self.c)

    def energy(self, t: float) -> Any:
        """c.x along the path."""
        return number_or_array(self(t) @ self.c)


def simplex_linear(
    c: Any = (1.0, 2.0, 0.5),
    x0: Any = (0.3, 0.5, 0.2),
    *,
    t: tuple[float, float] = (0.0, 3.0),
) -> Problem:
    """V(x) = c.x on the simplex with the entropy: x = softmax(log x0 - c t).

    Mirror descent is exact at every step. x_i' = -x_i (c_i - c.x).

    Parameters
    ----------
    c : (n,) array
    x0 : (n,) or (b, n) array
        Positive, of sum 1.
    t : tuple of float

    Returns
    -------
    Problem
        ``limit`` is x0 on the entries where c is least. ``exact.logs(t)`` is log x.
    """
    x = probabilities(x0)
    cost = vector(c, x.shape[-1], "c")
    path = SoftmaxPath(cost, x)
    kept = np.where(cost == cost.min(), x, 0.0)
    return Problem(
        "simplex_linear",
        energies.quadratic(0.0, b=-cost),
        path,
        interval(t),
        limit=kept / kept.sum(axis=-1, keepdims=True),
        spaces=("Mirror",),
        constants={"relative_convexity": 0.0},
        exact_energy=path.energy,
        reference=REPLICATOR,
    )


@dataclass(frozen=True, eq=False)
class RelativeEntropy:
    """sum_i x_i log(x_i/q_i) at points (.., n)."""

    q: Array

    def _logs(self, x: Array) -> Array:
        return namespace(x).log(x) - array_like(np.log(self.q), x)

    def value(self, x: Array) -> Array:
        return namespace(x).sum(x * self._logs(x), axis=-1)

    def gradient(self, x: Array) -> Array:
        return self._logs(x) + 1.0

    def hessian(self, x: Array) -> Array:
        return array_like(np.eye(self.q.size), x) / x[..., None]


@dataclass(frozen=True, eq=False)
class GeodesicPath:
    """x0^s q^{1 - s}, normalized, with s = e^{-t}."""

    q: Array
    x0: Array

    def at(self, s: float) -> Array:
        """The point with the weight s of log x0."""
        return normalized(s * np.log(self.x0) + (1.0 - s) * np.log(self.q))

    def __call__(self, t: float) -> Array:
        return self.at(math.exp(-time(t)))

    def descent(self, k: int, h: float) -> Array:
        """k steps of mirror descent of length h: s = (1 - h)^k."""
        return self.at((1.0 - h) ** k)

    def energy(self, t: float) -> Any:
        """Relative entropy along the path."""
        x = self(t)
        return number_or_array(np.sum(x * (np.log(x) - np.log(self.q)), axis=-1))


def simplex_kl(
    q: Any = (0.2, 0.3, 0.5),
    x0: Any = (0.7, 0.2, 0.1),
    *,
    t: tuple[float, float] = (0.0, 3.0),
) -> Problem:
    """V(x) = sum x log(x/q) on the simplex with the entropy: x0^s q^{1-s}, s = e^{-t}.

    The logarithm moves on a line towards log q. k steps of mirror descent of length h
    have s = (1 - h)^k, implicit ones s = (1 + h)^{-k}.

    Parameters
    ----------
    q : (n,) array
        Positive, of sum 1.
    x0 : (n,) or (b, n) array
        Positive, of sum 1.
    t : tuple of float
    """
    x = probabilities(x0)
    target = probabilities(vector(q, x.shape[-1], "q"), "q")
    form, path = RelativeEntropy(target), GeodesicPath(target, x)
    return Problem(
        "simplex_kl",
        Potential(form.value, gradient=form.gradient, hessian=form.hessian),
        path,
        interval(t),
        limit=np.broadcast_to(target, x.shape).copy(),
        spaces=("Mirror",),
        constants={"relative_convexity": 1.0, "minimum": 0.0},
        exact_energy=path.energy,
    )


@dataclass(frozen=True, eq=False)
class Payoff:
    """B x at points x (.., n)."""

    B: Array

    def __call__(self, x: Array) -> Array:
        return namespace(x).matmul(x, array_like(self.B.T, x))


def replicator(
    payoff: Any,
    x0: Any,
    *,
    t: tuple[float, float] = (0.0, 10.0),
) -> Problem:
    """Replicator equation x_i' = x_i ((B x)_i - x.B x) of a payoff matrix B.

    The flow d/dt log x = B x on the simplex. Its symmetric part is the gradient flow of
    V = -x.B x / 2; the skew part of B is the ``drift`` among the constants, None where
    B is symmetric: ``Mirror.simplex().flow(p.energy, p.constants["drift"])``.

    Parameters
    ----------
    payoff : (n, n) array
    x0 : (n,) or (b, n) array
        Positive, of sum 1.
    t : tuple of float

    Returns
    -------
    Problem
        ``exact`` is None. Constants: ``payoff``, ``drift``, and ``equilibrium``, the
        rest point inside the simplex, None where there is no single one.
    """
    x = probabilities(x0)
    n = x.shape[-1]
    B = real_array(payoff, "payoff")
    if B.shape != (n, n):
        raise ValueError(f"`payoff` has shape {B.shape}, expected ({n}, {n}).")
    S, K = 0.5 * (B + B.T), 0.5 * (B - B.T)
    return Problem(
        "replicator",
        energies.quadratic(-S),
        None,
        interval(t),
        start=x,
        spaces=("Mirror",),
        constants={
            "payoff": B,
            "drift": Payoff(K) if np.any(K) else None,
            "equilibrium": inner_equilibrium(B),
        },
        reference=REPLICATOR,
    )


def inner_equilibrium(B: Array) -> Array | None:
    """x > 0 of sum 1 with all entries of B x equal, None if there is no single one."""
    n = len(B)
    system = np.block([[B, -np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    if np.linalg.matrix_rank(system) <= n:
        return None
    x = np.linalg.solve(system, np.append(np.zeros(n), 1.0))[:n]
    return x if (x > 0).all() else None


def rock_paper_scissors(
    x0: Any = (0.5, 0.3, 0.2),
    *,
    win: float = 1.0,
    loss: float = 1.0,
    t: tuple[float, float] = (0.0, 20.0),
) -> Problem:
    """Rock, paper, scissors: each beats the one before it, the payoff is skew.

    With ``win = loss`` the product x1 x2 x3 is conserved and paths are closed; explicit
    Euler spirals out. With win > loss the product grows and paths spiral in.

    Parameters
    ----------
    x0 : (3,) or (b, 3) array
        Positive, of sum 1.
    win, loss : float
        Positive.
    t : tuple of float

    Returns
    -------
    Problem
        As ``replicator``; constant ``product``: x1 x2 x3 at the start.
    """
    a, b = number(win, "win", above=0.0), number(loss, "loss", above=0.0)
    B = np.array([[0.0, -b, a], [a, 0.0, -b], [-b, a, 0.0]])
    p = replicator(B, x0, t=t)
    product = number_or_array(np.prod(p.start, axis=-1))
    return Problem(
        "rock_paper_scissors",
        p.energy,
        None,
        p.t,
        start=p.start,
        spaces=p.spaces,
        constants={**p.constants, "product": product},
        reference=REPLICATOR,
    )
