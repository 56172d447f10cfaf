"""Relative entropy between measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures.gaussian import Gaussian

if TYPE_CHECKING:
    from flows.measures.base import Measure

__all__ = ["kl_divergence"]

Array = Any


def kl_divergence(mu: Measure, nu: Measure) -> float:
    """Relative entropy KL(mu | nu) = int log(d mu / d nu) d mu.

    Closed form for Gaussian measures in any dimension, quadrature of the first
    argument otherwise; ``inf`` when nu vanishes where mu does not.

    Raises
    ------
    TypeError
        When a measure has no density, or no quadrature is known for ``mu``.
    ValueError
        When the dimensions differ.
    """
    if mu.d != nu.d:
        raise ValueError(f"`mu` is a measure on R^{mu.d} and `nu` on R^{nu.d}.")
    for measure in (mu, nu):
        if not measure.has_density:
            raise TypeError(
                f"{measure!r} has no density, so its relative entropy is infinite or "
                "undefined; compare with `wasserstein`."
            )
    if mu is nu:
        return 0.0
    if isinstance(mu, Gaussian) and isinstance(nu, Gaussian):
        return _gaussian(mu, nu)

    def log_ratio(x: Array) -> Array:
        points = x[..., 0] if mu.d == 1 else x
        p, q = mu.log_pdf(points), nu.log_pdf(points)
        # Where mu has no mass the ratio does not count, even if nu has none either.
        return np.where(np.isneginf(p), 0.0, p - np.where(np.isneginf(p), 0.0, q))

    return mu.expect(log_ratio)


def _gaussian(mu: Gaussian, nu: Gaussian) -> float:
    whiten, _ = nu.whitening()
    shift = whiten @ (mu.center - nu.center)
    root = whiten @ mu.root
    # Eigenvalues r of T^-1 S: sum of r - 1 - log r, each term >= 0 without cancelling.
    excess = np.linalg.eigvalsh(root @ root.T) - 1.0
    gap = float(np.sum(excess - np.log1p(excess)))
    return 0.5 * (gap + float(shift @ shift))
