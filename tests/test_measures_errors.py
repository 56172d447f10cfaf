"""Wrong arguments of measures: the exception and what its text says."""

from __future__ import annotations

import numpy as np
import pytest

from flows.measures import (
    Barenblatt,
    Density,
    Dirac,
    Empirical,
    Gaussian,
    Histogram,
    Measure,
    Mixture,
    Uniform,
    cell_masses,
    kl_divergence,
)
from flows.measures.cubature import converged_expectation, integrate_density

G = Gaussian(0.0, 1.0)
PLANE = Gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]])
SPACE = Gaussian(np.zeros(5), 1.0)
ATOMS = Empirical([1.0, 2.0])


def negative_at_one(x):
    return np.exp(-(x[..., 0] ** 2)) * (1 - 2 * (np.abs(x[..., 0] - 1) < 0.2))


def rough(x):
    return np.cos(1e12 * np.sum(x, axis=-1)) + 1.0


def steep(x):
    return np.abs(x[..., 0] - 0.3) ** -0.9


def nowhere(x):
    return np.full(x.shape[:-1], np.nan)


def forgetful(x):
    return None


def wrong_shape(x):
    return x


class Bare(Measure):
    """A measure that defines its dimension only."""

    d = 2

    def moments(self):
        return np.zeros(2), np.eye(2)


CONSTRUCTORS = [
    (lambda: Gaussian(np.nan, 1.0), ValueError, r"`mean` has 1 non-finite"),
    (lambda: Gaussian([0, np.inf], 1.0), ValueError, r"the first at index \(1,\)"),
    (lambda: Gaussian("a", 1.0), TypeError, "`mean` must be real numbers, got str"),
    (lambda: Gaussian([[1], [2, 3]], 1.0), TypeError, "must have equal lengths"),
    (lambda: Gaussian(True, 1.0), TypeError, "`mean` must be real numbers, got bool"),
    (lambda: Gaussian(1j, 1.0), TypeError, "dtype complex128"),
    (lambda: Gaussian(0.0, -1.0), ValueError, "must not be negative, got -1"),
    (lambda: Gaussian([], 1.0), ValueError, r"`mean` has shape \(0,\)"),
    (lambda: Gaussian([0, 0], [1, 2, 3]), ValueError, r"`mean` has 2 coordinate"),
    (lambda: Gaussian([0, 0], [[1, 2], [0, 1]]), ValueError, "must be symmetric"),
    (lambda: Gaussian([0, 0], [[1, 2], [2, 1]]), ValueError, "eigenvalue is -1"),
    (lambda: Mixture(G), TypeError, "must be a list of measures"),
    (lambda: Mixture([]), ValueError, "`components` is empty"),
    (lambda: Mixture([G, 1.0]), TypeError, "must be measures, got 1.0"),
    (lambda: Mixture([G, PLANE]), ValueError, r"share one dimension, got \[1, 2\]"),
    (lambda: Mixture([G, G], [0.5, 0.6]), ValueError, "a sum of 1.1"),
    (lambda: Mixture([G, G], [1.5, -0.5]), ValueError, "-0.5 at index 1"),
    (lambda: Mixture([G, G], [1.0]), ValueError, r"shape \(1,\), expected \(2,\)"),
    (lambda: Mixture([G, G], [np.nan, 1]), ValueError, "`weights` has 1 non-finite"),
    (lambda: Uniform(1.0, 1.0), ValueError, "`low` must be less than `high`"),
    (lambda: Uniform([0, 3], [1, 2]), ValueError, "coordinate 1 they are 3 and 2"),
    (lambda: Uniform([0, 0], [1, 1, 1]), ValueError, "2 coordinates and `high` 3"),
    (lambda: Uniform([[0.0]], 1.0), ValueError, r"expected numbers or \(d,\)"),
    (lambda: Dirac([[1.0]]), ValueError, r"`point` has shape \(1, 1\)"),
    (lambda: Empirical([]), ValueError, "with at least one point"),
    (lambda: Empirical([1.0, np.nan]), ValueError, "`points` has 1 non-finite"),
    (lambda: Empirical([1.0], [0.9]), ValueError, "must sum to 1, got a sum of 0.9"),
    (lambda: Histogram([0, 1, 2], [1, -1]), ValueError, "minimum is -1 at index 1"),
    (lambda: Histogram([0, 1, 2], [0, 0]), ValueError, "are all 0"),
    (lambda: Histogram([0, 1, 2], [1]), ValueError, r"`edges` make \(2,\) cells"),
    (lambda: Histogram([0, 1], 1.0), ValueError, r"`masses` has shape \(\)"),
    (lambda: Histogram([0, 0, 1], [1, 1]), ValueError, "entries 0 and 1 are 0 and 0"),
    (lambda: Histogram([0.0], [1.0]), ValueError, r"expected \(n\+1,\)"),
    (lambda: Histogram([0, 1], np.ones((1, 1))), ValueError, "give a tuple of 2"),
    (lambda: Barenblatt(1.0), ValueError, "m = 1 is a Gaussian"),
    (lambda: Barenblatt(0.5), ValueError, "fast diffusion"),
    (lambda: Barenblatt([2.0, 3.0]), ValueError, "`m` must be one number"),
    (lambda: Barenblatt(2.0, d=0), ValueError, "`d` must be an integer >= 1"),
    (lambda: Barenblatt(2.0, t=0.0), ValueError, r"at t = 0 it is Dirac\(center\)"),
    (lambda: Barenblatt(2.0, mass=-1.0), ValueError, "`mass` must be positive"),
    (lambda: Barenblatt(2.0, d=3, center=[1, 2]), ValueError, "`center` has shape"),
    (lambda: Barenblatt.from_scale(2.0, 0.0), ValueError, "`s` must be positive"),
]

DENSITIES = [
    (lambda: Density("x"), ValueError, "must not be negative; its minimum"),
    (
        lambda: Density(negative_at_one, (-3, 3)),
        ValueError,
        r"index \d+ of \d+ sampled",
    ),
    (lambda: Density("0*x"), ValueError, "0 at every sampled point"),
    (lambda: Density("0*x", (0, 1)), ValueError, "integrates to 0"),
    (lambda: Density("1"), ValueError, "does not decay towards -inf"),
    (lambda: Density("exp(-x)/x", (0, np.inf)), ValueError, "too rough or too sing"),
    (lambda: Density("exp(600*x)", (0, 2)), ValueError, "The density is inf at x"),
    (lambda: Density("exp(-x**2)*t"), ValueError, "must not depend on time"),
    (lambda: Density("exp(-k*x**2)"), ValueError, "unknown name"),
    (lambda: Density("exp(-r**2)", d=4), ValueError, "dimension 1, 2 or 3, got d = 4"),
    (lambda: Density("exp(-r**2)", d=1.0), TypeError, "`d` must be an int"),
    (lambda: Density("x", (1, 0)), ValueError, "with lo < hi"),
    (lambda: Density("x", "all"), TypeError, r"`support` must be \(lo, hi\)"),
    (lambda: Density("x*y", (0, 1)), ValueError, r"1 pair\(s\) for a density on R\^2"),
    (lambda: Density("x", extent=((0, 1), (0, 1))), TypeError, "are for images"),
    (lambda: Density("0*x*y", d=2), ValueError, "0 at every sampled point"),
    (lambda: Density("0*x*y", ((0, 1),) * 2), ValueError, "integrates to 0"),
    (lambda: Density("1 + 0*y"), ValueError, "does not decay: it was followed"),
    (lambda: Density("exp(-x**2)*y"), ValueError, "must not be negative"),
    (
        lambda: Density(steep, ((0, 1), (0, 1)), d=2),
        ValueError,
        "did not settle.*tighter `support=`",
    ),
    (lambda: Density(wrong_shape), ValueError, r"write x\[..., 0\]"),
    (lambda: Density(3 + 0j), TypeError, "must be a string"),
    (lambda: Density(np.ones(3)), ValueError, "An image has shape"),
    (lambda: Density([[1, -2.0]]), ValueError, r"minimum is -2 at index \(0, 1\)"),
    (lambda: Density(np.zeros((2, 2))), ValueError, "are all 0"),
    (lambda: Density(np.ones((2, 2)), (0, 1)), TypeError, "takes `extent=`"),
    (lambda: Density(np.ones((2, 2)), extent=(0, 1)), ValueError, r"\(\(x0, x1\)"),
    (
        lambda: Density(np.ones((2, 2)), extent=((1, 0), (0, 1))),
        ValueError,
        "must increase along both axes",
    ),
]

METHODS = [
    (lambda: G.sample(10, None), TypeError, "say rng=0"),
    (lambda: G.sample(10, True), TypeError, "must be an int"),
    (lambda: G.sample(10, -1), ValueError, "must not be negative, got -1"),
    (lambda: G.sample(0, 0), ValueError, "`n` must be at least 1"),
    (lambda: G.sample(2.0, 0), TypeError, "`n` must be an int"),
    (lambda: G.quantile(1.5), ValueError, r"`s` must lie in \[0, 1\]"),
    (lambda: G.quantile(np.nan), ValueError, r"`s` must lie in \[0, 1\]"),
    (lambda: TWO.upper_quantile(-0.1), ValueError, r"`q` must lie in \[0, 1\]"),
    (lambda: PLANE.pdf(np.zeros(3)), ValueError, r"expected \(.., 2\)"),
    (lambda: PLANE.cdf([0.0, 0.0]), TypeError, "has no cdf"),
    (lambda: PLANE.quantile(0.5), TypeError, "has no quantile function"),
    (lambda: Mixture([PLANE]).quantile(0.5), TypeError, "only measures on the line"),
    (lambda: Bare().quantile(0.5), TypeError, "only measures on the line"),
    (lambda: Bare().cdf(0.5), TypeError, "use `cell_masses`"),
    (lambda: Bare().pdf(0.5), TypeError, "has no density: use its samples"),
    (lambda: Bare().expect(len), TypeError, "has no quadrature"),
    (lambda: Bare().expect_difference(len), TypeError, "no quadrature for pairs"),
    (lambda: ATOMS.pdf(0.0), TypeError, "it has atoms"),
    (lambda: ATOMS.integrate(np.square), TypeError, "is infinite"),
    (lambda: Dirac(0.0).entropy(), TypeError, "its entropy is infinite"),
    (lambda: Uniform(0, 1).potential(), TypeError, "no differentiable log-density"),
    (lambda: Mixture([Uniform(0, 1)]).potential(), TypeError, "no differentiable"),
    (lambda: Density(np.ones((2, 2))).potential(), TypeError, "no differentiable"),
    (lambda: G.interval(0.0), ValueError, r"`mass` must be in \(0, 1\]"),
    (lambda: G.interval(1.0), ValueError, "take `mass` below 1"),
    (lambda: G.expect(nowhere), ValueError, "NaN somewhere on the support"),
    (lambda: PLANE.expect(nowhere), ValueError, "NaN somewhere on the support"),
    (lambda: Density("exp(-r**2)", d=2).expect(nowhere), ValueError, "NaN somewhere"),
    (lambda: G.expect(forgetful), ValueError, "did you forget `return`"),
    (lambda: G.expect(wrong_shape), ValueError, "is the first"),
    (lambda: Uniform(0, 1).expect(rough), ValueError, "did not converge: error"),
    (lambda: SPACE.expect(rough), ValueError, "only polynomials of degree 5"),
    (lambda: Uniform(np.zeros(3), 1).expect(steep), ValueError, "did not converge"),
    (
        lambda: Uniform(np.zeros(12), 1).expect(rough),
        TypeError,
        r"no quadrature: use Empirical\(measure.sample",
    ),
    (lambda: STEPS.expect_difference(nowhere), ValueError, "interaction is NaN"),
    (lambda: UNEVEN.expect_difference(rough), TypeError, "use cells of equal size"),
    (lambda: FOUR.expect(rough), TypeError, "no quadrature"),
    (lambda: Mixture([SPACE]).integrate(np.square), TypeError, "for d <= 3 only"),
    (lambda: cell_masses(G, [0.0, 0.0]), ValueError, r"`edges\[0\]` must increase"),
    (lambda: cell_masses(G, 1.0), ValueError, r"expected \(n\+1,\)"),
    (lambda: PLANE.cell_masses([0.0, 1.0]), ValueError, "1 axes for a measure on R"),
    (
        lambda: Gaussian([0, 0], [[1, 1], [1, 1 + 1e-9]]).cell_masses(
            (np.linspace(-1, 1, 9),) * 2
        ),
        ValueError,
        "too little for cell masses",
    ),
    (lambda: kl_divergence(G, PLANE), ValueError, r"on R\^1 and `nu` on R\^2"),
    (lambda: kl_divergence(G, ATOMS), TypeError, "compare with `wasserstein`"),
]

TWO = Mixture([G, Gaussian(1.0, 2.0)])
STEPS = Histogram([0.0, 1.0, 3.0], [1.0, 2.0])
UNEVEN = Histogram(([0.0, 1.0, 3.0], [0.0, 1.0]), [[1.0], [2.0]])
FOUR = Histogram((np.array([0.0, 1.0]),) * 4, np.ones((1, 1, 1, 1)))


@pytest.mark.parametrize(("call", "kind", "text"), CONSTRUCTORS + DENSITIES + METHODS)
def test_a_wrong_argument_is_refused_with_its_name_and_a_remedy(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_expectations_that_do_not_settle_are_refused():
    values = iter([1.0, 2.0, 3.0])

    def rule(n):
        return np.zeros((1, 3)), np.array([next(values)])

    with pytest.raises(ValueError, match="did not converge: 3 with a change of 1"):
        converged_expectation(rule, lambda x: np.ones(1), (1, 2, 3))


def test_measures_are_frozen():
    with pytest.raises(AttributeError):
        G.center = 3.0
    with pytest.raises(ValueError, match="read-only"):
        G.center[0] = 3.0
    points = np.array([1.0, 2.0])
    law = Empirical(points)
    points[0] = 5.0
    assert law.mean == 1.5


def test_unknown_keywords_are_type_errors():
    with pytest.raises(TypeError, match="unexpected keyword"):
        Gaussian(0.0, sigma=1.0)


def test_integrals_over_the_plane_refine_until_they_settle():
    total = integrate_density(Mixture([PLANE, Gaussian([3, 0], 0.3)]), lambda p: p)
    assert total == pytest.approx(1.0, abs=1e-9)


def test_library_settings_are_left_alone():
    before = np.geterr()
    Density("exp(-x**2)").quantile([0.1, 0.9])
    TWO.quantile([0.1, 0.9])
    G.sample(3, 0)
    assert np.geterr() == before
