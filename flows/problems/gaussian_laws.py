"""Gaussian laws and mixtures of them under linear drift, noise and attraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import Dirac, Gaussian, Measure, Mixture
from flows.measures.checks import as_weights, real_array
from flows.problems.arguments import nice_box, time

if TYPE_CHECKING:
    from flows.energies import Energy
    from flows.problems.modes import Modes

__all__ = ["GaussianPath", "describe", "law", "mixture_parts", "path_box"]

Array = Any
REACH = 7.7
"""Standard deviations beyond which a normal law has mass 1.4e-14."""


def law(mean: Any, std: Any, d: int | None = None) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d), from what ``Gaussian`` takes."""
    size = np.ravel(real_array(mean, "mean")).size
    spread = real_array(std, "std")
    if d is not None and size == 1 and spread.ndim == 0:
        gaussian = Gaussian(np.full(d, float(np.ravel(mean)[0])), std)
    else:
        gaussian = Gaussian(mean, std)
    if d is not None and gaussian.d != d:
        raise ValueError(
            f"`mean` and `std` describe a law on R^{gaussian.d}, expected R^{d}."
        )
    return gaussian.center, gaussian.covariance


def mixture_parts(means: Any, stds: Any, weights: Any) -> tuple[Array, Array, Array]:
    """Weights (k,), means (k, d) and covariances (k, d, d) of a mixture.

    ``stds`` is one number for all, or a sequence of k entries, each of the kind that
    ``Gaussian`` takes.
    """
    m = real_array(means, "means")
    if m.ndim not in (1, 2) or m.size == 0:
        raise ValueError(
            f"`means` has shape {m.shape}, expected (k,) on the line or (k, d)."
        )
    m = m[:, None] if m.ndim == 1 else m
    k, d = m.shape
    many = isinstance(stds, (list, tuple)) or np.ndim(stds) > 0
    listed = list(stds) if many else [stds] * k
    if len(listed) != k:
        raise ValueError(
            f"`stds` has {len(listed)} entries for {k} means; give one number or {k} "
            "entries."
        )
    covariances = [law(mean, std, d)[1] for mean, std in zip(m, listed, strict=True)]
    return as_weights(weights, k), m, np.stack(covariances)


@dataclass(frozen=True, eq=False)
class GaussianPath:
    """Law of dX = -pull (X - center) dt - attract (X - E X) dt + sqrt(2T) dW.

    The mean relaxes by ``mean_modes`` (of pull), fluctuations about it by ``modes``
    (of pull + attract); mixtures stay mixtures with the same weights.
    """

    mean_modes: Modes
    modes: Modes
    temperature: float
    center: Array
    weights: Array
    means: Array
    covariances: Array
    from_time: float = 0.0

    def parts(self, t: float) -> tuple[Array, Array]:
        """Means (k, d) and covariances (k, d, d) of the components at time t."""
        s = time(t, self.from_time) - self.from_time
        average = self.weights @ self.means
        moved = self.center + self.mean_modes.decay(s, average - self.center)
        means = moved + self.modes.decay(s, self.means - average)
        return means, self.modes.covariance(s, self.covariances, self.temperature)

    def moments(self, t: float) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) of the law at time t."""
        means, covariances = self.parts(t)
        mean = self.weights @ means
        spread = means - mean
        inner = np.tensordot(self.weights, covariances, 1)
        return mean, inner + (self.weights[:, None] * spread).T @ spread

    def __call__(self, t: float) -> Measure:
        means, covariances = self.parts(t)
        components = [_component(m, S) for m, S in zip(means, covariances, strict=True)]
        if len(components) == 1:
            return components[0]
        return Mixture(components, self.weights)

    def energy(self, t: float) -> float:
        """T E log rho + (1/2) tr (pull + attract) S + (1/2) (m - a).pull (m - a).

        The entropy of a mixture is an integral without closed form; it is computed by
        quadrature for d <= 3.
        """
        m, S = self.moments(t)
        y = self.mean_modes.to(m - self.center)
        Q = np.eye(self.modes.d) if self.modes.vectors is None else self.modes.vectors
        value = 0.5 * np.sum(self.modes.values * np.diag(Q.T @ S @ Q))
        value += 0.5 * np.sum(self.mean_modes.values * y * y)
        if self.temperature > 0.0:
            measure = self(t)
            if not measure.has_density:
                return float("inf")
            value += self.temperature * entropy(measure)
        return float(value)


def entropy(measure: Measure) -> float:
    """Integral of rho log rho: closed for a Gaussian, else by quadrature."""
    if isinstance(measure, Gaussian) or measure.d == 1:
        return measure.entropy()
    return measure.integrate(lambda p: p * np.log(p))


def _component(m: Array, S: Array) -> Measure:
    if not S.any():
        return Dirac(m)
    if m.size == 1:
        return Gaussian(float(m[0]), float(np.sqrt(S[0, 0])))
    return Gaussian(m, S)


def path_box(path: GaussianPath, t: tuple[float, float]) -> Any:
    """Box that holds every component over the interval ``t``."""
    lo, hi = [], []
    for s in np.linspace(*t, 17):
        means, covariances = path.parts(s)
        reach = REACH * np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
        lo.append((means - reach).min(axis=0))
        hi.append((means + reach).max(axis=0))
    return nice_box(np.min(lo, axis=0), np.max(hi, axis=0))


def describe(
    path: GaussianPath, energy: Energy, t: tuple[float, float]
) -> dict[str, Any]:
    """Limit, rate, box and constants of a path, as fields of a ``Problem``."""
    outer, inner, T = path.mean_modes, path.modes, path.temperature
    fields: dict[str, Any] = {
        "energy": energy,
        "exact": path,
        "t": t,
        "box": path_box(path, t),
        "exact_energy": path.energy if len(path.weights) == 1 or T == 0.0 else None,
        "limit": None,
        "rate": None,
    }
    if len(path.weights) > 1 and inner.d <= 3:
        fields["exact_energy"] = path.energy
    settles = bool((outer.values >= 0).all()) and bool((inner.values > 0).all())
    if not settles:
        return fields
    offset = outer.to(path.weights @ path.means - path.center)
    rest = path.center + outer.back(np.where(outer.values > 0, 0.0, offset))
    S = inner.back(inner.back(np.diag(T / inner.values)).T)
    fields["limit"] = _component(rest, 0.5 * (S + S.T))
    # The mean and the law about it decay independently, each at its own rate.
    rates = [float(inner.values.min())]
    if outer.smallest_positive is not None:
        rates.append(outer.smallest_positive)
    fields["rate"] = 2.0 * min(rates)
    fields["constants"] = {"gap": min(rates)}
    return fields
