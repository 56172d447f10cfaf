"""Gradient flows of deep linear networks, whose product of weights is known.

References
----------
S. Arora, N. Cohen, E. Hazan, On the optimization of deep networks, ICML (2018),
arXiv:1802.06509.
A. M. Saxe, J. L. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of
learning in deep linear neural networks, ICLR (2014), arXiv:1312.6120.
S. Tarmoun, G. Franca, B. D. Haeffele, R. Vidal, Understanding the dynamics of gradient
flow in overparameterized linear models, ICML (2021), PMLR 139:10153-10161.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.energies import Potential
from flows.measures.checks import real_array
from flows.problems.arguments import interval, number, square, start, time
from flows.problems.base import Problem
from flows.problems.factors import FactorEnergy, NetworkEnergy, Riccati
from flows.problems.vectors import number_or_array, vector_spaces

__all__ = [
    "deep_scalar_network",
    "linear_network",
    "matrix_factorization",
    "two_weights",
]

Array = Any
REFERENCE = "Saxe, McClelland, Ganguli, ICLR (2014), arXiv:1312.6120"


@dataclass(frozen=True, eq=False)
class TwoWeights:
    """Path of a' = b (s - ab), b' = a (s - ab), in the time ``speed`` t.

    With p = a + b, q = a - b the product pq is conserved and P = p^2 solves a Riccati
    equation with constant coefficients, P' = 2 s P - P^2/2 + (pq)^2/2.
    """

    w0: Array
    s: float
    speed: float

    def __call__(self, t: float) -> Array:
        tau = self.speed * time(t, 0.0)
        a, b = self.w0[..., 0], self.w0[..., 1]
        # The larger of p and q is followed: turning b and s around exchanges them.
        turned = np.abs(a - b) > np.abs(a + b)
        sign = np.where(turned, -1.0, 1.0)
        p, q, s = a + sign * b, a - sign * b, sign * self.s
        c = p * q
        delta = np.hypot(s, 0.5 * c)
        safe = np.where(delta > 0.0, delta, 1.0)
        e = np.exp(-2.0 * delta * tau)
        S = np.where(delta > 0.0, -np.expm1(-2.0 * delta * tau) / (2.0 * safe), tau)
        # 1 -+ s/delta, the small one without cancellation.
        small = 0.25 * c * c / (safe * (safe + np.abs(s)))
        small = np.where(delta > 0.0, small, 1.0)
        large = np.where(delta > 0.0, 1.0 + np.abs(s) / safe, 1.0)
        minus, plus = np.where(s > 0, small, large), np.where(s > 0, large, small)
        P = p * p
        over, under = P * (plus + minus * e) + c * c * S, minus + plus * e + P * S
        size = np.sqrt(over / np.where(under > 0.0, under, 1.0))
        p = np.where(p < 0.0, -size, size)
        q = np.where(size > 0.0, c / np.where(size > 0.0, p, 1.0), 0.0)
        return np.stack([0.5 * (p + q), sign * 0.5 * (p - q)], axis=-1)

    def energy(self, t: float) -> Any:
        """(y - c ab)^2/2 along the path, with s = y/c and speed c^2."""
        w = self(t)
        gap = self.s - w[..., 0] * w[..., 1]
        return number_or_array(0.5 * self.speed * gap * gap)


def two_weights(
    w0: Any = (2.8, 3.5),
    target: float = 0.6,
    *,
    feature: float = 1.0,
    t: tuple[float, float] = (0.0, 1.0),
) -> Problem:
    """Network of two scalar layers, V(a, b) = (y - c a b)^2 / 2.

    The flow conserves a^2 - b^2 and ends, with s = y/c, where ab = s and

        a^2 + b^2 = sqrt((a_0^2 - b_0^2)^2 + 4 s^2),

    while each step of gradient descent multiplies a^2 - b^2 by 1 - (h c r)^2 with the
    residual r = y - c a b: large steps find flatter minima.

    Parameters
    ----------
    w0 : (2,) or (k, 2) array
        Start (a, b). From a = -b with s > 0 (a = b with s < 0) the path goes to the
        saddle at 0, which a run leaves by rounding.
    target, feature : float
        y and c; c is not 0.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``invariant`` a^2 - b^2, ``sum_of_squares`` at the end, ``minimum``.

    References
    ----------
    D. G. T. Barrett, B. Dherin, Implicit gradient regularization, ICLR (2021),
    arXiv:2009.11162.
    """
    x = start(w0, "w0")
    if x.shape[-1] != 2:
        raise ValueError(f"`w0` has shape {x.shape}, expected (2,) or (k, 2).")
    y, c = number(target, "target"), number(feature, "feature")
    if c == 0.0:
        raise ValueError("`feature` must not be 0: nothing would move.")
    s = y / c
    exact = TwoWeights(x, s, c * c)
    gap = x[..., 0] ** 2 - x[..., 1] ** 2
    return Problem(
        "two_weights",
        Potential("(target - c*x*y)**2/2", parameters={"target": y, "c": c}),
        exact,
        interval(t, 0.0),
        spaces=vector_spaces(x),
        exact_energy=exact.energy,
        constants={
            "invariant": number_or_array(gap),
            "sum_of_squares": number_or_array(np.hypot(gap, 2.0 * s)),
            "minimum": 0.0,
        },
        reference="Barrett, Dherin, ICLR (2021), arXiv:2009.11162",
    )


@dataclass(frozen=True, eq=False)
class EqualLayers:
    """Path of w' = w^(L - 1) (s - w^L) for L >= 2 equal weights, s > 0."""

    layers: int
    w0: float
    s: float

    def clock(self, z: float, rest: float) -> float:
        """Antiderivative of 1/(z^(L-1) (1 - z^L)); ``rest`` is abs(1 - z)."""
        from scipy.special import hyp2f1

        L = self.layers
        if L == 2:
            return math.log(z) - 0.5 * math.log(rest * (1.0 + z))
        first = z ** (2 - L) / (2 - L)
        if z < 1.0:
            a = 2.0 / L
            return float(first + 0.5 * z * z * hyp2f1(1.0, a, 1.0 + a, z**L))
        a = 1.0 - 2.0 / L
        return float(first - first * hyp2f1(1.0, a, 1.0 + a, z**-L))

    def __call__(self, t: float) -> Array:
        from scipy.optimize import brentq

        scale: float = self.s ** (1.0 / self.layers)
        z0, passed = self.w0 / scale, time(t, 0.0)
        if z0 == 1.0 or passed == 0.0:
            return np.full(self.layers, self.w0)
        side = 1.0 if z0 > 1.0 else -1.0
        goal = passed * self.s ** (2.0 - 2.0 / self.layers)
        begin = self.clock(z0, abs(1.0 - z0))

        def gap(y: float) -> float:
            rest = math.exp(y)
            z: float = 1.0 + side * rest
            return self.clock(z, rest) - begin - float(goal)

        top, bottom = math.log(abs(1.0 - z0)), -36.0
        if top <= bottom or gap(bottom) < 0.0:
            return np.full(self.layers, scale)
        y = brentq(gap, bottom, top, xtol=1e-15, rtol=1e-14)
        return np.full(self.layers, scale * (1.0 + side * math.exp(y)))

    def energy(self, t: float) -> float:
        """(w^L - s)^2/2 along the path."""
        gap = float(np.prod(self(t))) - self.s
        return 0.5 * gap * gap


def deep_scalar_network(
    layers: int = 3,
    w0: float = 0.5,
    target: float = 1.0,
    *,
    t: tuple[float, float] = (0.0, 4.0),
) -> Problem:
    """Network of L scalar layers, V(w) = (w_1 .. w_L - s)^2 / 2, from equal weights.

    The weights stay equal and the product u = w^L obeys u' = L (s - u) u^(2 - 2/L), of
    which the time t(u) is a hypergeometric function; for L = 2 it is the logistic
    equation. ``exact`` inverts it. The deeper, the longer it rests near 0.

    Parameters
    ----------
    layers : int
        L >= 2.
    w0 : float
        The weights at the start, > 0.
    target : float
        s > 0.
    t : tuple of float
        From t0 >= 0.
    """
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 2:
        raise ValueError(f"`layers` must be an integer of at least 2, got {layers!r}.")
    w, s = number(w0, "w0", above=0.0), number(target, "target", above=0.0)
    exact = EqualLayers(layers, w, s)
    names = "xyz"[:layers] if layers <= 3 else [f"x{i + 1}" for i in range(layers)]
    return Problem(
        "deep_scalar_network",
        Potential(f"({'*'.join(names)} - s)**2/2", parameters={"s": s}),
        exact,
        interval(t, 0.0),
        limit=np.full(layers, s ** (1.0 / layers)),
        spaces=("Euclidean",),
        exact_energy=exact.energy,
        constants={"minimum": 0.0},
        reference="Arora, Cohen, Hazan, ICML (2018), arXiv:1802.06509",
    )


def matrix_factorization(
    M: Any, X0: Any, *, t: tuple[float, float] = (0.0, 1.0)
) -> Problem:
    """Symmetric factorization V(X) = |X X^T - M|^2 / 4 of any rank, X of shape (n, r).

    X' = (M - X X^T) X, and S = X X^T solves S' = M S + S M - 2 S^2 (Riccati):

        S(t) = e^{Mt} X0 (I + 2 K)^{-1} X0^T e^{Mt},  K = X0^T int_0^t e^{2Ms} ds X0.

    X itself is known only up to a rotation of its columns, so ``exact`` is None.

    Parameters
    ----------
    M : (n, n) array
        Symmetric, of any signs.
    X0 : (n, r) array
        The state is X row by row, (n r,).
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``product``, a callable t -> S(t), and ``minimum``.
    """
    X = matrix(X0, "X0")
    n, r = X.shape
    target = square(M, n, "M")
    values = np.linalg.eigvalsh(target)
    reached = np.sort(np.maximum(values, 0.0))[::-1][:r]
    energy = FactorEnergy(target, r)
    product = Riccati(target, X, 1.0)
    return Problem(
        "matrix_factorization",
        Potential(energy, gradient=energy.gradient, hessian=energy.hessian),
        None,
        interval(t, 0.0),
        start=X.reshape(-1),
        spaces=("Euclidean",),
        exact_energy=product.symmetric_energy,
        constants={
            "product": product,
            "minimum": 0.25 * float(np.sum(values**2) - np.sum(reached**2)),
        },
        reference="Tarmoun, Franca, Haeffele, Vidal, ICML (2021), PMLR 139",
    )


def linear_network(
    M: Any, W1: Any, W2: Any, *, t: tuple[float, float] = (0.0, 1.0)
) -> Problem:
    """Two layers with whitened input, V = |W2 W1 - M|^2 / 2, from a balanced start.

    W1 (k, n), W2 (m, k) with W1 W1^T = W2^T W2, which the flow keeps. The stacked
    matrix Q = [W1^T; W2] obeys Q' = F Q - Q Q^T Q/2 with F = [0 M^T; M 0], whose
    product Q Q^T is that of ``matrix_factorization``; W2 W1 is a block of it.

    Parameters
    ----------
    M : (m, n) array
    W1, W2 : (k, n) and (m, k) arrays
        The state is W1 and then W2, row by row.
    t : tuple of float
        From t0 >= 0.

    Returns
    -------
    Problem
        Constants: ``product``, a callable t -> W2 W1, and ``minimum``.
    """
    first, second, target = matrix(W1, "W1"), matrix(W2, "W2"), matrix(M, "M")
    (k, n), (m, k2) = first.shape, second.shape
    if k != k2 or target.shape != (m, n):
        raise ValueError(
            f"`W2` {second.shape} times `W1` {first.shape} must have the shape of `M`, "
            f"{target.shape}."
        )
    gap = np.abs(first @ first.T - second.T @ second).max()
    if gap > 1e-8 * max(1.0, float(np.abs(first).max()) ** 2):
        raise ValueError(
            "`W1` and `W2` must be balanced, W1 W1^T = W2^T W2; the largest difference "
            f"is {gap:.3g}."
        )
    energy = NetworkEnergy(target, k)
    block = np.block([[np.zeros((n, n)), target.T], [target, np.zeros((m, m))]])
    product = Riccati(block, np.vstack([first.T, second]), 0.5, n)
    tail = np.linalg.svd(target, compute_uv=False)[k:]
    return Problem(
        "linear_network",
        Potential(energy, gradient=energy.gradient),
        None,
        interval(t, 0.0),
        start=np.concatenate([first.reshape(-1), second.reshape(-1)]),
        spaces=("Euclidean",),
        exact_energy=product.network_energy,
        constants={"product": product, "minimum": 0.5 * float(np.sum(tail**2))},
        reference=REFERENCE,
    )


def matrix(value: Any, name: str) -> Array:
    """A finite matrix."""
    found = real_array(value, name)
    if found.ndim != 2:
        raise ValueError(f"`{name}` must be a matrix, got shape {found.shape}.")
    return found
