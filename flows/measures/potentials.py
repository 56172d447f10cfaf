"""-log pdf as functions with exact derivatives, in NumPy and torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, namespace
from flows.symbolic import Field, QuadraticField, SymbolicField
from flows.symbolic.fields import points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.measures.gaussian import Gaussian

__all__ = [
    "DensityPotential",
    "GaussianPotential",
    "MixturePotential",
    "gaussian_potential",
    "log_formula",
    "mixture_potential",
]

Array = Any
Expr = Any


@dataclass(frozen=True, eq=False, repr=False)
class GaussianPotential(QuadraticField):
    """V(x) = (x - center).A(x - center)/2 - b.x + constant."""

    constant: float = 0.0

    def value(self, x: Array, t: Any = 0.0) -> Array:
        return super().value(x, t) + self.constant

    def expr(self, d: int) -> Expr:
        from flows.symbolic.vocabulary import exact

        return super().expr(d) + exact(self.constant)

    def __repr__(self) -> str:
        inner = super().__repr__().removeprefix("QuadraticField(").removesuffix(")")
        return f"GaussianPotential({inner}, constant={self.constant:.6g})"


def gaussian_potential(measure: Gaussian) -> GaussianPotential:
    """-log pdf of a Gaussian measure, a quadratic with its constant."""
    whiten, log_det = measure.whitening()
    constant = 0.5 * (log_det + measure.d * np.log(2.0 * np.pi))
    A = whiten.T @ whiten
    if measure.d == 1 or not np.count_nonzero(A - np.diag(np.diag(A))):
        A = np.diag(A)
    return GaussianPotential(A, measure.center, constant=float(constant))


@dataclass(frozen=True, eq=False, repr=False)
class MixturePotential(Field):
    """V(x) = -log sum_k exp(c_k - (x - m_k).A_k(x - m_k)/2), by a stable log-sum-exp.

    Parameters
    ----------
    levels : (k,) array
        The numbers c_k: log weights plus log normalizations.
    centers : (k, d) array
    precisions : (k, d, d) array
        Symmetric positive definite.
    """

    levels: Array
    centers: Array
    precisions: Array

    @property
    def dimension(self) -> int:
        return int(self.centers.shape[1])

    def _parts(self, x: Array) -> tuple[list[Array], Array, Array]:
        """Gradients (.., d) of the quadratics, exponents and their maximum (..)."""
        self.check_dimension(x.shape[-1])
        xp = namespace(x)
        slopes, exponents = [], []
        for level, center, A in zip(
            self.levels, self.centers, self.precisions, strict=True
        ):
            z = x - array_like(center, x)
            slope = xp.matmul(z, array_like(A, x))
            slopes.append(slope)
            exponents.append(float(level) - 0.5 * xp.sum(z * slope, axis=-1))
        stacked = xp.stack(exponents, axis=0)
        return slopes, stacked, xp.max(stacked, axis=0)

    def _shares(self, x: Array) -> tuple[list[Array], Array]:
        """Gradients of the quadratics and the posterior weights (k, ..)."""
        slopes, exponents, top = self._parts(x)
        xp = namespace(x)
        powers = xp.exp(exponents - top)
        return slopes, powers / xp.sum(powers, axis=0)

    def value(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        _, exponents, top = self._parts(x)
        xp = namespace(x)
        return -(top + xp.log(xp.sum(xp.exp(exponents - top), axis=0)))

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        slopes, shares = self._shares(points(x))
        total = shares[0][..., None] * slopes[0]
        for k in range(1, len(slopes)):
            total = total + shares[k][..., None] * slopes[k]
        return total

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        x = points(x)
        slopes, shares = self._shares(x)
        mean = self.gradient(x)
        total = mean[..., :, None] * mean[..., None, :]
        for k, (slope, A) in enumerate(zip(slopes, self.precisions, strict=True)):
            own = array_like(A, x) - slope[..., :, None] * slope[..., None, :]
            total = total + shares[k][..., None, None] * own
        return total

    def expr(self, d: int) -> Expr:
        import sympy

        self.check_dimension(d)
        terms = [
            sympy.exp(sympy.Float(float(level)) - QuadraticField(A, center).expr(d))
            for level, center, A in zip(
                self.levels, self.centers, self.precisions, strict=True
            )
        ]
        return -sympy.log(sympy.Add(*terms))

    def __repr__(self) -> str:
        k, d = self.centers.shape
        return f"MixturePotential({k} Gaussian components in R^{d})"


def mixture_potential(
    components: Sequence[Gaussian], weights: Array
) -> MixturePotential:
    """-log pdf of a mixture of Gaussian measures."""
    parts = [component.whitening() for component in components]
    d = components[0].d
    log_dets = np.array([log_det for _, log_det in parts])
    levels = np.log(weights) - 0.5 * (log_dets + d * np.log(2.0 * np.pi))
    centers = np.stack([component.center for component in components])
    return MixturePotential(levels, centers, np.stack([A.T @ A for A, _ in parts]))


@dataclass(frozen=True, eq=False, repr=False)
class DensityPotential(Field):
    """V(x) = -log f(x) + log_total for a density f given as a field."""

    density: Field
    log_total: float

    @property
    def dimension(self) -> int | None:
        found: int | None = self.density.dimension
        return found

    @property
    def smooth(self) -> bool:
        return bool(self.density.smooth)

    def value(self, x: Array, t: Any = 0.0) -> Array:
        f = self.density.value(x, t)
        with np.errstate(divide="ignore"):
            return self.log_total - namespace(f).log(f)

    def gradient(self, x: Array, t: Any = 0.0) -> Array:
        return -self.density.gradient(x, t) / self.density.value(x, t)[..., None]

    def hessian(self, x: Array, t: Any = 0.0) -> Array:
        slope = self.gradient(x, t)
        curvature = self.density.hessian(x, t)
        scaled = curvature / self.density.value(x, t)[..., None, None]
        return slope[..., :, None] * slope[..., None, :] - scaled

    def expr(self, d: int) -> Expr | None:
        import sympy

        inner = self.density.expr(d)
        return None if inner is None else sympy.Float(self.log_total) - sympy.log(inner)

    def __repr__(self) -> str:
        return f"DensityPotential({self.density!r})"


def log_formula(density: Field, log_total: float) -> Field:
    """-log f + log_total as a formula where f is one, so that tails do not underflow.

    The logarithm of a product splits where all factors are known to be positive:
    -log exp(-x^4) is x^4.
    """
    if not isinstance(density, SymbolicField):
        return DensityPotential(density, log_total)
    import sympy

    from flows.symbolic import vocabulary

    logarithm = sympy.expand_log(sympy.log(density.formula))
    source = vocabulary.to_sympy(sympy.Float(log_total) - logarithm)
    source = vocabulary.rename(source, density.dimension or 1)
    named = {symbol.name for symbol in source.free_symbols}
    used = {k: v for k, v in density.parameters.items() if k in named}
    potential = SymbolicField(source, used, density.name)
    if potential.dimension != density.dimension:
        return DensityPotential(density, log_total)
    return potential
