"""Exact measures solve their equations: residuals, moments, dissipation, semigroups."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm

import flows as fl
from flows import problems
from flows.energies import Interaction, Potential

LAMBDA = np.array([[2.0, 0.6], [0.6, 1.0]])
COUPLING = np.array([[0.5, -0.4], [-0.4, 1.5]])
COVARIANCE = np.array([[0.5, 0.3], [0.3, 0.4]])
SINGULAR = np.array([[1.0, 1.0], [1.0, 1.0]])
TURNED = np.array([[1.5, 0.2, 0.0], [0.2, 1.0, -0.3], [0.0, -0.3, 0.7]])


def pdf(law, x):
    return law.pdf(x[..., 0]) if law.d == 1 else law.pdf(x)


def partial(f, x, axis, h, order):
    """Central difference of order 4 for the first or second derivative."""
    e = h * np.eye(x.shape[-1])[axis]
    one, two = (f(x + e), f(x - e)), (f(x + 2 * e), f(x - 2 * e))
    if order == 1:
        return (8 * (one[0] - one[1]) - (two[0] - two[1])) / (12 * h)
    return (16 * sum(one) - sum(two) - 30 * f(x)) / (12 * h * h)


def forces(p, law, x):
    """Gradient and Laplacian of V + W * rho for a quadratic W."""
    g, curvature = np.zeros_like(x), np.zeros(x.shape[:-1])
    for term in p.energy.terms:
        if isinstance(term, Potential):
            y = x
        elif isinstance(term, Interaction):
            y = x - law.moments()[0]
        else:
            continue
        g = g + term.gradient_at(y)
        curvature = curvature + np.trace(term.hessian_at(y), axis1=-2, axis2=-1)
    return g, curvature


def residual(p, t, x, h=4e-3):
    """d_t rho - Lap P(rho) - div(rho grad(V + W * rho)), and the size of d_t rho."""
    law = p.exact(t)
    rho = pdf(law, x)
    k = h * (p.t[1] - p.t[0])
    early, late = (pdf(p.exact(t + s * k), x) for s in (-1, 1))
    first, last = (pdf(p.exact(t + s * k), x) for s in (-2, 2))
    rate = (8 * (late - early) - (last - first)) / (12 * k)
    density = [term for term in p.energy.terms if hasattr(term, "pressure_at")]

    def pressure(y):
        r = pdf(law, y)
        return sum(term.pressure_at(r) for term in density) if density else 0.0 * r

    g, curvature = forces(p, law, x)
    right = rho * curvature
    for axis in range(law.d):
        scale = h * float(np.sqrt(law.moments()[1][axis, axis]))
        right = right + partial(pressure, x, axis, scale, 2)
        slope = partial(lambda y: pdf(law, y), x, axis, scale, 1)
        right = right + slope * g[..., axis]
    return np.abs(rate - right), np.abs(rate).max()


EQUATIONS = {
    "heat": lambda: problems.heat(temperature=0.7),
    "heat 2": lambda: problems.heat(2, mean=[1.0, -1.0], std=COVARIANCE),
    "ou": problems.ornstein_uhlenbeck,
    "ou center": lambda: problems.ornstein_uhlenbeck(
        0.2, 0.8, rate=2.0, temperature=0.3, center=-0.4
    ),
    "ou 2": lambda: problems.ornstein_uhlenbeck(
        [1.0, -1.0], COVARIANCE, rate=LAMBDA, temperature=0.7, center=[0.5, 0.0]
    ),
    "ou 3": lambda: problems.ornstein_uhlenbeck(
        [1.0, 0.0, -1.0], [0.5, 0.7, 0.9], rate=TURNED
    ),
    "ou singular": lambda: problems.ornstein_uhlenbeck([1.0, 0.0], 0.5, rate=SINGULAR),
    "ou unstable": lambda: problems.ornstein_uhlenbeck(0.3, 0.5, rate=-0.5),
    "ou cold": lambda: problems.ornstein_uhlenbeck(1.0, 0.5, temperature=0.0),
    "mixture": lambda: problems.ornstein_uhlenbeck_mixture(rate=1.3, temperature=0.6),
    "mixture 2": lambda: problems.ornstein_uhlenbeck_mixture(
        [[1.0, 0.0], [-1.0, 0.5]], [0.6, COVARIANCE], rate=LAMBDA
    ),
    "mckean": lambda: problems.mckean_vlasov_quadratic(coupling=2.0, rate=0.5),
    "mckean free": lambda: problems.mckean_vlasov_quadratic(rate=0.0),
    "mckean 2": lambda: problems.mckean_vlasov_quadratic(
        [1.0, -1.0], COVARIANCE, rate=LAMBDA, coupling=COUPLING, center=[0.5, 0.0]
    ),
    "mckean mixture": lambda: problems.mckean_vlasov_mixture(coupling=0.7),
    "mckean mixture 2": lambda: problems.mckean_vlasov_mixture(
        [[1.0, 0.0], [-1.0, 0.5]], [0.6, COVARIANCE], rate=LAMBDA, coupling=COUPLING
    ),
    "aggregation": lambda: problems.aggregation_quadratic(
        fl.Mixture([fl.Gaussian(-1.0, 0.5), fl.Gaussian(1.0, 0.8)]), strength=1.5
    ),
    "aggregation 2": lambda: problems.aggregation_quadratic(
        fl.Gaussian([1.0, 2.0], COVARIANCE)
    ),
    "reflected": lambda: problems.reflected_heat(0.2, 0.2, t=(0.0, 0.05)),
    "reflected late": lambda: problems.reflected_heat(0.2, 0.2, t=(0.1, 0.3)),
    "reflected 2": lambda: problems.reflected_heat(
        [0.2, 1.0], [0.2, 0.3], box=((0, 1), (0.5, 2)), temperature=0.5
    ),
    "reflected modes": lambda: problems.reflected_heat(
        amplitudes=[0.5, -0.3], box=(-1, 1)
    ),
    "periodic": lambda: problems.periodic_heat(-0.9, 0.3, box=(-1, 2)),
    "periodic late": lambda: problems.periodic_heat(0.9, 0.3, t=(0.05, 0.2)),
    "periodic modes": lambda: problems.periodic_heat(0.4, amplitudes=[0.5, 0.2]),
    "metastable": lambda: problems.metastable(T=0.2),
    "metastable tilted": lambda: problems.metastable("x**4/4 - x**2/2 + x/5", 0.4),
    "gibbs": lambda: problems.gibbs(T=0.3),
    "gibbs 2": lambda: problems.gibbs("x**4/4 + x*y/2 + y**2", d=2, T=0.7),
    "barenblatt": problems.barenblatt,
    "barenblatt 3": lambda: problems.barenblatt(3.0, 3, t=(0.2, 1.0)),
    "barenblatt 1.4": lambda: problems.barenblatt(1.4, 2, center=[1.0, 0.5]),
    "confined": problems.confined_barenblatt,
    "confined 2": lambda: problems.confined_barenblatt(
        3.0, 2, 2.0, mean=[0.3, 0.0], center=[0.0, -0.2], radius=0.8
    ),
}


@pytest.mark.parametrize("make", EQUATIONS.values(), ids=EQUATIONS.keys())
def test_density_solves_the_partial_differential_equation(make):
    p = make()
    t = 0.6 * p.t[0] + 0.4 * p.t[1]
    law = p.exact(t)
    if isinstance(law, fl.Barenblatt):
        # Inside the support; the profile has a kink at the front.
        y = np.random.default_rng(1).normal(size=(40, law.d))
        y /= np.linalg.norm(y, axis=1, keepdims=True)
        x = law.center + 0.8 * law.radius * np.linspace(0.05, 1, 40)[:, None] * y
    else:
        x = law.sample(40, rng=1)
    if p.boundary is not None:
        lo, hi = np.array(p.box).T
        x = np.clip(x, lo + 0.05 * (hi - lo), hi - 0.05 * (hi - lo))
    gap, size = residual(p, t, x)
    scale = size if size > 1e-9 else float(pdf(law, x).max())
    assert gap.max() < 2e-6 * scale


def test_residual_sees_a_wrong_constant():
    right = problems.ornstein_uhlenbeck()
    wrong = problems.ornstein_uhlenbeck(temperature=1.001)
    mixed = fl.Problem("mixed", right.energy, wrong.exact, right.t)
    gap, size = residual(mixed, 0.4, np.linspace(-2, 2, 9)[:, None])
    assert gap.max() > 1e-4 * size


EXTRA = {
    "repulsion": lambda: problems.attraction_repulsion(
        fl.Gaussian(1.0, 0.5), attraction=2.0, repulsion=0.7
    )
}


LINES = [
    name
    for name in (*EQUATIONS, *EXTRA)
    if not name.endswith((" 2", " 3")) and name not in ("ou singular", "barenblatt 1.4")
]


@pytest.mark.parametrize("name", LINES)
def test_line_laws_have_mass_one_and_consistent_functions(name):
    p = {**EQUATIONS, **EXTRA}[name]()
    law = p.exact(0.5 * (p.t[0] + p.t[1]))
    box = law.box(1 - 1e-13)[0]
    edges = np.linspace(*box, 41)
    mass = quad(law.pdf, *box, epsabs=1e-12, limit=400, points=edges[1:-1:4])[0]
    assert mass == pytest.approx(1.0, abs=1e-9)
    parts = [quad(law.pdf, a, b, epsabs=1e-12)[0] for a, b in pairwise(edges)]
    assert np.allclose(law.cell_masses(edges), parts, atol=1e-9)
    s = np.array([1e-6, 0.1, 0.5, 0.77, 1 - 1e-6])
    assert np.allclose(law.cdf(law.quantile(s)), s, rtol=1e-9)
    assert np.allclose(law.survival(law.upper_quantile(s)), s, rtol=1e-9)
    mean = quad(lambda y: y * law.pdf(y), *box, limit=400, points=edges[1:-1:4])[0]
    assert law.mean == pytest.approx(mean, abs=1e-8)
    second = law.expect(lambda x: (x[..., 0] - law.mean) ** 2)
    assert law.cov == pytest.approx(second, rel=1e-8)
    points = law.sample(4000, rng=2)
    assert points.shape == (4000, 1)
    # 5 standard errors of a mean of 4000 points.
    assert abs(points.mean() - law.mean) < 5 * math.sqrt(law.cov / 4000)


@pytest.mark.parametrize(
    "name",
    ["ou", "mixture", "metastable", "reflected", "reflected modes", "periodic"],
)
def test_energy_falls_by_the_dissipation(name):
    p = EQUATIONS[name]()
    t, k = 0.5 * (p.t[0] + p.t[1]), 1e-3 * (p.t[1] - p.t[0])
    F = p.exact_energy
    fall = (8 * (F(t + k) - F(t - k)) - (F(t + 2 * k) - F(t - 2 * k))) / (12 * k)
    law = p.exact(t)
    T = p.energy.terms[0].temperature

    def speed(x):
        y = np.clip(x, *law.support_box()[0]) if p.boundary else x
        h = 1e-4 * math.sqrt(law.cov)
        inside = np.clip(y, p.box[0][0] + h, p.box[0][1] - h)
        up, down = law.log_pdf(inside[..., 0] + h), law.log_pdf(inside[..., 0] - h)
        g, _ = forces(p, law, inside)
        return (T * (up - down) / (2 * h) + g[..., 0]) ** 2

    edges = np.linspace(*law.box(1 - 1e-11)[0], 2001)
    x, w = np.polynomial.legendre.leggauss(4)
    nodes = (edges[:-1, None] + np.diff(edges)[:, None] * (x + 1) / 2).ravel()
    weights = (np.diff(edges)[:, None] * w / 2).ravel()
    spent = float(weights @ (law.pdf(nodes) * speed(nodes[:, None])))
    assert fall == pytest.approx(-spent, rel=2e-4)


@pytest.mark.parametrize(("m", "d"), [(2.0, 1), (3.0, 2), (1.5, 3)])
def test_barenblatt_moves_with_speed_beta_x_over_t(m, d):
    p = problems.barenblatt(m, d)
    beta, t, k = p.constants["beta"], 0.7, 1e-3
    F = p.exact_energy
    fall = (8 * (F(t + k) - F(t - k)) - (F(t + 2 * k) - F(t - 2 * k))) / (12 * k)
    second = np.trace(p.exact(t).moments()[1])
    assert fall == pytest.approx(-(beta**2) * second / t**2, rel=1e-8)
    radii = [p.exact(s).radius for s in (1.0, 32.0)]
    assert radii[0] == pytest.approx(p.constants["radius"])
    assert math.log2(radii[1] / radii[0]) / 5 == pytest.approx(beta, rel=1e-12)
    k, C = p.constants["k"], p.constants["C"]
    assert C / k == pytest.approx(radii[0] ** 2, rel=1e-12)
    assert math.isinf(p.exact_energy(0.0))
    assert isinstance(p.exact(0.0), fl.Dirac)


def test_confined_barenblatt_is_stationary_at_its_limit():
    for m, d, lam in ((2.0, 1, 1.0), (3.0, 2, 0.4), (1.5, 3, 2.0)):
        rest = problems.confined_barenblatt(m, d, lam).limit
        again = problems.confined_barenblatt(m, d, lam, radius=rest.radius, mean=0.0)
        assert again.exact(3.0).radius == pytest.approx(rest.radius, rel=1e-12)
        # m/(m-1) u^(m-1) + lam r^2/2 is constant on the support.
        r = np.array([0.0, 0.5, 0.9]) * rest.radius
        x = r[:, None] * np.eye(d)[0]
        level = m / (m - 1) * pdf(rest, x) ** (m - 1) + 0.5 * lam * r**2
        assert np.ptp(level) < 1e-12 * level[0]


def test_confined_barenblatt_may_start_from_a_point():
    p = problems.confined_barenblatt(radius=0.0, mean=0.3)
    assert isinstance(p.exact(0.0), fl.Dirac)
    assert math.isinf(p.exact_energy(0.0))
    assert p.exact(1e-3).radius > 0


def test_rate_of_the_confined_flow_is_reached_by_a_translation():
    limit = problems.confined_barenblatt().limit
    p = problems.confined_barenblatt(radius=limit.radius, mean=0.5)
    end = p.energy(limit)
    ratio = (p.exact_energy(1.5) - end) / (p.exact_energy(0.5) - end)
    assert ratio == pytest.approx(math.exp(-p.rate), rel=1e-9)


@pytest.mark.parametrize("rate", [LAMBDA, SINGULAR, -LAMBDA, np.zeros((2, 2))])
def test_gaussian_moments_solve_their_equations(rate):
    m0, S0, T = np.array([1.0, -1.0]), COVARIANCE, 0.7
    p = problems.ornstein_uhlenbeck(m0, S0, rate=rate, temperature=T, center=[0.5, 0])

    def slope(t, y):
        m, S = y[:2], y[2:].reshape(2, 2)
        dS = 2 * T * np.eye(2) - rate @ S - S @ rate
        return np.concatenate([-rate @ (m - [0.5, 0]), dS.ravel()])

    y0 = np.concatenate([m0, S0.ravel()])
    y = solve_ivp(slope, (0, 1), y0, rtol=1e-12, atol=1e-13, method="DOP853").y[:, -1]
    law = p.exact(1.0)
    assert np.allclose(law.mean, y[:2], rtol=1e-10)
    assert np.allclose(law.cov, y[2:].reshape(2, 2), rtol=1e-10)
    assert np.allclose(law.mean, [0.5, 0] + expm(-rate) @ (m0 - [0.5, 0]), rtol=1e-12)


def test_mckean_moments_solve_their_equations_without_commuting():
    m0, T, a = np.array([1.0, -1.0]), 0.7, np.array([0.5, 0.0])
    p = problems.mckean_vlasov_quadratic(
        m0, COVARIANCE, rate=LAMBDA, coupling=COUPLING, temperature=T, center=a
    )
    B = LAMBDA + COUPLING
    assert np.abs(LAMBDA @ COUPLING - COUPLING @ LAMBDA).max() > 0.1

    def slope(t, y):
        S = y[2:].reshape(2, 2)
        dS = 2 * T * np.eye(2) - B @ S - S @ B
        return np.concatenate([-LAMBDA @ (y[:2] - a), dS.ravel()])

    y0 = np.concatenate([m0, COVARIANCE.ravel()])
    y = solve_ivp(slope, (0, 1), y0, rtol=1e-12, atol=1e-13, method="DOP853").y[:, -1]
    assert np.allclose(p.exact(1.0).mean, y[:2], rtol=1e-10)
    assert np.allclose(p.exact(1.0).cov, y[2:].reshape(2, 2), rtol=1e-10)


def test_limits_of_the_gaussian_flows():
    p = problems.ornstein_uhlenbeck([1, 0], 0.5, rate=LAMBDA, temperature=0.3, center=2)
    assert np.allclose(p.limit.cov, 0.3 * np.linalg.inv(LAMBDA), rtol=1e-13)
    assert np.allclose(p.limit.mean, [2, 2])
    assert p.rate == pytest.approx(2 * np.linalg.eigvalsh(LAMBDA)[0])
    free = problems.mckean_vlasov_quadratic(
        [1.0, 2.0], 0.5, rate=0.0, coupling=COUPLING
    )
    assert np.allclose(free.limit.mean, [1.0, 2.0])
    assert np.allclose(free.limit.cov, np.linalg.inv(COUPLING))
    assert problems.ornstein_uhlenbeck(rate=0.0).limit is None
    assert problems.mckean_vlasov_quadratic(rate=1.0, coupling=-1.5).limit is None
    assert isinstance(problems.ornstein_uhlenbeck(temperature=0.0).limit, fl.Dirac)


def test_rate_of_mckean_vlasov_is_that_of_the_slower_part():
    apart = problems.mckean_vlasov_quadratic(rate=1.0, coupling=-0.4)
    assert apart.rate == pytest.approx(1.2)
    together = problems.mckean_vlasov_quadratic(rate=1.0, coupling=3.0)
    assert together.rate == pytest.approx(2.0)
    fixed = problems.mckean_vlasov_quadratic(rate=0.0, coupling=3.0)
    assert fixed.rate == pytest.approx(6.0)
    # A translation of the stationary law decays exactly at the rate of the mean.
    law = together.limit
    p = problems.mckean_vlasov_quadratic(1.0, law.std, coupling=3.0)
    gap = [p.exact_energy(t) - p.energy(law) for t in (0.0, 1.0)]
    assert gap[1] / gap[0] == pytest.approx(math.exp(-2.0), rel=1e-10)
    # Very wide laws come close to the rate of the fluctuations.
    p = problems.mckean_vlasov_quadratic(0.0, 1e4, coupling=-0.4)
    gap = [p.exact_energy(t) - p.energy(p.limit) for t in (0.0, 1.0)]
    assert gap[1] / gap[0] == pytest.approx(math.exp(-p.rate), rel=1e-5)


def test_ornstein_uhlenbeck_meets_the_textbook_numbers():
    p = problems.ornstein_uhlenbeck(mean=1.5, std=0.4)
    law = p.exact(1.2)
    assert law.mean == pytest.approx(1.5 * math.exp(-1.2), rel=1e-14)
    assert law.cov == pytest.approx(1 + (0.16 - 1) * math.exp(-2.4), rel=1e-14)
    # A translation decays exactly at the rate.
    shifted = problems.ornstein_uhlenbeck(2.0, 1.0)
    F = shifted.exact_energy
    end = shifted.energy(shifted.limit)
    assert (F(1.0) - end) / (F(0.0) - end) == pytest.approx(math.exp(-2.0), rel=1e-12)


def test_a_scalar_start_takes_the_dimension_of_the_rate():
    p = problems.ornstein_uhlenbeck(1.0, 0.5, rate=[1.0, 2.0])
    assert np.allclose(p.exact(0.0).mean, [1.0, 1.0])
    assert np.allclose(p.exact(1.0).mean, np.exp([-1.0, -2.0]))


def same_law(one, two):
    assert type(one) is type(two)
    for a, b in zip(one.moments(), two.moments(), strict=True):
        assert np.allclose(a, b, rtol=1e-12, atol=1e-13)
    if one.d == 1:
        s = np.linspace(0.01, 0.99, 25)
        assert np.allclose(one.quantile(s), two.quantile(s), rtol=1e-10, atol=1e-11)


def test_flows_are_semigroups():
    s, t = 0.3, 0.5
    ou = problems.ornstein_uhlenbeck([1, 0], COVARIANCE, rate=LAMBDA, temperature=0.3)
    law = ou.exact(s)
    again = problems.ornstein_uhlenbeck(law.mean, law.cov, rate=LAMBDA, temperature=0.3)
    same_law(again.exact(t), ou.exact(s + t))

    mixture = problems.mckean_vlasov_mixture(coupling=0.7)
    law = mixture.exact(s)
    again = problems.mckean_vlasov_mixture(
        [c.mean for c in law.components],
        [c.std for c in law.components],
        law.weights,
        coupling=0.7,
    )
    same_law(again.exact(t), mixture.exact(s + t))

    well = problems.confined_barenblatt(3.0, 2, 0.7, mean=[0.3, 0.1])
    law = well.exact(s)
    again = problems.confined_barenblatt(3.0, 2, 0.7, radius=law.radius, mean=law.mean)
    same_law(again.exact(t), well.exact(s + t))

    walls = problems.reflected_heat(0.2, 0.1, temperature=0.05)
    again = problems.reflected_heat(0.2, math.sqrt(0.01 + 0.1 * s), temperature=0.05)
    same_law(again.exact(t), walls.exact(s + t))

    for start in (fl.Uniform(-1.0, 0.5), fl.Histogram([0, 1, 2, 4], [1, 0, 2])):
        apart = problems.attraction_repulsion(start, attraction=0.5, repulsion=0.8)
        again = problems.attraction_repulsion(
            apart.exact(s), attraction=0.5, repulsion=0.8
        )
        same_law(again.exact(t), apart.exact(s + t))


def test_images_and_waves_agree_where_they_meet():
    """At std = period/4 the two series change places."""
    for factory, edge in (
        (problems.reflected_heat, 0.5),
        (problems.periodic_heat, 0.25),
    ):
        laws = [factory(0.3, edge * (1 + e)).exact(0.0) for e in (-1e-12, 1e-12)]
        assert type(laws[0]) is not type(laws[1])
        x = np.linspace(0, 1, 33)
        for f in ("pdf", "cdf", "survival"):
            values = [getattr(law, f)(x) for law in laws]
            assert np.allclose(*values, rtol=1e-10, atol=1e-14)


def test_reflected_heat_has_no_flux_at_its_walls_and_keeps_relative_tails():
    p = problems.reflected_heat(0.2, 0.02, temperature=1.0)
    for t in (0.0, 1e-3, 0.2):
        law = p.exact(t)
        h = 1e-5
        for wall, inward in ((0.0, h), (1.0, -h)):
            values = law.pdf(wall + inward * np.arange(4))
            one_sided = (-11 * values[0] + 18 * values[1] - 9 * values[2]) / 6
            one_sided += values[3] / 3
            assert abs(one_sided / h) < 1e-3 * max(values[0], 1e-300)
    # 1 - cdf would be 0 here.
    law = p.exact(0.0)
    tail = 0.5 * math.erfc(0.3 / 0.02 / math.sqrt(2))
    assert law.survival(0.5) == pytest.approx(tail, rel=1e-12)
    assert law.upper_quantile(tail) == pytest.approx(0.5, rel=1e-9)


def test_folded_gaussian_agrees_with_its_cosine_series():
    p = problems.reflected_heat(0.35, 0.1, box=(0.0, 2.0), temperature=0.5)
    t, x = 0.02, np.linspace(0, 2, 21)
    k = np.arange(1, 200)
    a = 2 * np.exp(-0.5 * (0.01 + 2 * 0.5 * t) * (k * math.pi / 2) ** 2)
    a = a * np.cos(k * math.pi * 0.35 / 2)
    series = (1 + np.cos(np.outer(x, k) * math.pi / 2) @ a) / 2
    assert np.allclose(p.exact(t).pdf(x), series, atol=1e-13)


def test_a_single_mode_decays_at_the_gap():
    for factory in (problems.reflected_heat, problems.periodic_heat):
        p = factory(amplitudes=[1e-4], box=(0, 2), temperature=0.7)
        heights = [p.exact(t).pdf(0.0) - 0.5 for t in (0.0, 0.3)]
        expected = math.exp(-0.3 * p.constants["gap"])
        assert heights[1] / heights[0] == pytest.approx(expected, rel=1e-10)
        gaps = [p.exact_energy(t) - p.constants["minimum"] for t in (0.0, 0.3)]
        assert gaps[1] / gaps[0] == pytest.approx(math.exp(-0.3 * p.rate), rel=1e-4)


def test_heat_from_a_point_between_walls():
    p = problems.reflected_heat([0.3, 0.5], 0.0, box=((0, 1), (0, 2)), t=(0.01, 0.1))
    assert isinstance(p.exact(0.0), fl.Dirac)
    assert math.isinf(p.exact_energy(0.0))
    law = p.exact(0.05)
    edges = (np.linspace(0, 1, 6), np.linspace(0, 2, 5))
    assert law.cell_masses(edges).sum() == pytest.approx(1.0, abs=1e-14)
    inside = law.expect(lambda x: x[..., 0] * x[..., 1])
    assert inside == pytest.approx(np.prod(law.mean), rel=1e-10)
    assert law.sample(50, rng=0).shape == (50, 2)
    thread = problems.reflected_heat([0.3, 0.5], [0.0, 0.2], box=((0, 1), (0, 2)))
    assert not thread.exact(0.0).has_density
    assert math.isinf(thread.exact_energy(0.0))


def test_three_dimensional_box_is_a_product():
    p = problems.periodic_heat([0.1, 0.2, 0.3], 0.2, box=[(0, 1)] * 3)
    assert p.spaces == ()
    law = p.exact(0.01)
    x = np.array([[0.2, 0.9, 0.4]])
    parts = [
        problems.periodic_heat(m, 0.2).exact(0.01).pdf(y)
        for m, y in zip((0.1, 0.2, 0.3), x[0], strict=True)
    ]
    assert law.pdf(x)[0] == pytest.approx(np.prod(parts), rel=1e-13)
    assert p.energy(law) == pytest.approx(p.exact_energy(0.01), rel=1e-6, abs=1e-8)


TABLE = {
    # Spectral values of x^4/4 - x^2/2 to the digits shown.
    1.0: (0.792088426578, 2e-12),
    0.5: (0.4229446453975, 5e-12),
    0.2: (0.134777983748, 1e-11),
    0.1: (0.0335452873085, 1e-10),
    0.05: (0.002776140636, 5e-10),
}


@pytest.mark.parametrize("T", TABLE)
def test_spectral_gap_of_the_double_well(T):
    gap, tolerance = TABLE[T]
    assert problems.spectral_gap("x**4/4 - x**2/2", T) == pytest.approx(
        gap, rel=tolerance
    )


def test_spectral_gap_agrees_with_a_schrodinger_operator():
    """Second lowest level of -T u'' + (V'^2/4T - V''/2) u in a sine basis."""
    T, L, n = 0.5, 5.0, 160
    x = np.linspace(-L, L, 2001)[1:-1]
    k = np.arange(1, n + 1) * math.pi / (2 * L)
    basis = np.sin((x[:, None] + L) * k) / math.sqrt(L)
    V1 = 4 * x**3 - x + 0.3
    V2 = 12 * x**2 - 1
    barrier = V1**2 / (4 * T) - V2 / 2
    matrix = T * np.diag(k**2) + (basis.T * barrier) @ basis * (2 * L / 2000)
    level = np.linalg.eigvalsh(matrix)[1]
    gap = problems.spectral_gap("x**4 - x**2/2 + 0.3*x", T)
    assert gap == pytest.approx(level, rel=1e-9)


def test_spectral_gap_in_closed_form():
    # Quadratic wells: the curvature, at every temperature and place.
    for T in (0.01, 1.0, 50.0):
        assert problems.spectral_gap("3*(x - 5)**2/2", T) == pytest.approx(3, rel=1e-11)
    # Walls without potential: T (pi/L)^2.
    flat = problems.spectral_gap(0.0, 2.0, box=(-1, 2))
    assert flat == pytest.approx(2 * (math.pi / 3) ** 2, rel=1e-12)
    # A constant slope c between walls: T (pi/L)^2 + c^2/4T.
    slope = problems.spectral_gap("3*x", 0.5, box=(0, 2))
    assert slope == pytest.approx(0.5 * (math.pi / 2) ** 2 + 9 / 2, rel=1e-10)


def test_spectral_gap_approaches_eyring_kramers_from_below():
    """(sqrt(2)/pi) e^(-1/4T) (1 - O(T)), with full relative accuracy at 1e-109."""
    ratios = [
        problems.spectral_gap("x**4/4 - x**2/2", T)
        * math.pi
        / math.sqrt(2)
        * math.exp(1 / (4 * T))
        for T in (0.02, 0.01, 0.005, 0.001)
    ]
    errors = 1 - np.array(ratios)
    assert (errors > 0).all()
    assert errors[-1] < 3e-3
    assert np.allclose(errors[1:] / errors[:-1], [0.5, 0.5, 0.2], rtol=0.1)


def test_metastable_law_leaks_at_the_gap():
    p = problems.metastable(T=0.1, amplitude=-0.7)
    gap = p.constants["gap"]
    times = np.array([0.0, 0.7, 2.0]) / gap
    right = np.array([p.exact(t).survival(0.0) for t in times]) - 0.5
    assert right[0] < -0.2
    assert np.allclose(right / right[0], np.exp(-gap * times), rtol=1e-9)
    chi2 = quad(
        lambda x: (p.exact(times[1]).pdf(x) / p.limit.pdf(x) - 1) ** 2 * p.limit.pdf(x),
        -2.5,
        2.5,
        points=[-1, 0, 1],
        limit=200,
    )[0]
    expected = p.constants["chi2"] * math.exp(-2 * gap * times[1])
    assert chi2 == pytest.approx(expected, rel=1e-8)


def test_metastable_between_walls_is_a_cosine_mode():
    p = problems.metastable(0.0, 0.5, amplitude=0.8, box=(0, 2))
    q = problems.reflected_heat(amplitudes=[-0.8], box=(0, 2), temperature=0.5)
    x = np.linspace(0, 2, 9)
    assert np.allclose(p.exact(0.3).pdf(x), q.exact(0.3).pdf(x), rtol=1e-10)
    assert p.grid(20).boundary == ("no-flux",)


def test_rate_of_the_metastable_law_is_reached_in_the_end():
    for V in ("x**4/4 - x**2/2", "x**4/4 - x**2/2 + x/5"):
        p = problems.metastable(V, 0.4)
        t = 6.0 / p.constants["gap"]
        F = [p.exact_energy(s) - p.constants["free_energy"] for s in (t, t * 1.1)]
        rate = math.log(F[0] / F[1]) / (0.1 * t)
        assert rate == pytest.approx(2 * p.constants["gap"], rel=5e-3)


def test_gibbs_state_of_a_quartic_well_has_its_known_mass():
    """Z = (pi/2) sqrt(b/2a) e^u (I_-1/4(u) + I_1/4(u)), u = b^2/(8aT)."""
    from scipy.special import iv

    a, b, T = 0.25, 0.5, 0.3
    u = b * b / (8 * a * T)
    Z = (
        math.pi
        / 2
        * math.sqrt(b / (2 * a))
        * math.exp(u)
        * (iv(-0.25, u) + iv(0.25, u))
    )
    p = problems.gibbs("x**4/4 - x**2/2", T)
    assert p.constants["free_energy"] == pytest.approx(-T * math.log(Z), rel=1e-11)
    lifted = problems.gibbs("x**4/4 - x**2/2 + 1000", T)
    assert lifted.constants["free_energy"] == pytest.approx(
        1000 - T * math.log(Z), rel=1e-13
    )
    shift = problems.gibbs("(x - 40)**2/2", 0.01).constants["free_energy"]
    assert shift == pytest.approx(-0.005 * math.log(2 * math.pi * 0.01), rel=1e-11)


def test_gibbs_takes_callables_and_boxes():
    p = problems.gibbs(lambda x: np.sum(x**2, axis=-1) / 2, 1.0, d=2)
    assert np.allclose(p.exact(0.3).cov, np.eye(2), atol=1e-9)
    assert p.constants["free_energy"] == pytest.approx(-math.log(2 * math.pi), rel=1e-9)
    walls = problems.gibbs("x + y", 0.5, box=((0, 1), (0, 2)))
    Z = 0.25 * (1 - math.exp(-2)) * (1 - math.exp(-4))
    assert walls.constants["free_energy"] == pytest.approx(-0.5 * math.log(Z), rel=1e-9)
    assert walls.spaces == ("Grid",)
    radial = problems.gibbs("r**2", 1.0, d=3)
    assert radial.exact(0.0).d == 3


STARTS = {
    "uniform": fl.Uniform(-0.5, 1.0),
    "dirac": fl.Dirac(0.3),
    "gaussian": fl.Gaussian(1.0, 0.5),
    "mixture": fl.Mixture([fl.Gaussian(-2.0, 0.3), fl.Gaussian(1.0, 0.6)]),
    "histogram": fl.Histogram([0, 1, 2, 4], [1, 0, 2]),
    "empirical": fl.Empirical([0.0, 1.0, 1.0, 3.0]),
    "barenblatt": fl.Barenblatt(2.0),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_attraction_repulsion_has_the_exact_quantile_map(start):
    q, c, t = 1.5, 0.8, 0.6
    p = problems.attraction_repulsion(start, attraction=q, repulsion=c)
    law = p.exact(t)
    s = (np.arange(200) + 0.5) / 200
    decay = math.exp(-q * t)
    X = start.mean + decay * (start.quantile(s) - start.mean)
    X = X + c * (1 - decay) / q * (2 * s - 1)
    assert np.allclose(law.quantile(s), X, atol=1e-12)
    assert np.allclose(law.cdf(X), s, atol=1e-12)
    h = 1e-6
    inside = law.pdf(X) > 0
    slope = (law.cdf(X + h) - law.cdf(X - h)) / (2 * h)
    smooth = np.abs(slope - law.pdf(X)) < 1e-4 * np.maximum(slope, 1.0)
    # Jumps of a piecewise constant density may sit at single levels.
    assert smooth.mean() > 0.97
    assert inside.all()
    # Pairs of a law with a near gap are integrated to six digits only.
    tolerance = 1e-5 if isinstance(start, fl.Mixture) else 1e-9
    assert p.energy(law) == pytest.approx(p.exact_energy(t), rel=tolerance, abs=1e-11)
    end = -(c**2) / (6 * q)
    gap = [p.exact_energy(x) - end for x in (0.2, 0.7)]
    assert gap[1] / gap[0] == pytest.approx(math.exp(-0.5 * p.rate), rel=1e-8)


def test_attraction_repulsion_from_a_block_and_for_ever():
    p = problems.attraction_repulsion(fl.Uniform(0.5, 1.5))
    # R = 1 + (R0 - 1) e^-t about the mean 1.
    half = 1 + (0.5 - 1) * math.exp(-0.7)
    assert np.allclose(p.exact(0.7).support, (1 - half, 1 + half), rtol=1e-14)
    assert np.allclose(p.limit.support, (0.0, 2.0))
    free = problems.attraction_repulsion(fl.Dirac(0.0), attraction=0.0)
    # A point opens into a block of density 1/(2t).
    assert free.exact(3.0).pdf(0.5) == pytest.approx(1 / 6, rel=1e-14)
    assert free.limit is None
    assert free.rate is None
    calm = problems.attraction_repulsion(fl.Gaussian(1.0, 0.5), repulsion=0.0)
    assert calm.exact(1.0).std == pytest.approx(0.5 * math.exp(-1.0))
    assert calm.limit.mean == 1.0


def particle_velocity(p, x):
    total = np.zeros_like(x)
    for i in range(len(x)):
        z = x[i] - np.delete(x, i, axis=0)
        for term in p.energy.terms:
            total[i] -= term.gradient_at(z).sum(axis=0) / len(x)
    return total


@pytest.mark.parametrize("n", [1, 2, 7])
def test_particles_follow_their_exact_paths(n):
    x0 = np.random.default_rng(n).normal(size=(n, 1)).cumsum(axis=0)[::-1]
    cases = [
        problems.attraction_repulsion(x0, attraction=0.7, repulsion=1.3),
        problems.aggregation_quadratic(x0, strength=0.8),
        problems.aggregation_quadratic(np.hstack([x0, x0**2]), strength=-0.3),
    ]
    for p in cases:
        t, h = 0.6, 1e-3
        x = p.exact(t)
        rate = (8 * (p.exact(t + h) - p.exact(t - h))) / (12 * h)
        rate -= (p.exact(t + 2 * h) - p.exact(t - 2 * h)) / (12 * h)
        assert np.allclose(rate, particle_velocity(p, x), atol=1e-9)
        empirical = p.energy(fl.Empirical(x))
        assert empirical == pytest.approx(p.exact_energy(t), rel=1e-12, abs=1e-13)
        assert np.array_equal(p.initial, x0) or p.initial.shape[1] == 2
        if p.limit is not None:
            assert np.allclose(p.exact(60.0), p.limit, atol=1e-12)


AGGREGATED = {
    "gaussian": fl.Gaussian(1.0, 0.5),
    "gaussian 2": fl.Gaussian([1.0, 2.0], COVARIANCE),
    "uniform": fl.Uniform([0.0, 1.0], [1.0, 3.0]),
    "dirac": fl.Dirac([1.0, 2.0]),
    "empirical": fl.Empirical([[0.0, 1.0], [2.0, 2.0], [5.0, 0.0]], [0.2, 0.3, 0.5]),
    "histogram": fl.Histogram([0, 1, 2, 4], [1, 0, 2]),
    "mixture": fl.Mixture([fl.Gaussian(-2.0, 0.3), fl.Gaussian(1.0, 0.6)]),
    "barenblatt": fl.Barenblatt(2.0, 2),
}


@pytest.mark.parametrize("start", AGGREGATED.values(), ids=AGGREGATED.keys())
def test_aggregation_contracts_every_measure(start):
    p = problems.aggregation_quadratic(start, strength=2.0)
    law, factor = p.exact(0.3), math.exp(-0.6)
    m0, S0 = start.moments()
    m, S = law.moments()
    assert np.allclose(m, m0)
    assert np.allclose(S, factor**2 * S0)
    if not isinstance(start, fl.Barenblatt):
        # Pairs of a Barenblatt law in the plane have no quadrature.
        assert p.energy(law) == pytest.approx(factor**2 * np.trace(S0), rel=1e-9)
    assert p.exact_energy(0.3) == pytest.approx(factor**2 * np.trace(S0), rel=1e-13)
    assert np.allclose(law.sample(5, rng=3), m0 + factor * (start.sample(5, 3) - m0))
    if start.d == 1:
        s = np.array([1e-3, 0.2, 0.6, 0.99])
        assert np.allclose(law.quantile(s), m0 + factor * (start.quantile(s) - m0))
        x = law.quantile(s)
        assert np.allclose(law.cdf(x), s)
        assert np.allclose(law.pdf(x), start.pdf(m0[0] + (x - m0[0]) / factor) / factor)
        edges = np.linspace(*law.interval(), 8)
        before = m0 + (edges - m0) / factor
        assert np.allclose(law.cell_masses(edges), start.cell_masses(before))
        assert fl.wasserstein(law, p.limit) == pytest.approx(
            factor * math.sqrt(S0[0, 0]), rel=1e-6
        )


def test_exact_laws_are_reached_by_solvers():
    """One coarse run per space: the errors are those of the schemes, not of a law."""
    cases = [
        (problems.metastable(T=0.4, t=(0.0, 1.0)), fl.TRBDF2(), 0.05, 2e-3),
        (problems.confined_barenblatt(t=(0.0, 0.5)), fl.TRBDF2(), 0.01, 2e-2),
        (problems.reflected_heat(), fl.TRBDF2(), 0.005, 2e-3),
        (problems.periodic_heat(), fl.TRBDF2(), 0.005, 4e-3),
    ]
    for p, scheme, dt, tolerance in cases:
        grid = p.grid(128)
        flow = grid.flow(p.energy)
        sol = fl.solve(flow, p.initial, p.t, scheme, dt=dt, save_at=p.t[1])
        error = np.abs(sol.u[-1] - grid.project(p.exact(p.t[1]))).sum() * grid.volume
        assert error < tolerance, p
    space = fl.Quantiles(100)
    for p in (
        problems.mckean_vlasov_quadratic(coupling=2.0),
        problems.attraction_repulsion(fl.Gaussian(1.0, 0.5)),
    ):
        flow = space.flow(p.energy)
        sol = fl.solve(flow, p.initial, p.t, fl.JKO(), dt=0.02, save_at=p.t[1])
        assert space.distance(sol.u[-1], space.project(p.exact(p.t[1]))) < 2e-2
