"""The Wasserstein distance between any two measures for which it is known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.measures import Dirac, Empirical, Gaussian, Measure
from flows.measures.discrete import Atomic
from flows.transport.assignment import assignment
from flows.transport.gaussian import bures
from flows.transport.one_dimensional import between

__all__ = ["wasserstein"]


def wasserstein(mu: Measure, nu: Measure, p: float = 2) -> float:
    r"""Wasserstein distance W_p between two measures (the distance, not its power).

    .. math:: W_p(\mu, \nu) = \Big( \inf_{\pi} \int |x - y|^p \, d\pi \Big)^{1/p}

    Parameters
    ----------
    mu, nu : Measure
        On the line, any two. In higher dimension two Gaussian measures (p = 2), two
        samples of equal size without weights, laws with independent coordinates
        (p = 2), or a Dirac mass with anything.
    p : float
        Exponent, finite and at least 1.

    Returns
    -------
    float
        Exact up to rounding for atoms, piecewise constant densities and Gaussian
        measures, by quadrature to about 1e-10 of the size of the measures otherwise.

    Raises
    ------
    TypeError
        For arguments that are no measures and for pairs without a known formula; the
        text says what can be done.
    ValueError
        For p < 1, different dimensions, or samples too large for an assignment.

    References
    ----------
    F. Santambrogio, Optimal Transport for Applied Mathematicians, Birkhauser 2015,
    doi:10.1007/978-3-319-20828-2.

    Examples
    --------
    >>> from flows.measures import Gaussian, Uniform
    >>> wasserstein(Gaussian(0.0, 1.0), Gaussian(3.0, 5.0))
    5.0
    >>> wasserstein(Uniform(0.0, 1.0), Uniform(1.0, 2.0), p=1)
    1.0
    """
    p = _checked(mu, nu, p)
    if mu is nu:
        return 0.0
    if mu.d == 1:
        return between(mu, nu, p)
    if isinstance(mu, Dirac):
        mu, nu = nu, mu
    if isinstance(nu, Dirac):
        return _to_point(mu, nu, p)
    if isinstance(mu, Empirical) and isinstance(nu, Empirical):
        return _between_samples(mu, nu, p)
    if p == 2:
        if isinstance(mu, Gaussian) and isinstance(nu, Gaussian):
            return bures(mu, nu)
        first, second = mu.factors(), nu.factors()
        if first is not None and second is not None:
            axes = [between(a, b, 2) for a, b in zip(first, second, strict=True)]
            return float(np.hypot.reduce(axes))
    raise TypeError(
        f"W_{p:g} between {mu!r} and {nu!r} on R^{mu.d} has no exact formula here. "
        "Take equal numbers of points of both, Empirical(m.sample(n, rng)), for an "
        "assignment; or Gaussian measures with the same mean and cov and p=2; or "
        "one-dimensional marginals."
    )


def _checked(mu: Any, nu: Any, p: Any) -> float:
    for name, measure in (("mu", mu), ("nu", nu)):
        if not isinstance(measure, Measure):
            raise TypeError(
                f"`{name}` must be a measure, got {type(measure).__name__}; wrap "
                "points by Empirical(points), a point by Dirac(point)."
            )
    if isinstance(p, bool) or not isinstance(p, (int, float, np.number)):
        raise TypeError(f"`p` must be a number, got {p!r}.")
    if not 1 <= p < np.inf:
        raise ValueError(f"`p` must be finite and at least 1, got {p}.")
    if mu.d != nu.d:
        raise ValueError(
            f"`mu` is a measure on R^{mu.d} and `nu` on R^{nu.d}; the Wasserstein "
            "distance needs one space."
        )
    return float(p)


def _to_point(mu: Measure, nu: Dirac, p: float) -> float:
    """W_p to a Dirac mass: the p-th moment about its point."""
    if isinstance(mu, Atomic):
        r = np.sqrt(np.sum((mu.atoms - nu.point) ** 2, axis=1))
        largest = float(r.max())
        if largest == 0.0:
            return 0.0
        return largest * float((mu.masses @ (r / largest) ** p) ** (1.0 / p))
    if p == 2:
        m, S = mu.moments()
        return float(
            np.hypot(np.sqrt(np.sum((m - nu.point) ** 2)), np.sqrt(np.trace(S)))
        )
    moment = mu.expect(lambda x: np.sum((x - nu.point) ** 2, axis=-1) ** (0.5 * p))
    return float(moment ** (1.0 / p))


def _between_samples(mu: Empirical, nu: Empirical, p: float) -> float:
    if mu.weights is None and nu.weights is None:
        if mu.points.shape == nu.points.shape:
            return assignment(mu.points, nu.points, p)
        sizes = f"{mu.points.shape[0]} and {nu.points.shape[0]} points"
    else:
        sizes = "weighted points"
    raise TypeError(
        f"Samples of {sizes} on R^{mu.d} cannot be matched one to one; draw equal "
        "numbers from both, Empirical(m.sample(n, rng)), or compare one-dimensional "
        "marginals."
    )
