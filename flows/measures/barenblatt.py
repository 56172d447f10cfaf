"""Self-similar solutions of the porous-medium equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.measures import cubature, quadrature
from flows.measures.base import Measure
from flows.measures.checks import (
    as_points,
    as_probabilities,
    generator,
    real_array,
    sample_size,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Barenblatt"]

Array = Any
RULE_SIZES = {2: (8, 12, 18, 27, 40, 60, 90, 135), 3: (6, 9, 14, 21, 32, 48)}


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Barenblatt(Measure):
    r"""Barenblatt profile, the source solution of d_t u = Lap u^m with m > 1.

    .. math:: U(t, x) = t^{-\alpha} (C - k |x - c|^2 t^{-2\beta})_+^{1/(m-1)},
       \quad \beta = \frac1{d(m-1) + 2}, \ \alpha = d\beta, \
       k = \frac{\beta(m-1)}{2m}.

    As a measure it is U divided by its mass; ``mass`` only sets the constant C and
    with it the radius. The equation is the Wasserstein gradient flow of
    int u^m/(m-1) dx.

    Parameters
    ----------
    m : float
        Exponent, m > 1.
    d : int
        Dimension.
    t : float
        Time, t > 0; at t = 0 the solution is a Dirac mass.
    mass : float
        Integral of U.
    center : float or (d,) array

    References
    ----------
    J. L. Vazquez, The Porous Medium Equation, Oxford 2007,
    doi:10.1093/acprof:oso/9780198569039.001.0001.

    Examples
    --------
    >>> round(Barenblatt(2.0, t=8.0).radius / Barenblatt(2.0, t=1.0).radius, 12)
    2.0
    """

    m: float
    dimension: int
    t: float
    mass: float
    center: Array

    def __init__(
        self,
        m: float,
        d: int = 1,
        t: float = 1.0,
        mass: float = 1.0,
        center: Any = 0.0,
    ) -> None:
        if isinstance(d, bool) or not isinstance(d, (int, np.integer)) or d < 1:
            raise ValueError(f"`d` must be an integer >= 1, got {d!r}.")
        m = _number(m, "m")
        if m <= 1.0:
            raise ValueError(
                f"`m` must be greater than 1, got {m:g}: m = 1 is a Gaussian, and the "
                "profiles of fast diffusion, m < 1, have no compact support."
            )
        t, mass = _number(t, "t"), _number(mass, "mass")
        for name, value in (("t", t), ("mass", mass)):
            if value <= 0.0:
                hint = "; at t = 0 it is Dirac(center)" if name == "t" else ""
                raise ValueError(f"`{name}` must be positive, got {value:g}{hint}.")
        c = real_array(center, "center")
        if c.ndim > 1 or c.size not in (1, d):
            raise ValueError(
                f"`center` has shape {c.shape}, expected a number or ({d},)."
            )
        c = np.array(np.broadcast_to(c, (d,)))
        c.setflags(write=False)
        for key, field in (("m", m), ("dimension", int(d)), ("t", t), ("mass", mass)):
            object.__setattr__(self, key, field)
        object.__setattr__(self, "center", c)

    @classmethod
    def from_scale(
        cls,
        m: float,
        s: float,
        d: int = 1,
        mass: float = 1.0,
        center: Any = 0.0,
    ) -> Barenblatt:
        """Profile s^-d G((x - center)/s), G being the profile at t = 1: t = s^(1/beta).

        In the confining potential lam abs(x)^2 / 2 the solution stays in this family.
        """
        if not s > 0:
            raise ValueError(f"`s` must be positive, got {s}.")
        return cls(m, d, float(s) ** (d * (m - 1.0) + 2.0), mass, center)

    @property
    def d(self) -> int:
        return self.dimension

    @property
    def beta(self) -> float:
        """Exponent of the radius, 1/(d(m-1) + 2)."""
        return 1.0 / (self.d * (self.m - 1.0) + 2.0)

    @property
    def alpha(self) -> float:
        """Exponent of the peak, d beta."""
        return self.d * self.beta

    @property
    def k(self) -> float:
        """Curvature beta (m-1)/2m of the pressure profile."""
        return self.beta * (self.m - 1.0) / (2.0 * self.m)

    @property
    def power(self) -> float:
        """Exponent 1/(m-1) of the profile."""
        return 1.0 / (self.m - 1.0)

    @property
    def C(self) -> float:
        """Constant of the profile, from the mass."""
        from scipy.special import gammaln

        P, half = self.power, 0.5 * self.d
        log = np.log(self.mass) + half * np.log(self.k / np.pi)
        log += gammaln(P + 1.0 + half) - gammaln(P + 1.0)
        return float(np.exp(log / (P + half)))

    @property
    def scale(self) -> float:
        """Factor t^beta by which the profile at t = 1 is dilated."""
        return float(self.t**self.beta)

    @property
    def radius(self) -> float:
        """Radius sqrt(C/k) t^beta of the support."""
        return float(np.sqrt(self.C / self.k)) * self.scale

    @property
    def second_moment(self) -> float:
        """E abs(X - center)^2 = R^2 (d/2)/(1/(m-1) + 1 + d/2)."""
        half = 0.5 * self.d
        return self.radius**2 * half / (self.power + 1.0 + half)

    @property
    def energy(self) -> float:
        """int U^m/(m-1) dx of the solution with its mass, beta m2 / (d (m-1) t).

        Here m2 = mass * second_moment.
        """
        second = self.mass * self.second_moment
        return self.beta * second / (self.t * self.d * (self.m - 1.0))

    def moments(self) -> tuple[Array, Array]:
        return self.center, np.eye(self.d) * (self.second_moment / self.d)

    def support_box(self) -> Array:
        R = self.radius
        return np.stack([self.center - R, self.center + R], axis=1)

    def box(self, mass: float) -> Array:
        """The box of the whole support, whatever ``mass`` is."""
        return self.support_box()

    def _log_peak(self) -> float:
        """Logarithm of the largest density."""
        from scipy.special import gammaln

        P, half = self.power, 0.5 * self.d
        log = gammaln(P + 1.0 + half) - gammaln(P + 1.0) - half * np.log(np.pi)
        return float(log - self.d * np.log(self.radius))

    def _profile(self, x: Array) -> Array:
        """1 - abs(x - c)^2/R^2, or 0 outside the support."""
        points = as_points(x, self.d)
        z = points - self.center[0] if self.d == 1 else points - self.center
        z = z / self.radius
        if self.d == 1:
            # The product keeps digits at the front, where 1 - z^2 cancels.
            return np.maximum((1.0 - z) * (1.0 + z), 0.0)
        r = np.sqrt(np.sum(z * z, axis=-1))
        return np.maximum((1.0 - r) * (1.0 + r), 0.0)

    def log_pdf(self, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            return self._log_peak() + self.power * np.log(self._profile(x))

    def cdf(self, x: Array) -> Array:
        return self._tail(x, 1.0)

    def survival(self, x: Array) -> Array:
        return self._tail(x, -1.0)

    def _tail(self, x: Array, sign: float) -> Array:
        from scipy.special import betainc

        self._need_line("cdf")
        depth = 0.5 + 0.5 * sign * (as_points(x, 1) - self.center[0]) / self.radius
        return betainc(self.power + 1, self.power + 1, np.clip(depth, 0.0, 1.0))

    def quantile(self, s: Array) -> Array:
        return self._inverse(as_probabilities(s), 1.0)

    def upper_quantile(self, q: Array) -> Array:
        return self._inverse(as_probabilities(q, "q"), -1.0)

    def _inverse(self, levels: Array, sign: float) -> Array:
        from scipy.special import betainc, betaincinv

        self._need_line("quantile function")
        a = self.power + 1.0
        # Nearer to the front than 1e-18 R nothing is seen, and SciPy may give NaN.
        least = float(betainc(a, a, 1e-18))
        depth = betaincinv(a, a, np.maximum(levels, least))
        depth = np.where(levels > least, depth, 0.0)
        return self.center[0] + sign * self.radius * (2.0 * depth - 1.0)

    def sample(self, n: int, rng: Any) -> Array:
        """Independent points: abs(x)^2/R^2 has the law Beta(d/2, 1/(m-1) + 1)."""
        random = generator(rng)
        n = sample_size(n)
        square = random.beta(0.5 * self.d, self.power + 1.0, size=(n, 1))
        z = random.standard_normal((n, self.d))
        z /= np.sqrt(np.sum(z * z, axis=1, keepdims=True))
        return self.center + self.radius * np.sqrt(square) * z

    def expect(self, f: Callable[[Array], Array]) -> float:
        """Expectation of f(X); see ``Measure.expect``.

        Adaptive for d = 1; Gauss-Jacobi rules in abs(x)^2 times rules on the sphere
        for d = 2, 3; for d >= 4 a rule that is exact for polynomials of degree 5 and
        refuses other functions.
        """
        if self.d == 1:
            return super().expect(f)
        if self.d <= 3:
            return cubature.converged_expectation(
                self._polar,
                f,
                RULE_SIZES[self.d],
                (lambda: self._expect_rough(f)) if self.d == 2 else None,
            )
        total = self.power + 1.0 + 0.5 * self.d
        fourth = 0.25 / (total * (total + 1.0))
        return cubature.by_symmetry(
            lambda y: quadrature.evaluate(f, self.center + self.radius * y),
            *cubature.symmetric_cubature(self.d, 0.5 / total, 3.0 * fourth, fourth),
            self,
        )

    def _expect_rough(self, f: Callable[[Array], Array]) -> float:
        """Expectation in the plane of a function with kinks, abs(x) = R cos(angle)."""
        peak = np.exp(self._log_peak()) * self.radius**2

        def weighted(u: Array) -> Array:
            r, height = np.cos(u[..., 0]), np.sin(u[..., 0])
            direction = np.stack([np.cos(u[..., 1]), np.sin(u[..., 1])], axis=-1)
            x = self.center + self.radius * r[..., None] * direction
            weight = peak * height ** (2.0 * self.power + 1.0) * r
            return weight * quadrature.evaluate(f, x)

        return cubature.plane(
            weighted, np.linspace(0.0, 0.5 * np.pi, 5), np.linspace(0.0, 2 * np.pi, 9)
        )

    def _polar(self, n: int) -> tuple[Array, Array]:
        from scipy.special import roots_jacobi

        y, w = roots_jacobi(n, self.power, 0.5 * self.d - 1.0)
        r = self.radius * np.sqrt(0.5 * (1.0 + y))
        directions, weights = cubature.sphere(self.d, n)
        points = self.center + (r[:, None, None] * directions).reshape(-1, self.d)
        return points, np.multiply.outer(w / w.sum(), weights).ravel()

    def integrate(self, g: Callable[[Array], Array]) -> float:
        """Integral of g(pdf) in polar coordinates, with abs(x) = R cos(angle)."""
        from scipy.special import gammaln

        d, R = self.d, self.radius
        log_peak = self._log_peak()
        log_sphere = np.log(2.0) + 0.5 * d * np.log(np.pi) - gammaln(0.5 * d)

        def shell(angle: Array, _: Array) -> Array:
            r, height = np.cos(angle), np.sin(angle)
            p = np.exp(log_peak) * height ** (2.0 * self.power)
            return np.exp(log_sphere) * R**d * r ** (d - 1) * height * np.asarray(g(p))

        return quadrature.adaptive(shell, np.linspace(0.0, 0.5 * np.pi, 5))

    def _resolution(self) -> float:
        return self.radius / 16.0

    def __repr__(self) -> str:
        text = f"Barenblatt(m={self.m:g}, d={self.d}, t={self.t:g}"
        if self.mass != 1.0:
            text += f", mass={self.mass:g}"
        if self.center.any():
            text += f", center={short(self.center if self.d > 1 else self.center[0])}"
        return text + ")"


def _number(value: Any, name: str) -> float:
    number = real_array(value, name)
    if number.ndim:
        raise ValueError(f"`{name}` must be one number, got shape {number.shape}.")
    return float(number)
