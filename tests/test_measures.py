"""Measures against closed forms and SciPy's distributions."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flows.measures import (
    Barenblatt,
    Density,
    Dirac,
    Empirical,
    Gaussian,
    Histogram,
    Mixture,
    Uniform,
    kl_divergence,
)

TWO = Mixture([Gaussian(-3.0, 0.2), Gaussian(2.0, 1.0)], [0.3, 0.7])
CORRELATED = Gaussian([1.0, -0.5], [[2.0, 0.8], [0.8, 1.0]])
STEPS = Histogram([0.0, 1.0, 1.5, 4.0, 5.0], [1.0, 2.0, 0.0, 1.0])
SMOOTH = [
    Gaussian(1.5, 0.5),
    TWO,
    Uniform(-1.0, 3.0),
    Barenblatt(2.0, t=0.5),
    Barenblatt(4.0, t=2.0, center=-1.0),
    STEPS,
    Density("exp(-x**4)"),
    Density("exp(-abs(x - 1))"),
    Density("1/(1 + x**2)**2"),
]
ATOMS = [Dirac(2.0), Empirical([3.0, 1.0, 2.0, 1.0], [0.1, 0.2, 0.3, 0.4])]
PLANE = [
    CORRELATED,
    Gaussian([0.0, 1.0], [1.0, 2.0]),
    Mixture([CORRELATED, Uniform([0, 0], [1, 2])], [0.4, 0.6]),
    Uniform([0.0, -1.0], [1.0, 3.0]),
    Barenblatt(2.0, d=2, t=0.7, center=[1.0, 0.0]),
    Histogram(([0.0, 1.0, 2.0], [0.0, 2.0, 4.0]), [[1.0, 2.0], [3.0, 0.0]]),
    Density("exp(-x**2/2 - (y - 1)**2/8 - x*y/4)"),
    Empirical([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]], [0.2, 0.3, 0.5]),
    Dirac([1.0, 2.0]),
]
ALL = SMOOTH + ATOMS + PLANE


@pytest.mark.parametrize("measure", ALL, ids=repr)
def test_samples_have_the_mean_and_covariance_of_the_measure(measure):
    n = 40_000
    x = measure.sample(n, 3)
    assert x.shape == (n, measure.d)
    mean, cov = measure.moments()
    assert mean.shape == (measure.d,)
    assert cov.shape == (measure.d, measure.d)
    # 4.5 standard errors; those of the covariance from the fourth moments at hand.
    error = np.sqrt(np.diag(cov) / n)
    assert (np.abs(x.mean(axis=0) - mean) <= 4.5 * error + 1e-15).all()
    z = x - mean
    products = z[:, :, None] * z[:, None, :]
    error = products.std(axis=0) / np.sqrt(n)
    # The student t with 3 degrees of freedom has no fourth moment.
    slack = 0.05 if "1/(1" in repr(measure) else 0.0
    assert (np.abs(products.mean(axis=0) - cov) <= 4.5 * error + 1e-14 + slack).all()


@pytest.mark.parametrize("measure", ALL, ids=repr)
def test_one_seed_gives_the_same_points_and_copies_agree(measure):
    x = measure.sample(5, 7)
    for twin in (pickle.loads(pickle.dumps(measure)), copy.deepcopy(measure)):
        np.testing.assert_array_equal(twin.sample(5, np.random.default_rng(7)), x)
        assert repr(twin) == repr(measure)


@pytest.mark.parametrize("measure", SMOOTH, ids=repr)
def test_quantile_inverts_the_cdf_in_both_tails(measure):
    s = np.concatenate([10.0 ** -np.arange(1.0, 15.0), np.linspace(0.05, 0.5, 10)])
    # Near a finite end the spacing of numbers x bounds what a level can mean.
    exact = np.isinf(measure.support[0])
    rtol, atol = (2e-12, 0.0) if exact else (1e-14, 1e-15)
    below = measure.cdf(measure.quantile(s))
    above = measure.survival(measure.upper_quantile(s))
    np.testing.assert_allclose(below, s, rtol=rtol, atol=atol)
    np.testing.assert_allclose(above, s, rtol=rtol, atol=atol)
    q = measure.quantile(np.linspace(0, 1, 501))
    assert (np.diff(q[1:-1]) >= 0).all()
    assert (q[0], q[-1]) == measure.support


@pytest.mark.parametrize("measure", SMOOTH, ids=repr)
def test_cdf_is_the_integral_of_the_pdf(measure):
    lo, hi = measure.interval(1 - 1e-10)
    edges = np.linspace(lo, hi, 4001)
    middle = 0.5 * (edges[1:] + edges[:-1])
    masses = np.diff(edges) * measure.pdf(middle)
    # Midpoint rule: h^2 max|p''|/24, or h max p in cells with a jump or a front.
    h = edges[1] - edges[0]
    bound = 3 * h * np.max(measure.pdf(middle))
    assert np.max(np.abs(np.cumsum(masses) - measure.cdf(edges[1:]))) < bound
    np.testing.assert_allclose(measure.cdf(edges) + measure.survival(edges), 1.0)
    assert measure.pdf(middle.reshape(2, -1)).shape == (2, 2000)
    with np.errstate(divide="ignore"):
        logs = np.log(measure.pdf(middle))
    np.testing.assert_allclose(measure.log_pdf(middle), logs, atol=1e-10)


@pytest.mark.parametrize("measure", SMOOTH + PLANE[:7], ids=repr)
def test_expectations_and_integrals_agree_with_the_moments(measure):
    mean, cov = measure.moments()
    rough = measure.d == 2 and isinstance(measure, Mixture)
    assert measure.expect(lambda x: np.ones(x.shape[:-1])) == pytest.approx(1, abs=1e-9)
    assert measure.integrate(lambda p: p) == pytest.approx(
        1, abs=3e-2 if rough else 1e-9
    )
    for k in range(measure.d):
        first = measure.expect(lambda x, k=k: x[..., k])
        assert first == pytest.approx(mean[k], abs=1e-9)
        second = measure.expect(lambda x, k=k: (x[..., k] - mean[k]) ** 2)
        assert second == pytest.approx(cov[k, k], rel=1e-9)


@pytest.mark.parametrize("measure", SMOOTH + ATOMS + PLANE[:4] + PLANE[5:6], ids=repr)
def test_squared_difference_of_two_copies_is_twice_the_variance(measure):
    square = measure.expect_difference(lambda z: np.sum(z**2, axis=-1))
    assert square == pytest.approx(2 * np.trace(measure.moments()[1]), rel=2e-9)


def test_expectations_of_kinks_are_exact_on_the_line():
    mean_distance = Gaussian(1.0, 2.0).expect_difference(lambda z: abs(z[..., 0]))
    assert mean_distance == pytest.approx(2 * 2.0 / np.sqrt(np.pi), rel=1e-13)
    kink = Gaussian(0.0, 1.0).expect(lambda x: abs(x[..., 0] - 0.3))
    a = 2 * stats.norm.pdf(0.3) + 0.3 * (2 * stats.norm.cdf(0.3) - 1)
    assert kink == pytest.approx(a, rel=1e-13)
    step = Uniform(0.0, 1.0).expect(lambda x: 1.0 * (x[..., 0] > 1 / 3))
    assert step == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize(
    "uniform",
    [
        Uniform(-1.0, 1.0),
        Histogram(np.linspace(-1, 1, 41), np.ones(40)),
        Histogram([-1.0, -0.3, 0.1, 0.15, 1.0], [0.7, 0.4, 0.05, 0.85]),
        Density("1", (-1, 1)),
    ],
    ids=repr,
)
def test_logarithmic_interaction_of_the_uniform_law_is_known(uniform):
    # E log|X - Y| = log 2 - 3/2 on an interval of length 2, E|X - Y| = 2/3.
    singular = uniform.expect_difference(lambda z: np.log(np.abs(z[..., 0])))
    assert singular == pytest.approx(np.log(2) - 1.5, abs=1e-6)
    kink = uniform.expect_difference(lambda z: np.abs(z[..., 0]))
    assert kink == pytest.approx(2 / 3, abs=1e-9)


def test_self_pairs_count_only_where_they_are_finite():
    three = Empirical([1.0, 2.0, 4.0])
    log = three.expect_difference(lambda z: np.log(np.abs(z[..., 0])))
    assert log == pytest.approx(2 * (np.log(1) + np.log(2) + np.log(3)) / 9)
    cosine = three.expect_difference(lambda z: np.cos(z[..., 0]))
    assert cosine == pytest.approx((3 + 2 * np.cos([1, 2, 3]).sum()) / 9)


def test_expectations_of_mixed_pairs_use_every_pair_of_components():
    mixed = Mixture(
        [Uniform(0.0, 1.0), Dirac(2.0), Gaussian(0.0, 1.0)], [0.5, 0.2, 0.3]
    )
    square = mixed.expect_difference(lambda z: z[..., 0] ** 2)
    assert square == pytest.approx(2 * mixed.cov, rel=1e-11)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 10])
def test_gaussian_expectations_are_exact_for_polynomials_in_any_dimension(d):
    A = np.cos(np.arange(d * d)).reshape(d, d)
    S = A @ A.T + np.eye(d)
    m = np.arange(1.0, d + 1)
    law = Gaussian(m, S)
    square = law.expect(lambda x: np.sum(x**2, axis=-1))
    assert square == pytest.approx(np.trace(S) + m @ m, rel=1e-12)
    # E (x_1^2 x_d^2) by Isserlis' theorem, centered.
    fourth = law.expect(lambda x: ((x - m)[..., 0] * (x - m)[..., -1]) ** 2)
    assert fourth == pytest.approx(S[0, 0] * S[-1, -1] + 2 * S[0, -1] ** 2, rel=1e-12)


def test_expectations_of_a_cone_in_the_plane_refine_at_its_tip():
    def norm(x):
        return np.sqrt(np.sum(x**2, axis=-1))

    assert Gaussian([0, 0], 1.0).expect(norm) == pytest.approx(
        np.sqrt(np.pi / 2), rel=1e-7
    )
    # The mean distance of the center of a square from its points, side 2.
    known = (np.sqrt(2) + np.log(1 + np.sqrt(2))) / 3
    assert Uniform([-1, -1], [1, 1]).expect(norm) == pytest.approx(known, rel=1e-7)
    shifted = Barenblatt(2.0, d=2, center=[0.3, 0.0])
    x = shifted.sample(200_000, 0)
    error = 4.5 * norm(x).std() / np.sqrt(200_000)
    assert shifted.expect(norm) == pytest.approx(norm(x).mean(), abs=error)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_gaussian_entropy_and_powers_have_closed_forms(d):
    A = np.sin(np.arange(d * d)).reshape(d, d)
    law = Gaussian(np.ones(d), A @ A.T + 0.3 * np.eye(d))
    det = np.linalg.det(law.covariance)
    known = -0.5 * d * (1 + np.log(2 * np.pi)) - 0.5 * np.log(det)
    assert law.entropy() == pytest.approx(known, rel=1e-13)
    assert law.integrate(lambda p: p * np.log(p)) == pytest.approx(known, rel=1e-12)
    square = 1 / ((4 * np.pi) ** (d / 2) * np.sqrt(det))
    assert law.integrate(lambda p: p**2) == pytest.approx(square, rel=1e-12)
    x = law.sample(5, 0)
    reference = stats.multivariate_normal(law.center, law.covariance)
    points = x[:, 0] if d == 1 else x
    np.testing.assert_allclose(law.log_pdf(points), reference.logpdf(points))


def test_gaussian_spread_is_a_standard_deviation_unless_it_is_a_matrix():
    assert Gaussian(0.0, 0.5).cov == 0.25
    assert Gaussian(0.0, 0.5).std == 0.5
    np.testing.assert_allclose(Gaussian([0, 0], [1, 3]).cov, np.diag([1.0, 9.0]))
    np.testing.assert_allclose(Gaussian(np.zeros(3), 2.0).cov, 4 * np.eye(3))
    np.testing.assert_allclose(Gaussian([0, 0], np.diag([1, 3])).cov, np.diag([1, 3]))
    assert Gaussian(0.0, [[4.0]]).std == 2.0
    assert Gaussian(1.0, [2.0, 3.0]).d == 2
    assert isinstance(Gaussian(0, 1).mean, float)
    assert Gaussian([0, 0]).mean.shape == (2,)


def test_singular_gaussians_have_samples_but_no_density():
    flat = Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 4.0]])
    assert flat.is_singular
    assert not flat.has_density
    x = flat.sample(100, 0)
    np.testing.assert_allclose(x[:, 1], 2 * x[:, 0], atol=1e-12)
    with pytest.raises(TypeError, match="covariance is singular"):
        flat.pdf([0.0, 0.0])
    point = Gaussian(2.0, 0.0)
    np.testing.assert_array_equal(point.quantile([0.1, 0.9]), [2.0, 2.0])
    np.testing.assert_array_equal(point.cdf([1.9, 2.0]), [0.0, 1.0])
    assert point.support == (2.0, 2.0)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("m", [1.2, 2.0, 4.0])
def test_barenblatt_constants_follow_from_the_equation(m, d):
    law = Barenblatt(m, d=d, t=0.7, mass=2.5)
    # U(0) t^alpha = C^(1/(m-1)) ties the density to the constant of the profile.
    peak = law.mass * float(law.pdf(np.zeros(d) if d > 1 else 0.0))
    assert peak == pytest.approx(law.t**-law.alpha * law.C**law.power, rel=1e-12)
    edge = np.sqrt(law.C / law.k) * law.t**law.beta
    assert law.radius == pytest.approx(edge, rel=1e-14)
    assert law.integrate(lambda p: p) == pytest.approx(1.0, rel=1e-12)
    energy = law.integrate(lambda p: (law.mass * p) ** m / (m - 1))
    assert law.energy == pytest.approx(energy, rel=1e-11)
    second = law.expect(lambda x: np.sum(x**2, axis=-1))
    assert law.second_moment == pytest.approx(second, rel=1e-12)
    assert np.trace(law.moments()[1]) == pytest.approx(second, rel=1e-12)


def test_barenblatt_solves_the_porous_medium_equation():
    m, x = 3.0, np.array([-0.4, 0.1, 0.7])
    h = 1e-4

    def u(t, x):
        return Barenblatt(m, t=t).pdf(x)

    rate = (u(1 + h, x) - u(1 - h, x)) / (2 * h)
    flux = (u(1, x + h) ** m - 2 * u(1, x) ** m + u(1, x - h) ** m) / h**2
    np.testing.assert_allclose(rate, flux, rtol=1e-5)


def test_barenblatt_of_a_scale_is_the_dilated_profile():
    one, wide = Barenblatt(2.5, d=2), Barenblatt.from_scale(2.5, 3.0, d=2)
    assert wide.scale == pytest.approx(3.0, rel=1e-14)
    x = one.sample(10, 0)
    np.testing.assert_allclose(wide.pdf(3 * x), one.pdf(x) / 9, rtol=1e-10)


def test_mixture_moments_and_posterior_tails():
    assert TWO.mean == pytest.approx(0.3 * -3 + 0.7 * 2)
    second = 0.3 * (0.04 + 9) + 0.7 * (1 + 4)
    assert TWO.cov == pytest.approx(second - TWO.mean**2)
    assert TWO.log_pdf(50.0) == pytest.approx(
        np.log(0.7) + stats.norm.logpdf(50.0, 2.0, 1.0)
    )
    three = Mixture([Gaussian(0, 1), Gaussian(5, 1), Gaussian(90, 1)], [0.5, 0.5, 0.0])
    assert three.support == (-np.inf, np.inf)
    assert three.interval(0.999)[1] < 10


def test_quantile_of_a_mixture_crosses_gaps_and_atoms():
    law = Mixture([Dirac(0.0), Uniform(2.0, 3.0)], [0.5, 0.5])
    np.testing.assert_allclose(
        law.quantile([0.1, 0.5, 0.75, 1.0]), [0.0, 0.0, 2.5, 3.0], atol=1e-15
    )
    smooth = Mixture([Dirac(0.0), Gaussian(3.0, 1.0)], [0.5, 0.5])
    s = np.array([0.0005, 0.3, 0.5, 0.9])
    q = smooth.quantile(s)
    assert q[0] < 0
    np.testing.assert_allclose(q[1:3], 0.0, atol=1e-12)
    assert q[3] == pytest.approx(stats.norm.ppf(0.8, 3.0), rel=1e-12)
    many = smooth.quantile(np.full(20_000, 0.9))
    np.testing.assert_allclose(many, q[3], rtol=1e-13)


def test_histogram_follows_its_cells():
    assert STEPS.total == 4.0
    np.testing.assert_allclose(STEPS.density, [0.25, 1.0, 0.0, 0.25])
    np.testing.assert_allclose(
        STEPS.pdf([-1, 0.5, 1.2, 2.0, 5.0]), [0, 0.25, 1, 0, 0.25]
    )
    # A level at the edge of an empty cell takes the left end of the jump.
    np.testing.assert_allclose(
        STEPS.quantile([0.25, 0.75, 0.7500001]), [1, 1.5, 4], atol=1e-6
    )
    huge = Histogram([0, 1, 2], [1e308, 1e308])
    assert huge.mean == 1.0
    tiny = Histogram([0, 1, 2], [1e-320, 3e-320])
    assert tiny.mean == pytest.approx(1.25, rel=1e-3)


def test_empirical_quantiles_hit_the_atoms_at_their_levels():
    ten = Empirical(np.arange(10.0)[::-1])
    np.testing.assert_array_equal(ten.quantile(np.arange(1, 11) / 10), np.arange(10.0))
    middle = (np.arange(10) + 0.5) / 10
    np.testing.assert_array_equal(ten.quantile(middle), np.arange(10.0))
    np.testing.assert_array_equal(ten.upper_quantile(middle), np.arange(10.0)[::-1])
    np.testing.assert_allclose(ten.cdf([-1, 0, 4.5, 9]), [0, 0.1, 0.5, 1])
    np.testing.assert_allclose(ten.survival([-1, 0, 4.5, 9]), [1, 0.9, 0.5, 0])
    weighted = Empirical([5.0, 1.0, 3.0], [0.5, 0.0, 0.5])
    assert weighted.quantile(0.0) == 3.0
    assert weighted.support == (3.0, 5.0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=6),
    st.floats(0.01, 2.0),
    st.floats(1e-12, 0.999999),
)
def test_mixture_quantiles_are_exact_for_any_components(centers, s, level):
    law = Mixture([Gaussian(c, s * (1 + k)) for k, c in enumerate(centers)])
    assert float(law.cdf(law.quantile(level))) == pytest.approx(level, rel=1e-10)


def test_relative_entropy_has_its_closed_form_between_gaussians():
    a, b = CORRELATED, Gaussian([0.0, 0.0], [[1.0, -0.2], [-0.2, 0.5]])
    T = np.linalg.inv(b.covariance)
    shift = a.center - b.center
    known = np.trace(T @ a.covariance) - 2 + shift @ T @ shift
    known += np.log(np.linalg.det(b.covariance) / np.linalg.det(a.covariance))
    assert kl_divergence(a, b) == pytest.approx(known / 2, rel=1e-13)
    near = Gaussian(0.0, 1.0 + 1e-9)
    assert kl_divergence(near, Gaussian(0.0, 1.0)) == pytest.approx(1e-18, rel=1e-6)
    plain = Mixture([Gaussian(1.0, 0.7)])
    assert kl_divergence(plain, Gaussian(0.0, 2.0)) == pytest.approx(
        kl_divergence(Gaussian(1.0, 0.7), Gaussian(0.0, 2.0)), rel=1e-12
    )
    assert kl_divergence(Uniform(0, 1), Uniform(0, 4)) == pytest.approx(np.log(4))
    assert kl_divergence(Uniform(0, 4), Uniform(0, 1)) == np.inf
    assert kl_divergence(TWO, TWO) == 0.0


def test_product_measures_name_their_factors():
    first, second = Gaussian([1.0, 2.0], [0.5, 3.0]).factors()
    assert (first.mean, first.std, second.mean, second.std) == (1.0, 0.5, 2.0, 3.0)
    assert CORRELATED.factors() is None
    assert [f.support for f in Uniform([0, 1], [2, 5]).factors()] == [(0, 2), (1, 5)]


def test_supports_and_intervals_are_pairs_for_each_axis():
    assert Uniform(0, 2).interval(1.0) == (0.0, 2.0)
    assert Uniform([0, 1], [2, 5]).support == ((0.0, 2.0), (1.0, 5.0))
    lo, hi = Gaussian(0, 1).interval(0.5)
    assert (-lo, hi) == pytest.approx((0.6744897501960817,) * 2)
    box = CORRELATED.interval(0.99)
    x = CORRELATED.sample(20_000, 0)
    inside = np.all(
        [(x[:, k] >= a) & (x[:, k] <= b) for k, (a, b) in enumerate(box)], 0
    )
    assert inside.mean() > 0.987


def test_importing_measures_loads_no_heavy_library():
    import subprocess
    import sys

    code = (
        "import sys, flows.measures, flows.transport;"
        "heavy = {'torch', 'sympy', 'numba', 'scipy.stats', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stdout.strip() == "[]", out.stderr
