"""Gradient flows of vectors: dx/dt = -grad V(x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.arrays import namespace
from flows.spaces.base import check_device, potentials
from flows.spaces.bounds import check_bounds
from flows.spaces.composite import composite_flow
from flows.spaces.costs import L2, MetricNorm, NormCost
from flows.spaces.euclidean_flows import DriftFlow, EuclideanFlow
from flows.spaces.jacobians import Krylov, check_structure
from flows.spaces.metrics import OperatorMetric, as_metric
from flows.spaces.patterns import Banded, Sparse
from flows.spaces.points import PointSpace
from flows.spaces.quadratic_flows import QuadraticFlow
from flows.spaces.riemannian import RiemannianFlow
from flows.symbolic import Constant, QuadraticField

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.energies import Energy
    from flows.flow import Flow
    from flows.spaces.euclidean_flows import VectorFlow

__all__ = ["Euclidean"]

Array = Any


@dataclass(frozen=True)
class Euclidean(PointSpace):
    """R^n with a metric M: dx/dt = -M^{-1} grad V(x).

    A state (n,) is one point of R^n; (b, n) is b points, each with its own path.

    Parameters
    ----------
    metric : number, (n,) or (n, n) array, callable or Metric, optional
        M: a multiple of the identity (the plain product by default), a diagonal, a
        symmetric positive definite matrix, a scipy LinearOperator, a function x -> M(x)
        of points (.., n) with values (.., n, n), or one of ``flows.metrics``.
    jacobian : Dense, Banded, Sparse or Krylov, optional
        How Hess V is held in implicit steps. None: a diagonal where V is recognized as
        a sum over coordinates, else matrices up to 500 coordinates, else products.
    bounds : Bounds, optional
        Box that the states keep, see ``flows.bounds``.
    compiled : bool, optional
        Whether Runge-Kutta schemes and ``Rosenbrock`` step in machine code (numba) from
        save time to save time: for formulas of up to 16 coordinates, and for functions
        with ``gradient=`` that numba can compile. The first such run takes seconds,
        later ones, for formulas also of other processes, a hundredth of the time of the
        plain path. None: for batches of 512 points and more under formulas. Runs that
        save every step, stop by ``until`` or have hooks take the plain path.
    device, dtype : str, optional
        None follows the state.

    Raises
    ------
    TypeError, ValueError
        For a metric that is not symmetric positive definite, and other wrong arguments.

    Examples
    --------
    >>> import numpy as np
    >>> import flows as fl
    >>> fl.Euclidean().flow(fl.quadratic([1.0, 4.0])).velocity(0.0, np.ones(2))
    array([-1., -4.])
    >>> fl.Euclidean(metric=2.0).flow(fl.quadratic()).velocity(0.0, np.ones(2))
    array([-0.5, -0.5])
    """

    metric: Any = None
    jacobian: Any = None
    bounds: Any = None
    compiled: bool | None = None
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.dtype)
        object.__setattr__(self, "metric", as_metric(self.metric))
        check_structure(self.jacobian, self.metric)
        check_bounds(self.bounds, self.metric)
        if self.compiled is not None and not isinstance(self.compiled, bool):
            raise TypeError(
                f"`compiled` must be True, False or None, got {self.compiled!r}."
            )

    def __repr__(self) -> str:
        options = ("metric", "jacobian", "bounds", "compiled")
        given = [(name, getattr(self, name)) for name in options]
        return self.written(*(f"{name}={v!r}" for name, v in given if v is not None))

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """The flow dx/dt = -M^{-1} grad V(x) + drift(x).

        Raises
        ------
        TypeError
            For a term that is not a Potential.
        """
        potentials(energy, self)
        flow = self._free_flow(energy, drift)
        return flow if self.bounds is None else self.bounds.flow(flow)

    def _free_flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None
    ) -> VectorFlow:
        """The flow without bounds."""
        if drift is not None:
            if not callable(drift):
                raise TypeError(f"`drift` must be callable(x), got {drift!r}.")
            return DriftFlow(self, energy, drift)
        composite = composite_flow(self, energy)
        if composite is not None:
            return composite
        if self.metric is not None and not self.metric.constant:
            return RiemannianFlow(self, energy)
        polynomial = all(
            isinstance(t.function, (QuadraticField, Constant)) for t in energy.terms
        )
        products = isinstance(self.jacobian, Krylov | Banded | Sparse)
        if polynomial and not products and not isinstance(self.metric, OperatorMetric):
            return QuadraticFlow(self, energy)
        return EuclideanFlow(self, energy)

    @property
    def cost(self) -> NormCost:
        """(v - u).M (v - u)/2h, of which the Euler steps are minimizing movements.

        Raises
        ------
        TypeError
            For a metric that depends on x.
        """
        return NormCost(L2() if self.metric is None else MetricNorm(self.metric))

    def distance(self, u: Array, v: Array) -> Any:
        """sqrt((u - v).M (u - v)): one number, or (b,) for b points.

        Raises
        ------
        TypeError
            For a metric that depends on x: its geodesics are not known.
        """
        xp, metric, d = namespace(u), self.metric, u - v
        if metric is not None and not metric.constant:
            raise TypeError(
                f"{self!r} has a metric that depends on x, whose distance is not "
                "known; measure with Euclidean() or a constant metric."
            )
        square = xp.sum(d * (d if metric is None else metric.apply(u, d)), axis=-1)
        length = xp.sqrt(square)
        return float(length) if length.ndim == 0 else length

    def shape_error(self, u: Array) -> str | None:
        """None for a state (n,) or (b, n) that fits metric, jacobian and bounds."""
        if u.ndim not in (1, 2):
            return (
                f"`u0` has shape {tuple(u.shape)}; Euclidean takes (n,), one point of "
                "R^n, or (b, n), b points. A number x is np.array([x])."
            )
        for part in (self.metric, self.jacobian):
            try:
                if part is not None:
                    part.check(u.shape[-1])
            except ValueError as error:
                return str(error)
        return None if self.bounds is None else self.bounds.state_error(u)
