"""Densities from formulas, functions and images, and potentials of measures."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import special, stats

from flows.energies import Interaction, Internal, Potential, kl
from flows.measures import (
    Barenblatt,
    Density,
    Dirac,
    Empirical,
    Gaussian,
    Histogram,
    Mixture,
    Uniform,
)
from flows.measures.line import LineDensity

PAIR = Mixture(
    [Gaussian([0.0, 0.0], 1.0), Gaussian([2.0, 1.0], [[1.0, 0.5], [0.5, 1.0]])],
    [0.3, 0.7],
)


def bump(x):
    return 1 / (1 + x[..., 0] ** 2) ** 4


def test_a_quartic_density_has_the_moments_of_the_gamma_function():
    law = Density("exp(-x**4)")
    total = special.gamma(0.25) / 2
    assert law.pdf(0.0) == pytest.approx(1 / total, rel=1e-14)
    assert law.mean == pytest.approx(0.0, abs=1e-15)
    assert law.cov == pytest.approx(
        special.gamma(0.75) / special.gamma(0.25), rel=1e-13
    )
    # X^4 has the law Gamma(1/4).
    x = np.array([0.2, 1.0, 2.0, 3.0])
    tail = special.gammaincc(0.25, x**4) / 2
    np.testing.assert_allclose(law.survival(x), tail, rtol=1e-12)
    np.testing.assert_allclose(law.upper_quantile(tail), x, rtol=1e-13)
    # Far out the density underflows, its logarithm does not.
    assert law.pdf(20.0) == 0.0
    assert law.log_pdf(20.0) == pytest.approx(-(20.0**4) - np.log(total))


@pytest.mark.parametrize(
    ("formula", "support", "law"),
    [
        ("exp(-(x - 100)**2/2)", None, stats.norm(100, 1)),
        ("exp(-(x + 1)**2/2e-4)", None, stats.norm(-1, 0.01)),
        ("exp(-abs(x)/3)", None, stats.laplace(0, 3)),
        ("1/(1 + x**2)", None, stats.cauchy()),
        ("1/cosh(x)**2", None, stats.logistic(0, 0.5)),
        ("exp(-2*x)", (0, np.inf), stats.expon(0, 0.5)),
        ("exp(x)", (-np.inf, 1), None),
        ("sqrt(1 - x**2)", (-1, 1), stats.semicircular()),
        ("x**2*exp(-x**2/2)", (0, np.inf), stats.maxwell()),
    ],
)
def test_formulas_reproduce_known_distributions(formula, support, law):
    density = Density(formula, support)
    law = law or stats.expon(-1, 1)
    s = np.concatenate([10.0 ** -np.arange(1, 13.0, 2), np.linspace(0.1, 0.9, 9)])
    if formula == "exp(x)":
        np.testing.assert_allclose(density.upper_quantile(s), 1 - stats.expon.ppf(s))
        return
    x = law.ppf(s)
    np.testing.assert_allclose(density.quantile(s), x, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(density.cdf(x), s, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(density.pdf(x), law.pdf(x), rtol=1e-9)
    np.testing.assert_allclose(
        density.upper_quantile(s), law.isf(s), rtol=1e-9, atol=1e-11
    )


def test_separated_peaks_are_both_found():
    law = Density("exp(-(x + 5)**2) + 3*exp(-(x - 90)**2/4)")
    assert law.survival(40.0) == pytest.approx(6 / 7, rel=1e-12)


def test_parameters_and_functions_give_the_same_density():
    typed = Density("exp(-k*x**2/2)", parameters={"k": 4.0})
    assert typed.cov == pytest.approx(0.25, rel=1e-13)
    function = Density(bump)
    formula = Density("1/(1 + x**2)**4")
    x = np.linspace(-2, 2, 7)
    np.testing.assert_allclose(function.cdf(x), formula.cdf(x), rtol=1e-13)
    np.testing.assert_allclose(
        function.potential().gradient(x[:, None]),
        formula.potential().gradient(x[:, None]),
        atol=1e-14,
    )


def test_densities_in_the_plane_and_in_space_are_gaussian_where_they_should_be():
    plane = Density("exp(-x**2/2 - (y - 1)**2/8)")
    known = Gaussian([0.0, 1.0], [1.0, 2.0])
    x = known.sample(20, 0)
    np.testing.assert_allclose(plane.pdf(x), known.pdf(x), rtol=1e-11)
    np.testing.assert_allclose(plane.cov, known.cov, atol=1e-10)
    assert plane.entropy() == pytest.approx(known.entropy(), rel=1e-11)
    edges = (np.linspace(-3, 3, 9), np.linspace(-2, 4, 7))
    np.testing.assert_allclose(
        plane.cell_masses(edges), known.cell_masses(edges), atol=1e-11
    )
    radial = Density("exp(-r**2/2)", d=3)
    np.testing.assert_allclose(radial.cov, np.eye(3), atol=1e-9)
    half = Density("exp(-x - y)", ((0, np.inf), (0, np.inf)))
    np.testing.assert_allclose(half.mean, [1, 1], rtol=1e-10)
    assert half.pdf([[-1.0, 2.0]]) == 0.0
    assert half.log_pdf([[-1.0, 2.0]]) == -np.inf


def test_samples_of_a_density_in_the_plane_fill_its_cells():
    ring = Density("exp(-8*(r - 1)**2)", d=2)
    n = 40_000
    edges = (np.linspace(-2, 2, 9),) * 2
    counts = Empirical(ring.sample(n, 1)).cell_masses(edges)
    masses = ring.cell_masses(edges)
    # 5 standard errors of each of 64 cells.
    assert (np.abs(counts - masses) <= 5 * np.sqrt(masses / n) + 1e-4).all()


def test_an_image_lies_with_its_first_row_at_the_top():
    dark = np.array([[0, 255], [255, 255]], dtype=np.uint8)
    law = Density(dark, extent=((0, 2), (10, 14)), invert=True)
    assert law.d == 2
    assert law.support == ((0.0, 1.0), (12.0, 14.0))
    np.testing.assert_allclose(law.mean, [0.5, 13.0])
    assert law.pdf([0.5, 13.0]) == pytest.approx(0.5)
    assert law.pdf([1.5, 13.0]) == 0.0
    x = law.sample(100, 0)
    assert (x[:, 0] <= 1).all()
    assert (x[:, 1] >= 12).all()
    light = Density(np.array([[0.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(light.inner.density, [[1 / 3, 0], [1 / 3, 1 / 3]])
    assert light.entropy() == pytest.approx(np.log(1 / 3))
    assert "image 2 x 2" in repr(light)
    color = np.zeros((1, 2, 4))
    color[0, :, 1], color[0, 1, 0], color[..., 3] = 1.0, 1.0, 0.3
    np.testing.assert_allclose(
        Density(color).inner.masses[:, 0], np.array([0.7152, 0.9278]) / 1.643
    )


def test_an_image_keeps_its_mass_on_any_grid():
    image = np.random.default_rng(0).random((31, 17))
    law = Density(image, extent=((-1, 1), (-2, 2)))
    edges = (np.linspace(-1.5, 1.2, 23), np.linspace(-2, 2, 40))
    masses = law.cell_masses(edges)
    assert masses.sum() == pytest.approx(1.0, rel=1e-13)
    square = law.expect_difference(lambda z: np.sum(z**2, axis=-1))
    assert square == pytest.approx(2 * np.trace(law.cov), rel=1e-12)


POTENTIALS = {
    "gaussian": (Gaussian([1.0, 2.0], [[1.0, 0.5], [0.5, 1.0]]), 2),
    "line": (Gaussian(1.0, 0.5), 1),
    "mixture": (PAIR, 2),
    "two peaks": (Mixture([Gaussian(-1.0, 0.3), Gaussian(1.0, 0.5)]), 1),
    "formula": (Density("exp(-x**4 + x)*(2 + sin(x))"), 1),
    "parameters": (Density("exp(-k*x**2 - y**4)", parameters={"k": 2.0}), 2),
    "radial": (Density("exp(-r**4)", d=2), 2),
    "function": (Density(bump), 1),
    "idle coordinate": (Density("exp(-x**2) + 0*y", ((-3, 3), (0, 1))), 2),
}


@pytest.mark.parametrize("name", POTENTIALS)
def test_potentials_are_minus_log_pdf_with_exact_derivatives(name):
    measure, d = POTENTIALS[name]
    V = measure.potential()
    x = np.random.default_rng(0).uniform(0.1, 0.9, size=(6, d))
    np.testing.assert_allclose(
        V.value(x), -measure.log_pdf(x[:, 0] if d == 1 else x), rtol=1e-12, atol=1e-12
    )
    h = 1e-5
    for k, e in enumerate(np.eye(d)):
        slope = (V.value(x + h * e) - V.value(x - h * e)) / (2 * h)
        np.testing.assert_allclose(V.gradient(x)[:, k], slope, rtol=1e-7, atol=1e-8)
        bend = (V.gradient(x + h * e) - V.gradient(x - h * e)) / (2 * h)
        np.testing.assert_allclose(V.hessian(x)[:, k], bend, rtol=1e-6, atol=1e-7)
    again = pickle.loads(pickle.dumps(V))
    np.testing.assert_array_equal(again.value(x), V.value(x))
    expr = V.expr(d)
    if expr is not None:
        from flows.symbolic import coordinates

        point = dict(zip(coordinates(d), x[0], strict=True))
        named = {s: 2.0 for s in expr.free_symbols if s.name == "k"}
        value = float(expr.subs({**point, **named}))
        assert value == pytest.approx(float(V.value(x)[0]), rel=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "mixture", "parameters", "function"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_potentials_follow_torch_and_the_dtype(name, dtype):
    torch = pytest.importorskip("torch")
    measure, d = POTENTIALS[name]
    V = measure.potential()
    x = np.random.default_rng(1).uniform(0.1, 0.9, size=(4, d)).astype(dtype)
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    for call in (V.value, V.gradient, V.hessian):
        there = call(torch.from_numpy(x))
        here = call(x)
        assert str(here.dtype) == dtype
        assert str(there.dtype) == f"torch.{dtype}"
        np.testing.assert_allclose(there.numpy(), here, rtol=1e-5, atol=tolerance)


def test_mixture_potentials_do_not_underflow_far_out():
    V = PAIR.potential()
    x = np.array([[1e3, 0.0], [-200.0, 5.0]])
    assert np.isfinite(V.value(x)).all()
    # Along this axis the wider component, with precision 1, is what is left.
    np.testing.assert_allclose(V.gradient(x[:1]), x[:1], atol=1e-12)
    assert "2 Gaussian components" in repr(V)
    assert repr(Gaussian(0.0, 1.0).potential()).startswith("GaussianPotential([1.0]")


@pytest.mark.parametrize(
    "target", [Gaussian(1.0, 0.5), PAIR, Density("exp(-x**4)")], ids=repr
)
def test_relative_entropy_of_a_measure_to_itself_is_zero(target):
    assert kl(target)(target) == pytest.approx(0.0, abs=1e-12)


def test_energies_of_measures_have_their_closed_forms():
    law = Gaussian([1.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])
    assert Potential("r**2/2")(law) == pytest.approx(2.0, rel=1e-13)
    assert Interaction("r**2/2")(law) == pytest.approx(1.5, rel=1e-13)
    profile = Barenblatt(2.0, d=2)
    assert Internal("rho**2")(profile) == pytest.approx(profile.energy, rel=1e-12)
    assert Internal("rho**2")(Uniform(0, 4)) == pytest.approx(0.25)
    assert Interaction("-abs(x)")(Uniform(0, 3)) == pytest.approx(-0.5, rel=1e-13)
    assert Potential("x**2")(Dirac(3.0)) == 9.0
    steps = Histogram([0, 1, 3], [0.5, 0.5])
    assert Internal("rho**3")(steps) == pytest.approx(0.125 + 2 * 0.25**3)


def test_panels_follow_a_jump_inside_the_support():
    law = LineDensity(
        lambda x: 1.0 + (x[..., 0] > 1 / 3), np.array([[0.0, 1.0]]), "step"
    )
    assert law.total == pytest.approx(5 / 3, rel=1e-14)
    assert law.quantile(0.2) == pytest.approx(1 / 3, rel=1e-13)
    assert law.quantile(0.6) == pytest.approx(2 / 3, rel=1e-13)
