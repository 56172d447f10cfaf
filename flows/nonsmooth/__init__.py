"""Convex functions with kinks and bounds, as potentials with exact proximal maps.

Each function returns a ``Potential``: its gradient is the shortest subgradient, and its
proximal map argmin_y R(y) + abs(x - y)^2 / 2h is exact. A sum of one of them and smooth
potentials has implicit steps as well.

>>> import numpy as np, flows as fl
>>> flow = fl.Euclidean().flow(fl.nonsmooth.l1(2.0))
>>> flow.prox(0.0, np.array([3.0, -0.5]), 0.5, ())[0]
array([2., 0.])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flows.energies import Potential
from flows.nonsmooth.base import ProxField, entries, shown, weight
from flows.nonsmooth.matrices import Nuclear, SpectralSquared
from flows.nonsmooth.norms import L2, Ball, Linf, Simplex
from flows.nonsmooth.separable import Box, Huber, Kinks, common_size
from flows.nonsmooth.variation import TotalVariation

__all__ = [
    "ProxField",
    "ball",
    "box",
    "hinge",
    "huber",
    "l1",
    "l2",
    "linf",
    "nuclear",
    "potential",
    "quantile",
    "simplex",
    "spectral_norm_squared",
    "total_variation",
]


def potential(field: ProxField) -> Potential:
    """The potential of a function that knows its proximal map."""
    return Potential(field, prox=field.prox)


def _kinks(up: Any, down: Any, place: Any, text: str) -> Potential:
    size = common_size(up, down, place)
    above, below, at = (np.atleast_1d(a)[None] for a in (up, down, place))
    return potential(Kinks(above, below, at, text, size))


def l1(a: Any = 1.0, *, center: Any = 0.0) -> Potential:
    """sum_i a_i abs(x_i - c_i); the proximal map is the soft threshold.

    Parameters
    ----------
    a : float or (n,) array
        Weights, not negative.
    center : float or (n,) array

    References
    ----------
    D. L. Donoho, I. M. Johnstone, Ideal spatial adaptation by wavelet shrinkage,
    Biometrika 81 (1994) 425-455, doi:10.1093/biomet/81.3.425.

    Examples
    --------
    >>> import numpy as np, flows as fl
    >>> float(fl.nonsmooth.l1([1.0, 3.0]).value_at(np.array([2.0, -1.0])))
    5.0
    """
    a = entries(a, "a", lambda v: (v >= 0.0) & (v < np.inf))
    at = entries(center, "center")
    place = f", center={shown(at)}" if at.any() else ""
    return _kinks(a, a, at, f"nonsmooth.l1({shown(a)}{place})")


def hinge(a: Any = 1.0) -> Potential:
    """sum_i a_i max(0, 1 - x_i), the loss of support vectors.

    Parameters
    ----------
    a : float or (n,) array
        Weights, not negative.
    """
    a = entries(a, "a", lambda v: (v >= 0.0) & (v < np.inf))
    return _kinks(np.zeros(1), a, np.ones(1), f"nonsmooth.hinge({shown(a)})")


def quantile(q: Any = 0.5, *, center: Any = 0.0) -> Potential:
    """sum_i q (x_i - c_i)_+ + (1 - q) (c_i - x_i)_+, least where x is the q-quantile.

    Parameters
    ----------
    q : float or (n,) array
        Levels between 0 and 1.
    center : float or (n,) array

    References
    ----------
    R. Koenker, G. Bassett, Regression quantiles, Econometrica 46 (1978) 33-50,
    doi:10.2307/1913643.
    """
    q = entries(q, "q", lambda v: (v >= 0.0) & (v <= 1.0))
    at = entries(center, "center")
    place = f", center={shown(at)}" if at.any() else ""
    return _kinks(q, 1.0 - q, at, f"nonsmooth.quantile({shown(q)}{place})")


def huber(delta: float = 1.0) -> Potential:
    """sum_i of x_i^2/2 for abs(x_i) <= delta, else delta abs(x_i) - delta^2/2.

    It is the Moreau envelope of delta abs(x) with step 1.

    Parameters
    ----------
    delta : float
        Where the parabola ends, positive.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35
    (1964) 73-101, doi:10.1214/aoms/1177703732.
    """
    return potential(Huber(_positive(delta, "delta")))


def l2(a: float = 1.0) -> Potential:
    """a abs(x), the Euclidean length: the whole vector is shortened, down to 0.

    Parameters
    ----------
    a : float
        Weight, not negative.
    """
    return potential(L2(weight(a)))


def linf(a: float = 1.0) -> Potential:
    """a max_i abs(x_i); the proximal map clips the largest entries.

    Parameters
    ----------
    a : float
        Weight, not negative.

    Notes
    -----
    By Moreau's identity x - prox(x) is the projection on the ball of radius h a of the
    l1 norm, found by sorting [1]_.

    References
    ----------
    .. [1] J. Duchi, S. Shalev-Shwartz, Y. Singer, T. Chandra, Efficient projections
       onto the l1-ball for learning in high dimensions, ICML 2008,
       doi:10.1145/1390156.1390191.
    """
    return potential(Linf(weight(a)))


def nuclear(a: float = 1.0) -> Potential:
    """a times the sum of the singular values of a matrix: each is soft-thresholded.

    A point is a matrix (n, k), the trailing two axes of the state.

    Parameters
    ----------
    a : float
        Weight, not negative.

    References
    ----------
    J.-F. Cai, E. J. Candes, Z. Shen, A singular value thresholding algorithm for matrix
    completion, SIAM J. Optim. 20 (2010) 1956-1982, doi:10.1137/080738970.
    """
    return potential(Nuclear(weight(a)))


def spectral_norm_squared() -> Potential:
    """Half the squared largest singular value of a matrix.

    Along the flow the top singular values decay together, as exp(-t/k) when there are k
    of them, and the others stand still until they are met. The proximal map is
    min(sigma_i, m) with h m = sum_i (sigma_i - m)_+.
    """
    return potential(SpectralSquared())


def box(lower: Any = -np.inf, upper: Any = np.inf) -> Potential:
    """0 where lower <= x <= upper, infinite elsewhere; the proximal map clips.

    Parameters
    ----------
    lower, upper : float or (n,) array
        Bounds, which may be infinite.

    Raises
    ------
    ValueError
        For bounds that leave no room.
    """
    low = entries(lower, "lower", lambda v: v < np.inf)
    high = entries(upper, "upper", lambda v: v > -np.inf)
    common_size(low, high)
    if not np.all(low <= high):
        raise ValueError(
            f"`lower` = {lower!r} must nowhere exceed `upper` = {upper!r}."
        )
    return potential(Box(low, high, f"nonsmooth.box({shown(low)}, {shown(high)})"))


def ball(radius: float = 1.0, center: Any = 0.0) -> Potential:
    """0 where abs(x - center) <= radius, infinite elsewhere.

    Parameters
    ----------
    radius : float
        Not negative.
    center : float or (n,) array
    """
    return potential(Ball(weight(radius, "radius"), entries(center, "center")))


def simplex(total: float = 1.0) -> Potential:
    """0 where x >= 0 and sum x = total, infinite elsewhere; projection by sorting.

    Parameters
    ----------
    total : float
        Positive.

    References
    ----------
    M. Held, P. Wolfe, H. P. Crowder, Validation of subgradient optimization, Math.
    Program. 6 (1974) 62-88, doi:10.1007/BF01580223.
    """
    return potential(Simplex(_positive(total, "total")))


def total_variation(a: float = 1.0) -> Potential:
    """a sum_i abs(x_{i+1} - x_i) along the vector; exact, in time linear in n.

    Plateaus move as one and merge when they meet: a plateau of length L above both
    neighbors sinks with speed 2 a / L.

    Parameters
    ----------
    a : float
        Weight, not negative.

    References
    ----------
    L. I. Rudin, S. Osher, E. Fatemi, Nonlinear total variation based noise removal
    algorithms, Physica D 60 (1992) 259-268, doi:10.1016/0167-2789(92)90242-F.
    N. A. Johnson, A dynamic programming algorithm for the fused lasso and
    L0-segmentation, J. Comput. Graph. Stat. 22 (2013) 246-260,
    doi:10.1080/10618600.2012.681238.
    """
    return potential(TotalVariation(weight(a)))


def _positive(value: Any, name: str) -> float:
    number = weight(value, name)
    if number == 0.0:
        raise ValueError(f"`{name}` must be positive, got {value!r}.")
    return number
