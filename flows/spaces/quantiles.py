"""Measures on the line by their quantiles, where the Wasserstein distance is flat."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace, numbers, to_numpy
from flows.energies import Entropy, Interaction, Internal, Potential
from flows.flow import Flow
from flows.linear import Tridiagonal
from flows.measures import Dirac, Empirical, Histogram
from flows.spaces.base import Space, check_device, refuse, terms_of
from flows.spaces.chain import (
    Chain,
    curvatures,
    densities,
    laplacian,
    minimize,
    minimize_with_kink,
    spread,
)
from flows.spaces.cloud import check_count, check_drift, drift_at
from flows.spaces.diffusion import refuse_backward
from flows.spaces.formulas import Kinked, split_potentials
from flows.spaces.implicit import (
    NO_DERIVATIVE,
    kinked,
    obstacle,
    solve_points,
    total_potential,
)
from flows.spaces.pairs import Pairs, ranks, recognize

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.flow import Memory
    from flows.spaces.chain import Terms
    from flows.spaces.cloud import Drift

__all__ = ["Quantiles"]

Array = Any
ImplicitStep = Callable[[float, Array, float, "Memory"], tuple[Array, "Memory"]]


@dataclass(frozen=True, repr=False)
class Quantiles(Space):
    """Measures on the line by n quantiles X_i = quantile at level (i + 1/2)/n.

    A state (n,) is nondecreasing. The Wasserstein distance of two states is
    sqrt(mean (X_i - Y_i)^2), so that the flow of

        E(X) = mean V(X_i) + sum_i gap_i U(1/(n gap_i)) + 1/(2n^2) sum_ij W(X_i - X_j)

    in W_2 is dX/dt = -n dE/dX, and a minimizing movement is an implicit Euler step.

    Parameters
    ----------
    n : int
        Number of quantiles; density terms need at least 2.
    device, dtype : str, optional
        None follows the state; measures become NumPy float64.

    Notes
    -----
    U takes the density 1/(n gap) of the n - 1 gaps; the mass 1/(2n) beyond the first
    and the last quantile has no density term. Energies with a density term are infinite
    where quantiles coincide; their implicit steps may start there.

    References
    ----------
    D. Matthes, H. Osberger, Convergence of a variational Lagrangian scheme for a
    nonlinear drift diffusion equation, ESAIM: M2AN 48 (2014),
    doi:10.1051/m2an/2013126.

    Examples
    --------
    >>> import flows as fl
    >>> fl.Quantiles(4).project(fl.Uniform(0.0, 1.0))
    array([0.125, 0.375, 0.625, 0.875])
    """

    n: int
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_count(self.n)
        check_device(self.device, self.dtype)

    def __repr__(self) -> str:
        return self.written(str(self.n))

    def flow(self, energy: Energy, drift: Drift | None = None) -> QuantileFlow:
        """The Wasserstein gradient flow of every kind of term, plus ``drift(x)``.

        Raises
        ------
        TypeError
            For density terms with n = 1, and for diffusion that is backward somewhere.
        """
        for term in terms_of(energy):
            match term:
                case Potential() | Interaction():
                    continue
                case Entropy() | Internal():
                    if self.n < 2:
                        raise refuse(term, self, "one quantile has no gap; take n >= 2")
                case _:
                    raise refuse(term, self)
        refuse_backward(energy, self)
        return QuantileFlow(self, energy, drift)

    def project(self, measure: Any, rng: Any = None) -> Array:
        """Quantiles of a measure on the line at the levels (i + 1/2)/n.

        Raises
        ------
        TypeError
            For measures in higher dimension, or without a quantile function.
        """
        if measure.d != 1:
            raise TypeError(
                f"{self!r} holds measures on the line, got {measure!r} on "
                f"R^{measure.d}; use Particles or Grid."
            )
        x = measure.quantile((np.arange(self.n) + 0.5) / self.n)
        # Quantiles found by iteration may be out of order by rounding.
        return self.create(np.maximum.accumulate(x))

    def measure(self, u: Array) -> Any:
        """Histogram with mass 1/n between neighbours and the quantiles ``u``.

        The outer two cells of mass 1/(2n) continue the density of their neighbours.
        Where quantiles coincide there is no density: then the empirical measure of the
        quantiles (for n = 1 a Dirac mass). Both give back ``u`` when projected.
        """
        x = to_numpy(u).astype(np.float64)
        n = x.shape[0]
        if n == 1:
            return Dirac(float(x[0]))
        gaps = np.diff(x)
        first, last = x[0] - 0.5 * gaps[0], x[-1] + 0.5 * gaps[-1]
        edges = np.concatenate([[first], x, [last]])
        if np.any(np.diff(edges) <= 0.0):
            return Empirical(x)
        masses = np.full(n + 1, 1.0 / n)
        masses[[0, -1]] = 0.5 / n
        return Histogram(edges, masses)

    def distance(self, u: Array, v: Array) -> float:
        """W_2 = sqrt(mean (u_i - v_i)^2)."""
        xp = namespace(u)
        return float(xp.sqrt(xp.mean((u - v) ** 2)))

    def points(self, u: Array) -> Array:
        """Where potentials are evaluated, (n, 1)."""
        return u[:, None]

    def shape_error(self, u: Array) -> str | None:
        """None for a nondecreasing state (n,), else what was expected."""
        shape = tuple(u.shape)
        if len(shape) != 1:
            return (
                f"`u0` has shape {shape}; {self!r} takes ({self.n},), the quantiles of "
                "a measure on the line. A sorted column is `np.sort(x[:, 0])`."
            )
        if shape[0] != self.n:
            return (
                f"`u0` has {shape[0]} entries, but {self!r} has {self.n} quantiles; "
                f"use Quantiles({shape[0]})."
            )
        x = to_numpy(u)
        falls = np.flatnonzero(x[1:] < x[:-1])
        if falls.size:
            i = int(falls[0])
            return (
                f"`u0` must be nondecreasing, but u0[{i}] = {x[i]:g} > u0[{i + 1}] = "
                f"{x[i + 1]:g}; quantiles are sorted, `np.sort(u0)`."
            )
        return None


@dataclass(frozen=True, eq=False)
class QuantileFlow(Flow):
    """dX/dt = -n dE/dX + drift(X), see ``Quantiles``."""

    # Without `field()` the class attribute of Flow would be a default.
    space: Quantiles = field()
    functional: Energy
    drift: Drift | None = None
    is_gradient: bool = field(init=False, default=True, repr=False)

    def __post_init__(self) -> None:
        check_drift(self.drift)
        object.__setattr__(self, "is_gradient", self.drift is None)

    @cached_property
    def potentials(self) -> tuple[Potential, ...]:
        """The potentials of the energy."""
        return tuple(t for t in self.functional.terms if isinstance(t, Potential))

    @cached_property
    def terms(self) -> Terms:
        """The terms given by the density."""
        kinds = (Entropy, Internal)
        return tuple(t for t in self.functional.terms if isinstance(t, kinds))

    @cached_property
    def pairs(self) -> Pairs:
        """The interactions, split into what is recognized."""
        kept = (t for t in self.functional.terms if isinstance(t, Interaction))
        return recognize(tuple(kept), 1)

    @cached_property
    def _kink(self) -> Kinked | None:
        """The kink of the potentials, if they have one that is recognized."""
        if not any(kinked(term) for term in self.potentials):
            return None
        return split_potentials(self.potentials, 1)

    def velocity(self, t: float, u: Array) -> Array:
        """-n dE/dX, (n,)."""
        xp = namespace(u)
        x = u[:, None]
        v = xp.zeros_like(u)
        for term in self.potentials:
            v = v - term.gradient_at(x, t)[:, 0]
        if self.terms:
            rho = densities(u)
            pressure = self.space.n * sum(term.pressure_at(rho) for term in self.terms)
            none = xp.zeros_like(u[:1])
            v = v + xp.concat([none, pressure]) - xp.concat([pressure, none])
        force = self.pairs.force(t, x, ordered=True)
        if force is not None:
            v = v + force[:, 0]
        return v if self.drift is None else v + drift_at(self.drift, x)[:, 0]

    def energy(self, t: float, u: Array) -> Any:
        """E(X); infinite where quantiles coincide and a term needs their density."""
        xp = namespace(u)
        x = u[:, None]
        total = self.pairs.energy(t, x)
        if self.potentials:
            V = total_potential("value_at", self.potentials, t, x)
            total = total + numbers(xp.mean(V))
        if self.terms:
            gaps = u[1:] - u[:-1]
            if not bool(xp.all(gaps > 0.0)):
                return math.inf
            rho = densities(u)
            parts = [numbers(xp.sum(gaps * c.value_at(rho))) for c in self.terms]
            total = total + sum(parts)
        return total

    def inner(self, u: Array, a: Array, b: Array) -> Any:
        """mean a_i b_i, the metric of W_2."""
        return numbers(namespace(a).mean(a * b))

    def jacobian(self, t: float, u: Array) -> Any:
        """Derivative of ``velocity``: Tridiagonal, or (n, n) when W is not abs(x)."""
        if self.drift is not None:
            raise TypeError("the derivative of the drift is not known")
        x, n = to_numpy(u), self.space.n
        own = np.zeros_like(x)
        if self.potentials:
            second = total_potential("hessian_at", self.potentials, t, x[:, None])
            own = second[:, 0, 0]
        links = np.zeros_like(x[1:])
        if self.terms:
            links = curvatures(self.terms, densities(x), n)
        if self.pairs.matrix is None and not self.pairs.rest:
            own = own.copy()
            own[:-1] += links
            own[1:] += links
            return Tridiagonal(links, -own, links)
        H = laplacian(links, own)
        if self.pairs.matrix is not None:
            H = H + float(self.pairs.matrix[0, 0]) * (np.eye(n) - 1.0 / n)
        for part in self.pairs.rest:
            second = part.hessian(t, x[:, None])[:, :, 0, 0] / n
            H = H + np.diag(second.sum(axis=1)) - second
        return array_like(-H, u)

    def stable_step(self, t: float, u: Array) -> float:
        """2 / lambda, where lambda bounds the Hessian of n E at ``u`` (Gershgorin).

        The stiffness changes along the flow; kinks of V and W are not in it.
        """
        x, n = to_numpy(u), self.space.n
        row = np.zeros_like(x)
        if self.potentials:
            second = total_potential("hessian_at", self.potentials, t, x[:, None])
            row = row + second[:, 0, 0]
        if self.terms:
            with np.errstate(all="ignore"):
                links = curvatures(self.terms, densities(x), n)
            row[:-1] += 2.0 * links
            row[1:] += 2.0 * links
        bound = float(np.max(row))
        if self.pairs.matrix is not None:
            bound += max(float(self.pairs.matrix[0, 0]), 0.0)
        bound += sum(2.0 * part.curvature(t, x[:, None]) for part in self.pairs.rest)
        if not bound <= 0.0:
            return 2.0 / bound if bound < math.inf else 0.0
        return math.inf

    @property
    def resolvent(self) -> ImplicitStep:
        """``resolvent(t, w, h, memory)``; raises TypeError where it is not known."""
        self._check_implicit()
        return self._implicit

    @property
    def prox(self) -> ImplicitStep:
        """``prox(t, u, h, memory)``: the metric is flat, so it is the resolvent."""
        self._check_implicit()
        return self._implicit

    @property
    def _ordered(self) -> bool:
        """Whether implicit steps keep the quantiles in strict order."""
        return bool(self.terms) or any(not part.smooth for part in self.pairs.rest)

    def _check_implicit(self) -> None:
        if self.drift is not None:
            raise TypeError(NO_DERIVATIVE)
        if not self._ordered:
            reason = obstacle(self.potentials, self.pairs, 1)
            if reason is not None:
                raise TypeError(reason)
        elif self._kink is None and any(not t.function.smooth for t in self.potentials):
            raise TypeError(
                "implicit steps with a density term need a smooth V, or one kink "
                "a*abs(x - p) plus a smooth part; use an explicit scheme"
            )
        elif not self.terms and self.pairs.kink > 0.0:
            raise TypeError(
                "no implicit step is known for an attracting kink abs(x) in W together "
                "with a singular part; use an explicit scheme"
            )

    def _implicit(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """v = w + h velocity(t, v) as the minimizer of n E(v) + |v - w|^2 / 2h.

        The order of ``w`` is free. With a density term v increases strictly; Newton
        starts from the last state in ``memory``, else from ``w`` in order.
        """
        last = memory[0] if memory else w
        if self._ordered:
            y, start = to_numpy(w), spread(to_numpy(last), h)
            v = array_like(self._chain_step(t, y, h, start), w)
        else:
            parts = self.potentials, self.pairs
            v = solve_points(*parts, t, w[:, None], h, last[:, None])[:, 0]
        return v, (v,)

    def _chain_step(self, t: float, w: Array, h: float, start: Array) -> Array:
        levels = ranks(start).astype(w.dtype)
        push = h * self.pairs.kink * levels
        pairs = Pairs(self.pairs.matrix, rest=self.pairs.rest)
        kink = self._kink
        # A repelling kink holds nobody: Newton's method may take V as it is.
        holds = kink is not None and kink.weight > 0.0
        smooth = kink.smooth if kink is not None and holds else self.potentials

        def make(tilt: Array, pinned: int | None) -> Chain:
            return Chain(smooth, self.terms, pairs, t, w, h, push + tilt, pinned)

        if kink is not None and holds:
            return minimize_with_kink(make, kink, h, start)
        return minimize(make(np.zeros_like(w), None), start)

    def default(self) -> tuple[str, float | None]:
        """Minimizing movements of step 0.01, or Dormand-Prince where there are none."""
        try:
            self._check_implicit()
        except TypeError:
            return "DormandPrince", None
        return "MinimizingMovement", 0.01
