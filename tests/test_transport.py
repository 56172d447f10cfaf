"""Wasserstein distances against closed forms, fine quadrature and linear programs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.linalg import sqrtm

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
from flows.transport import wasserstein
from flows.transport.assignment import LARGEST
from flows.transport.one_dimensional import from_sorted

LINE = [
    Gaussian(0.3, 1.2),
    Mixture([Gaussian(-3.0, 0.2), Gaussian(2.0, 1.0)], [0.3, 0.7]),
    Uniform(-1.0, 3.0),
    Barenblatt(3.0, t=0.5),
    Histogram([-2.0, -1.0, 0.5, 1.0, 4.0], [1.0, 0.0, 2.0, 1.0]),
    Empirical([3.0, 1.0, -2.0, 1.0], [0.1, 0.2, 0.3, 0.4]),
    Dirac(0.7),
    Density("exp(-x**4 + x)"),
    Mixture([Dirac(0.0), Uniform(0.0, 2.0), Uniform(1.0, 4.0)], [0.2, 0.3, 0.5]),
    Mixture([Dirac(-1.0), Gaussian(1.0, 0.5)], [0.4, 0.6]),
]
PAIRS = list(itertools.combinations(LINE, 2))


def brute_force(mu, nu, p, n=8_000):
    """Midpoint rule in z, s = Phi(z): second order, first at jumps of a quantile."""
    z = -9.0 + 18.0 * (np.arange(n) + 0.5) / n
    gaps = np.abs(mu.from_normal(z) - nu.from_normal(z))
    weights = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) * 18.0 / n
    return float(weights @ gaps**p) ** (1 / p)


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_every_pair_on_the_line_agrees_with_fine_quadrature(p):
    for mu, nu in PAIRS:
        exact = wasserstein(mu, nu, p)
        # A jump of the quantile costs at most its size times the step, 2.3e-3.
        assert exact == pytest.approx(brute_force(mu, nu, p), rel=1e-2), (mu, nu)
        if p == 2:
            assert wasserstein(nu, mu) == pytest.approx(exact, rel=1e-12), (mu, nu)


@pytest.mark.parametrize("mu", LINE, ids=repr)
def test_a_measure_has_distance_zero_to_its_twin(mu):
    twin = Mixture([mu])
    for p in (1, 2, 3):
        assert wasserstein(mu, mu, p) == 0.0
        assert wasserstein(mu, twin, p) < 5e-14


def test_first_distance_is_the_area_between_the_cdfs():
    x = np.linspace(-12.0, 12.0, 100_001)
    for mu, nu in PAIRS:
        area = np.trapezoid(np.abs(mu.cdf(x) - nu.cdf(x)), x)
        # Jumps of height 1 between nodes: error at most one step a jump.
        assert wasserstein(mu, nu, 1) == pytest.approx(area, abs=1e-3), (mu, nu)


def test_triangle_inequality_holds_for_all_triples():
    table = np.zeros((len(LINE), len(LINE)))
    for i, j in itertools.combinations(range(len(LINE)), 2):
        table[i, j] = table[j, i] = wasserstein(LINE[i], LINE[j], 1.5)
    detour = np.min(table[:, :, None] + table[None, :, :], axis=1)
    assert (table <= detour + 1e-12).all()


def test_uniform_laws_have_the_closed_form():
    # W_2^2 = (difference of means)^2 + (difference of half widths)^2 / 3.
    a, b = Uniform(0.0, 1.0), Uniform(-1.0, 2.5)
    assert wasserstein(a, b) == pytest.approx(np.sqrt(0.25**2 + 1.25**2 / 3), rel=1e-15)
    assert wasserstein(a, Uniform(2.0, 3.0), 1) == pytest.approx(2.0, rel=1e-15)
    square = wasserstein(Uniform([0, 0], [1, 1]), Uniform([1, 2], [2, 5]))
    assert square == pytest.approx(np.sqrt(1 + 3**2 + 1 / 3), rel=1e-14)


def test_gaussian_laws_on_the_line_have_closed_forms():
    a, b = Gaussian(1.0, 2.0), Gaussian(4.0, 0.5)
    assert wasserstein(a, b) == pytest.approx(np.hypot(3.0, 1.5), rel=1e-15)
    same_mean = wasserstein(Gaussian(0.0, 2.0), Gaussian(0.0, 0.5), 1)
    assert same_mean == pytest.approx(1.5 * np.sqrt(2 / np.pi), rel=1e-13)
    assert wasserstein(Gaussian(1, 2), Gaussian(4, 2), 1) == 3.0
    # E|3 - 1.5 Z| is the mean of a folded normal law.
    folded = stats.foldnorm(2.0, scale=1.5).mean()
    assert wasserstein(a, b, 1) == pytest.approx(folded, rel=1e-13)
    fourth = 3.0**4 + 6 * 3.0**2 * 1.5**2 + 3 * 1.5**4
    assert wasserstein(a, b, 4) == pytest.approx(fourth**0.25, rel=1e-13)


def test_quadrature_agrees_with_the_closed_forms_it_replaces():
    # A mixture of one component hides the Gaussian from the closed form.
    for p in (1, 1.5, 2, 3):
        hidden = wasserstein(Mixture([Gaussian(1.0, 2.0)]), Gaussian(4.0, 0.5), p)
        assert hidden == pytest.approx(
            wasserstein(Gaussian(1.0, 2.0), Gaussian(4.0, 0.5), p), rel=1e-12
        )
    near = wasserstein(Mixture([Gaussian(0.0, 1.0)]), Gaussian(1e-9, 1.0))
    assert near == pytest.approx(1e-9, rel=1e-6)
    far = wasserstein(Mixture([Gaussian(1e8, 1.0)]), Gaussian(1e8 + 3, 5.0))
    assert far == pytest.approx(5.0, rel=1e-7)
    tails = Density("1/(1 + x**2)**4")
    shifted = Density("1/(1 + (x - 1)**2)**4")
    assert wasserstein(tails, shifted) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("m", [1.5, 2.0, 4.0])
def test_barenblatt_profiles_are_dilations_of_each_other(m):
    a, b = Barenblatt(m, t=0.5), Barenblatt(m, t=2.0)
    known = abs(2.0**a.beta - 0.5**a.beta) * np.sqrt(Barenblatt(m).second_moment)
    assert wasserstein(a, b) == pytest.approx(known, rel=1e-12)


def test_samples_against_a_gaussian_have_the_exact_distance():
    # int over a level interval of Q and of Q^2 in closed form, x sorted.
    n = 500
    x = np.sort(np.random.default_rng(0).normal(size=n))
    z = special.ndtri(np.arange(n + 1) / n)
    phi = stats.norm.pdf(z)
    means = phi[:-1] - phi[1:]
    square = np.mean(x**2) - 2 * np.sum(x * means) + 1.0
    distance = wasserstein(Empirical(x[::-1]), Gaussian(0.0, 1.0))
    assert distance == pytest.approx(np.sqrt(square), rel=1e-11)
    assert wasserstein(Empirical(x[:1]), Gaussian(0.0, 1.0)) == pytest.approx(
        np.sqrt(1 + x[0] ** 2), rel=1e-13
    )


def test_a_cell_average_is_as_far_as_its_cells_are_wide():
    # For a smooth density the distance to its histogram has order 2 in the cells.
    law = Gaussian(0.0, 1.0)
    errors = []
    for n in (80, 160, 320, 640):
        edges = np.linspace(-8.0, 8.0, n + 1)
        errors.append(wasserstein(Histogram(edges, law.cell_masses(edges)), law))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (np.abs(orders - 2.0) < 0.15).all(), orders


def test_quantile_jumps_over_empty_cells_are_counted():
    gap = Histogram([0, 1, 2, 3], [1, 0, 1])
    whole = Histogram([0, 3], [1])
    # Gaps of the quantiles at levels 0, 1/2-, 1/2+, 1: linear in between.
    known = 2 * np.mean([0.0, 0.5, 0.5]) * 0.5
    assert wasserstein(gap, whole, 1) == pytest.approx(0.25, rel=1e-15)
    assert known == pytest.approx(1 / 3)
    square = (0.5**2) / 3
    assert wasserstein(gap, whole, 2) == pytest.approx(np.sqrt(square), rel=1e-15)


def test_cells_lighter_than_the_spacing_of_the_sum_still_count():
    for x in (1e12, -1e12):
        light = Empirical([x, 0.0], [1e-22, 1.0 - 1e-22])
        # W_2 = sqrt(1e-22 * 1e24) = 10, though 1 - 1e-22 is 1.
        assert wasserstein(light, Dirac(0.0)) == pytest.approx(10.0, rel=1e-14)
        assert wasserstein(light, Empirical([0.0, 0.0])) == pytest.approx(10.0)
        assert wasserstein(light, Uniform(-1e-9, 1e-9)) == pytest.approx(10.0)
    left = Histogram([0, 1, 2, 3], [1e-20, 1.0, 2e-20])
    right = Histogram([0, 1, 2, 3], [2e-20, 1.0, 1e-20])
    assert 0.0 <= wasserstein(left, right) < 1e-9
    assert np.isfinite(wasserstein(Histogram([0, 1, 2], [1e-300, 1]), left, 1.7))


def test_masses_of_any_size_give_the_same_distance():
    edges = np.linspace(0, 1, 9)
    masses = np.random.default_rng(0).random(8)
    one, other = Histogram(edges, masses), Histogram(edges, masses[::-1])
    known = wasserstein(one, other)
    for factor in (1e-300, 1e300):
        scaled = Histogram(edges, masses * factor)
        assert wasserstein(scaled, other) == pytest.approx(known, rel=1e-13)
        assert wasserstein(scaled, one) < 1e-15
    huge = wasserstein(Empirical([1e200, 0.0]), Empirical([0.0, 3e200]), 3)
    assert huge == pytest.approx(2e200 / 2 ** (1 / 3), rel=1e-14)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 7.25])
def test_pieces_have_the_closed_form_for_every_exponent(p):
    # On [0, 1] the gap 2 s - 1/2 crosses 0 at s = 1/4; on the second pair it does not.
    crossing = wasserstein(Uniform(0.0, 1.0), Uniform(-0.5, 2.5), p)
    known = (0.5 ** (p + 1) + 1.5 ** (p + 1)) / (2 * (p + 1))
    assert crossing == pytest.approx(known ** (1 / p), rel=1e-14)
    apart = wasserstein(Uniform(0.0, 1.0), Uniform(1.0, 4.0), p)
    known = (3 ** (p + 1) - 1) / (2 * (p + 1))
    assert apart == pytest.approx(known ** (1 / p), rel=1e-14)
    # Nearly equal gaps at both ends: the difference quotient of powers cancels.
    near = wasserstein(Uniform(0.0, 1.0), Uniform(1.0, 2.0 + 1e-13), p)
    assert near == pytest.approx(1.0, rel=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(0.01, 1)), min_size=1, max_size=7),
    st.lists(st.tuples(st.floats(-9, 9), st.floats(0.01, 1)), min_size=1, max_size=7),
    st.floats(1, 4),
)
def test_weighted_atoms_solve_the_transport_program(first, second, p):
    from scipy.optimize import linprog

    (x, v), (y, w) = (np.array(pairs).T for pairs in (first, second))
    v, w = v / v.sum(), w / w.sum()
    cost = np.abs(x[:, None] - y) ** p
    rows = np.kron(np.eye(x.size), np.ones(y.size))
    columns = np.kron(np.ones(x.size), np.eye(y.size))
    best = linprog(
        cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([v, w])
    )
    value = wasserstein(Empirical(x, v), Empirical(y, w), p) ** p
    assert value == pytest.approx(best.fun, rel=1e-7, abs=1e-8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    st.lists(st.floats(0, 10), min_size=9, max_size=9),
    st.floats(1, 5),
)
def test_histograms_obey_symmetry_triangle_and_translation(shifts, masses, p):
    grids = [np.array([0.0, 1.0, 1.5, 4.0]) + shift for shift in shifts]
    weights = np.array(masses).reshape(3, 3) + 1e-3
    a, b, c = (Histogram(e, w) for e, w in zip(grids, weights, strict=True))
    ab, bc, ac = (wasserstein(m, n, p) for m, n in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc + 1e-10
    assert wasserstein(b, a, p) == pytest.approx(ab, rel=1e-12, abs=1e-13)
    moved = Histogram(grids[0] + 2.5, weights[0])
    assert wasserstein(a, moved, p) == pytest.approx(2.5, rel=1e-12)
    assert abs(a.mean - b.mean) <= ab + 1e-10


def test_a_million_atoms_take_seconds_at_most():
    rng = np.random.default_rng(0)
    x = Empirical(rng.normal(size=300_000))
    y = Empirical(rng.normal(size=300_001))
    # The mean distance is about sqrt(log log n / n).
    assert 1e-4 < wasserstein(x, Gaussian(0.0, 1.0)) < 2e-2
    assert 1e-4 < wasserstein(x, y) < 2e-2
    assert wasserstein(x, Gaussian(0.0, 1.0), 1) < 2e-2


def test_sorted_samples_have_a_shortcut():
    x, y = np.array([0.0, 1.0, 5.0]), np.array([1.0, 1.0, 3.0])
    assert from_sorted(x, y, 2) == pytest.approx(np.sqrt(5 / 3))
    assert from_sorted(x, y, 2) == wasserstein(Empirical(x), Empirical(y[::-1]))
    assert from_sorted(x, x, 2) == 0.0


@pytest.mark.parametrize("d", [2, 3, 6])
def test_gaussian_laws_have_the_distance_of_bures(d):
    rng = np.random.default_rng(d)
    A, B = rng.normal(size=(2, d, d))
    S, T = A @ A.T, B @ B.T
    m, n = rng.normal(size=(2, d))
    root = sqrtm(S)
    square = np.sum((m - n) ** 2) + np.trace(S + T - 2 * sqrtm(root @ T @ root).real)
    distance = wasserstein(Gaussian(m, S), Gaussian(n, T))
    assert distance == pytest.approx(np.sqrt(square), rel=1e-10)
    assert wasserstein(Gaussian(m, S), Gaussian(m, S.copy())) < 1e-13
    # Equal laws whose covariances differ by rounding.
    assert wasserstein(Gaussian(m, S), Gaussian(m, S + 1e-15)) < 1e-12


def test_singular_gaussian_laws_have_a_distance():
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]

    def law(*squares):
        return Gaussian(np.zeros(4), Q @ np.diag(squares) @ Q.T)

    assert wasserstein(law(2, 1, 0, 0), law(2, 1, 0, 0)) < 1e-14
    apart = wasserstein(law(2, 1, 0, 0), law(0, 0, 2, 1))
    assert apart == pytest.approx(np.sqrt(6), rel=1e-13)
    assert wasserstein(law(2, 1, 0, 0), law(0, 0, 0, 0)) == pytest.approx(np.sqrt(3))
    assert wasserstein(law(0, 0, 0, 0), law(0, 0, 0, 0)) == 0.0
    nearly = law(1, 1e-20, 0, 0)
    assert wasserstein(nearly, law(1, 0, 0, 0)) < 1e-14


def test_isotropic_and_diagonal_laws_split_into_axes():
    a = Gaussian([0.0, 0.0], [1.0, 2.0])
    b = Uniform([-1.0, 0.0], [1.0, 1.0])
    split = np.hypot(
        wasserstein(Gaussian(0, 1), Uniform(-1, 1)),
        wasserstein(Gaussian(0, 2), Uniform(0, 1)),
    )
    assert wasserstein(a, b) == pytest.approx(split, rel=1e-14)


def test_assignment_finds_the_best_permutation():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3))
    for p in (1, 2, 3):
        cost = np.linalg.norm(x[:, None] - y, axis=-1) ** p
        best = min(
            np.mean(cost[np.arange(6), list(order)])
            for order in itertools.permutations(range(6))
        )
        distance = wasserstein(Empirical(x), Empirical(y), p)
        assert distance == pytest.approx(best ** (1 / p), rel=1e-13)
    assert wasserstein(Empirical(x), Empirical(x[::-1])) == 0.0
    assert wasserstein(Empirical(x), Empirical(x + 1e-9)) == pytest.approx(
        np.sqrt(3) * 1e-9, rel=1e-6
    )


def test_a_point_is_compared_with_anything():
    point = Dirac([1.0, -1.0])
    law = Gaussian([0.0, 0.0], [[2.0, 0.5], [0.5, 1.0]])
    assert wasserstein(point, law) == pytest.approx(np.sqrt(5.0), rel=1e-14)
    assert wasserstein(law, Dirac([0.0, 0.0]), 4) == pytest.approx(
        # E|X|^4 = (tr S)^2 + 2 tr S^2.
        (3.0**2 + 2 * (4 + 1 + 2 * 0.25)) ** 0.25,
        rel=1e-12,
    )
    cloud = Empirical([[1.0, -1.0], [4.0, 3.0]], [0.75, 0.25])
    assert wasserstein(cloud, point, 3) == pytest.approx(5 * 0.25 ** (1 / 3))
    assert wasserstein(point, Dirac([4.0, 3.0]), 1) == pytest.approx(5.0)
    assert wasserstein(Dirac(2.0), Gaussian(0, 1)) == pytest.approx(np.sqrt(5.0))


PLANE = Mixture([Gaussian([0, 0], 1.0), Gaussian([1, 1], 2.0)])


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (
            (np.zeros(3), LINE[0]),
            TypeError,
            r"`mu` must be a measure, got ndarray; wrap",
        ),
        ((LINE[0], 0.0), TypeError, r"a point by Dirac\(point\)"),
        ((LINE[0], LINE[1], 0.5), ValueError, "finite and at least 1, got 0.5"),
        ((LINE[0], LINE[1], np.inf), ValueError, "finite and at least 1, got inf"),
        ((LINE[0], LINE[1], np.nan), ValueError, "finite and at least 1, got nan"),
        ((LINE[0], LINE[1], "2"), TypeError, "`p` must be a number, got '2'"),
        ((LINE[0], LINE[1], True), TypeError, "`p` must be a number, got True"),
        ((LINE[0], PLANE), ValueError, r"on R\^1 and `nu` on R\^2"),
        ((PLANE, Gaussian([0, 0])), TypeError, "no exact formula here. Take equal"),
        ((Gaussian([0, 0]), Gaussian([0, 1]), 1), TypeError, "W_1 between"),
        (
            (Empirical([[0, 0], [1, 1]]), Empirical([[0, 0]])),
            TypeError,
            "Samples of 2 and 1 points.*draw equal numbers",
        ),
        (
            (Empirical([[0, 0], [1, 1]], [0.3, 0.7]), Empirical([[0, 0], [1, 1]])),
            TypeError,
            "weighted points",
        ),
        (
            (
                Empirical(np.zeros((LARGEST + 1, 2))),
                Empirical(np.ones((LARGEST + 1, 2))),
            ),
            ValueError,
            "too large .at most 8000.; compare subsamples",
        ),
    ],
)
def test_wrong_arguments_of_the_distance_name_a_remedy(arguments, kind, text):
    with pytest.raises(kind, match=text):
        wasserstein(*arguments)
