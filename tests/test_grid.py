"""The space of densities on a grid, and linear flows there: Scharfetter-Gummel."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import issparse
from scipy.sparse.linalg import expm_multiply

import flows as fl
from flows.linear import CyclicTridiagonal, Tridiagonal
from flows.spaces import cells
from flows.spaces.cells import Line, SymmetrizedFactor
from flows.spaces.finite_volume import bernoulli, linear_rates

TAUS = np.logspace(-3, 3, 7)
GRIDS = {
    "line": fl.Grid((-3, 3, 40)),
    "two cells": fl.Grid((0, 1, 2)),
    "circle": fl.Grid((-3, 3, 40), boundary="periodic"),
    "box": fl.Grid((-3, 3, 12), (-2, 2, 9)),
    "torus": fl.Grid((-3, 3, 12), (-2, 2, 9), boundary="periodic"),
    "tube": fl.Grid((-3, 3, 12), (-2, 2, 9), boundary=("periodic", "no-flux")),
}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def given_values(V):
    """A potential that takes these values at the cell centers."""
    return fl.Potential(lambda x: np.asarray(V), gradient=lambda x: 0.0 * x)


def rough(grid, size=10.0, seed=0):
    return size * np.random.default_rng(seed).normal(size=grid.shape)


def dense(matrix):
    return matrix.toarray() if issparse(matrix) else matrix.dense()


def slope(sizes, errors):
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


def test_geometry_is_public():
    grid = fl.Grid((0, 1, 4), (-1, 1, 2))
    assert grid.d == 2
    assert grid.shape == (4, 2)
    assert grid.volume == 0.25
    assert grid.spacing == (0.25, 1.0)
    assert [e.tolist() for e in grid.edges] == [[0, 0.25, 0.5, 0.75, 1], [-1, 0, 1]]
    assert [c.tolist() for c in grid.centers] == [
        [0.125, 0.375, 0.625, 0.875],
        [-0.5, 0.5],
    ]
    assert grid.points(np.zeros(1))[3, 1].tolist() == [0.875, 0.5]
    assert fl.Grid((0, 1, 2)).points(np.zeros(1)).tolist() == [[0.25], [0.75]]


@pytest.mark.parametrize(
    "text",
    [
        "Grid((-8, 8, 400))",
        "Grid((0, 0.1, 3), (-1, 2, 4), boundary='periodic')",
        "Grid((0, 1, 3), (-1, 2, 4), boundary=('periodic', 'no-flux'))",
        "Grid((0, 1, 3), device='cpu', dtype='float32')",
    ],
)
def test_repr_can_be_typed(text):
    grid = eval("fl." + text)
    assert repr(grid) == text
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert hash(copy.deepcopy(grid)) == hash(grid)


@pytest.mark.parametrize(
    ("axes", "options", "text"),
    [
        ([(3, -3, 9)], {}, r"\(3, -3, 9\).*low < high"),
        ([(0, math.inf, 9)], {}, "finite bounds"),
        ([(math.nan, 1, 9)], {}, "finite bounds"),
        ([(-1e308, 1e308, 9)], {}, "finite bounds"),
        ([(0, 1, 1)], {}, r"1 cell\(s\).*at least 2"),
        ([(0, 1, 2)], {"boundary": "periodic"}, "periodic axis needs at least 3"),
        ([(0, 1, 2.5)], {}, "must be an integer, got 2.5"),
        ([(0, 1, True)], {}, "must be an integer, got True"),
        ([(1, 1 + 1e-15, 99)], {}, "smaller than the spacing of floats"),
        ([(0, 1)], {}, r"An axis of a Grid is \(low, high, n\).*got \(0, 1\)"),
        ([5], {}, "got 5"),
        ([-8, 8, 400], {}, r"two pairs of parentheses"),
        ([], {}, "one or two axes"),
        ([(0, 1, 3)] * 3, {}, "got 3: grids are 1-D and 2-D"),
        ([(0, 1, 3)], {"boundary": "open"}, "'no-flux', 'periodic'.*got 'open'"),
        ([(0, 1, 3)], {"boundary": None}, "'no-flux', 'periodic'.*got None"),
        ([(0, 1, 3)], {"boundary": ("periodic",) * 2}, "2 names for 1 axes"),
        ([(0, 1, 3)], {"dtype": "float16"}, "float32, float64"),
    ],
)
def test_wrong_grids_are_refused(axes, options, text):
    with pytest.raises(ValueError, match=text):
        fl.Grid(*axes, **options)


def test_projections_are_exact_cell_averages():
    grid = fl.Grid((-6, 6, 30))
    normal = fl.Gaussian(0.5, 0.8)
    masses = np.diff(normal.cdf(grid.edges))
    assert grid.project(normal) * grid.volume == pytest.approx(masses, rel=1e-8)
    assert grid.mass(grid.project(normal)) == pytest.approx(1.0, abs=1e-15)
    atom = grid.project(fl.Dirac(0.1))
    assert (atom > 0).sum() == 1
    assert atom.max() == pytest.approx(1 / grid.volume)


def test_projections_lie_in_the_box_and_are_of_measures():
    grid = fl.Grid((-3, 3, 30))
    with pytest.raises(ValueError, match=r"46\.02% of the mass.*outside.*enlarge"):
        grid.project(fl.Gaussian(2.9, 1.0))
    with pytest.raises(ValueError, match=r"measure on R\^2.*has 1 axis"):
        grid.project(fl.Gaussian([0.0, 0.0], 0.1))
    with pytest.raises(TypeError, match=r"f\(grid.centers\).*Density\(f\)"):
        grid.project(np.exp)


def test_states_are_densities_of_any_positive_mass():
    grid = fl.Grid((0, 1, 4))
    assert grid.mass(grid.admit([1, 2, 3, 4])) == 2.5
    with pytest.raises(ValueError, match=r"shape \(3,\).*shape \(4,\)"):
        grid.admit(np.ones(3))
    with pytest.raises(ValueError, match=r"negative minimum -0.5 at index \(2,\)"):
        grid.admit(np.array([1.0, 0.0, -0.5, 0.0]))
    with pytest.raises(ValueError, match="without mass"):
        grid.admit(np.zeros(4))


def test_measures_of_states_are_histograms():
    grid = fl.Grid((0, 1, 2), (0, 1, 2))
    u = np.array([[1.0, 2.0], [3.0, -1e-5]])
    found = grid.measure(u)
    assert found.masses == pytest.approx(np.array([[1, 2], [3, 0]]) / 6)
    with pytest.raises(ValueError, match=r"negative minimum -1.*no measure"):
        grid.measure(u - 1.0)


def test_distance_is_the_transport_between_equal_masses():
    grid = fl.Grid((0, 10, 100))
    u = np.where(grid.centers < 2, 0.5, 0.0)
    v = np.roll(u, 30)
    assert grid.distance(u, v) == pytest.approx(3.0, rel=1e-12)
    assert grid.distance(4 * u, 4 * v) == pytest.approx(6.0, rel=1e-12)
    assert grid.l1(u, v) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="equal masses, got 1 and 2"):
        grid.distance(u, 2 * v)
    for other, where in (
        (fl.Grid((0, 10, 100), boundary="periodic"), "a circle"),
        (GRIDS["box"], "the plane"),
    ):
        u = np.ones(other.shape)
        with pytest.raises(TypeError, match=rf"on {where}.*use `grid.l1\(u, v\)`"):
            other.distance(u, u)


@pytest.mark.parametrize(
    ("energy", "text"),
    [
        (fl.Interaction("x**2/2"), "cannot represent.*Interaction.*Spaces that take"),
        (-1.0 * fl.Entropy(), r"T \+ rho U''.* is -1 at.*ill-posed"),
        (fl.Entropy() - fl.porous_medium(2), "backward diffusion is ill-posed"),
        (fl.Internal("rho**2 - rho**3"), "backward diffusion is ill-posed"),
        (lambda x: x, "must be an energy"),
    ],
)
def test_what_a_grid_cannot_flow_is_refused(energy, text):
    grid = fl.Grid((0, 1, 4))
    assert not grid.accepts(energy)
    with pytest.raises(TypeError, match=text):
        grid.flow(energy)


def test_potentials_fit_the_grid():
    with pytest.raises(ValueError, match=r"25 non-finite.*choose a box"):
        fl.Grid((-1, 1, 50)).flow(fl.Potential("log(x)"))
    with pytest.raises(ValueError, match="names no coordinate beyond x"):
        GRIDS["box"].flow(fl.Potential("x**2"))


@pytest.mark.parametrize(
    ("drift", "error", "text"),
    [
        (3, TypeError, "`drift` must be callable"),
        (lambda x: None, TypeError, "returned None"),
        (lambda x: x[..., 0], ValueError, r"shape \(3,\) for points of shape \(3, 1\)"),
        (lambda x: x / 0.0, ValueError, "3 non-finite.*faces"),
    ],
)
def test_wrong_drifts_are_refused_when_the_flow_is_made(drift, error, text):
    with np.errstate(all="ignore"), pytest.raises(error, match=text):
        fl.Grid((-0.3, 1, 4)).flow(fl.Entropy(), drift=drift)


def test_the_bernoulli_function_is_accurate_everywhere():
    z = np.concatenate([np.logspace(-300, 2.8, 200), [709.0, 800.0, 1e5, 1e300]])
    with np.errstate(all="raise"):
        plus, minus = bernoulli(z), bernoulli(-z)
    assert (plus >= 0).all()
    assert minus - plus == pytest.approx(z, rel=1e-15, abs=3e-16)
    middle = z[(z > 1e-3) & (z < 700)]
    assert bernoulli(middle) == pytest.approx(middle / np.expm1(middle), rel=1e-15)
    small = np.array([0.0, 1e-8, -1e-8])
    assert bernoulli(small) == pytest.approx(1 - small / 2, rel=4e-16)
    single = bernoulli(np.array([0, 1e-3, 90, -200], dtype=np.float32))
    assert single.dtype == np.float32
    assert single == pytest.approx([1, 0.99950008, 0, 200], rel=1e-6)


@each_grid
def test_generator_is_an_m_matrix_with_zero_column_sums(grid):
    flow = grid.flow(fl.Entropy(0.7) + given_values(rough(grid)))
    L = flow.generator().toarray()
    assert (L - np.diag(np.diag(L)) >= 0).all()
    assert np.abs(L.sum(axis=0)).max() <= 1e-15 * np.abs(L).max()
    g = np.asarray(flow.gibbs()).ravel()
    balance = L * g[None, :]
    assert np.abs(balance - balance.T).max() <= 1e-13 * np.abs(balance).max()


@each_grid
def test_velocity_jacobian_and_generator_are_one_matrix(grid):
    flow = grid.flow(fl.Entropy(0.7) + given_values(rough(grid, 1.0)))
    u = np.random.default_rng(1).random(grid.shape)
    L = flow.generator()
    assert L.format == "csr"
    assert flow.velocity(0.0, u).ravel() == pytest.approx(L @ u.ravel(), rel=1e-12)
    J = flow.jacobian(0.0, u)
    assert dense(J) == pytest.approx(L.toarray(), rel=1e-13)
    kind = {1: (CyclicTridiagonal, Tridiagonal)}.get(grid.d)
    assert isinstance(J, kind) if kind else issparse(J)


@each_grid
@given(seed=st.integers(0, 999), size=st.sampled_from([0.1, 3.0, 30.0]))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_gibbs_state_is_stationary_for_any_potential(grid, seed, size):
    T = 0.7
    flow = grid.flow(fl.Entropy(T) + given_values(rough(grid, size, seed)))
    g = flow.gibbs()
    scale = g.max() * T / min(grid.spacing) ** 2
    assert np.abs(flow.velocity(0.0, g)).max() <= 1e-13 * scale * max(size, 1.0)


@each_grid
@given(
    seed=st.integers(0, 999),
    tau=st.sampled_from(list(TAUS)),
    size=st.sampled_from([0.0, 1.0, 10.0]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_implicit_steps_keep_gibbs_state_mass_and_sign(grid, seed, tau, size):
    flow = grid.flow(fl.Entropy(0.7) + given_values(rough(grid, size, seed)))
    g = flow.gibbs()
    v, memory = flow.resolvent(tau, g, tau, ())
    assert memory == (v,)
    assert np.abs(v / g - 1).max() <= 1e-13 * (1 + size)
    u = np.zeros(grid.shape)
    u.flat[seed % u.size] = 1 / grid.volume
    v, _ = flow.resolvent(tau, u, tau, ())
    assert (v >= 0).all()
    assert grid.mass(v) == pytest.approx(1.0, abs=1e-13)
    assert flow.energy(0.0, v) <= flow.energy(0.0, u) + 1e-12 * abs(flow.energy(0.0, u))


@each_grid
def test_resolvent_solves_its_equation_for_any_right_hand_side(grid):
    flow = grid.flow(fl.Entropy(0.7) + given_values(rough(grid, 2.0)))
    w = np.random.default_rng(2).normal(size=grid.shape)
    for tau in (1e-3, 0.1, 10.0):
        v, _ = flow.resolvent(0.0, w, tau, ())
        rest = v - tau * flow.velocity(0.0, v) - w
        largest = 1 + tau / flow.stable_step(0.0, w)
        assert np.abs(rest).max() <= 1e-14 * largest * np.abs(v).max()


@pytest.mark.parametrize("V", ["smooth", "rough", "cliffs", "flat", "downhill"])
@pytest.mark.parametrize("tau", [1e-4, 1.0, 1e4, 1e9, 1e15])
def test_line_solver_is_exact_entry_by_entry(V, tau):
    # Compared with the recurrence of positive terms run in 40 digits.
    import mpmath

    n = 60
    x = np.linspace(-4, 4, n)
    V = {
        "smooth": x**2 / 2,
        "rough": rough(fl.Grid((0, 1, n)), 30.0),
        "cliffs": 1e3 * np.round(x),
        "flat": 0.0 * x,
        "downhill": 700.0 * x,
    }[V]
    right, left = (r * 100.0 for r in linear_rates(np.diff(V), 1.0))
    w = np.eye(n)[20] + np.eye(n)[40]
    got = Line(right, left).factor(tau).solve(w)
    with mpmath.workdps(40):
        r, l = ([mpmath.mpf(float(tau * y)) for y in z] for z in (right, left))
        s, b = [mpmath.mpf(1)], [mpmath.mpf(float(y)) for y in w]
        for i in range(n - 1):
            s.append(1 + l[i] * s[i] / (s[i] + r[i]))
            b[i + 1] += r[i] * b[i] / (s[i] + r[i])
        v = [b[-1] / s[-1]]
        for i in reversed(range(n - 1)):
            v.append((b[i] + l[i] * v[-1]) / (s[i] + r[i]))
        exact = np.array([float(y) for y in reversed(v)])
    normal = exact > 1e-280
    assert np.abs(got / np.where(normal, exact, 1.0) - 1)[normal].max() <= 1e-13
    assert (got >= 0).all()


def test_steep_lines_and_upwind_rates_take_the_unsymmetric_solver():
    gentle = Line(*linear_rates(np.diff(np.linspace(0, 300, 50)), 1.0))
    steep = Line(*linear_rates(np.diff(np.linspace(0, 900, 50)), 1.0))
    upwind = Line(*linear_rates(np.diff(np.linspace(0, 1, 50)), 0.0))
    assert isinstance(gentle.factor(1.0), SymmetrizedFactor)
    for line in (steep, upwind):
        assert not isinstance(line.factor(1.0), SymmetrizedFactor)
        assert line.factor(1.0).solve(np.ones(50)).sum() == pytest.approx(50, rel=1e-14)


def test_spectrum_of_a_constant_force_is_the_closed_form():
    # Rates r, l of a birth and death chain between walls have the eigenvalues 0 and
    # -(r + l - 2 sqrt(r l) cos(k pi/n)), k = 1 .. n - 1.
    n, c, T = 24, 1.7, 0.6
    grid = fl.Grid((0, 2, n))
    L = grid.flow(fl.Entropy(T) + fl.Potential(f"{c}*x")).generator().toarray()
    q = c * grid.volume / T
    r, l = (T / grid.volume**2 * z / math.expm1(z) for z in (q, -q))
    waves = 2 * math.sqrt(r * l) * np.cos(np.pi * np.arange(1, n) / n)
    expected = np.sort(np.append(waves - r - l, 0.0))
    assert np.sort(np.linalg.eigvals(L).real) == pytest.approx(expected, abs=1e-10)
    # In the limit D (k pi/L)^2 + c^2/4D.
    first = T * (np.pi / 2) ** 2 + c**2 / (4 * T)
    assert -expected[-2] == pytest.approx(first, rel=5e-3)


def test_spectrum_of_heat_on_a_circle_is_the_closed_form():
    n, T = 21, 0.6
    grid = fl.Grid((0, 1, n), boundary="periodic")
    L = grid.flow(fl.Entropy(T)).generator().toarray()
    waves = np.cos(2 * np.pi * np.arange(n) / n)
    expected = np.sort(2 * T / grid.volume**2 * (waves - 1))
    assert np.linalg.eigvalsh(L) == pytest.approx(expected, abs=1e-10 / grid.volume)


def test_order_in_space_is_two_on_a_mixture_under_ornstein_uhlenbeck():
    def law(t):
        laws = [(0.3, -1.0, 0.5), (0.7, 2.0, 0.4)]
        decay = math.exp(-t)
        return [
            (w, fl.Gaussian(m * decay, math.sqrt(1 + (s * s - 1) * decay**2)))
            for w, m, s in laws
        ]

    def project(grid, t):
        return sum(w * grid.project(g) for w, g in law(t))

    def error(n):
        grid = fl.Grid((-7, 7, n))
        L = grid.flow(fl.kl("x**2/2")).generator()
        u = expm_multiply(0.5 * L, project(grid, 0.0))
        return grid.l1(u, project(grid, 0.5))

    sizes = np.array([70, 100, 140, 200])
    assert slope(1 / sizes, [error(n) for n in sizes]) == pytest.approx(2, abs=0.05)


def test_order_in_space_is_two_in_a_periodic_plane():
    # Heat with the mode e^{-2 t} (cos x cos y); a shift by drift changes its phase.
    def error(n):
        box = (0.0, 2 * math.pi, n)
        grid = fl.Grid(box, (0.0, 2 * math.pi, n + 3), boundary="periodic")
        speed = np.array([1.0, -0.5])
        flow = grid.flow(fl.Entropy(), drift=lambda x: speed + 0.0 * x)
        assert not flow.is_gradient
        x, y = np.meshgrid(*grid.centers, indexing="ij")
        u = expm_multiply(0.4 * flow.generator(), (2 + np.cos(x) * np.cos(y)).ravel())
        exact = 2 + math.exp(-0.8) * np.cos(x - 0.4) * np.cos(y + 0.2)
        return grid.l1(u.reshape(grid.shape), exact)

    sizes = np.array([10, 14, 20, 28])
    assert slope(1 / sizes, [error(n) for n in sizes]) == pytest.approx(2, abs=0.1)


def test_a_drift_that_is_a_gradient_acts_like_a_potential():
    grid = fl.Grid((-5, 5, 200))
    pushed = grid.flow(fl.Entropy(), drift=lambda x: -x)
    pulled = grid.flow(fl.kl("x**2/2"))
    # Differences of x^2/2 between centers are h times the slope at the face.
    u = grid.project(fl.Gaussian(1.0, 0.5))
    assert pushed.velocity(0.0, u) == pytest.approx(pulled.velocity(0.0, u), abs=1e-12)
    assert pushed.energy(0.0, u) == pytest.approx(
        grid.flow(fl.Entropy()).energy(0.0, u)
    )


def test_potential_alone_is_positive_upwind_transport():
    grid = fl.Grid((-3, 3, 60))
    flow = grid.flow(fl.Potential("x**2/2"))
    u = grid.project(fl.Gaussian(1.0, 0.3))
    v = u
    for _ in range(50):
        v, _ = flow.resolvent(0.0, v, 0.02, ())
    assert (v >= 0).all()
    assert grid.mass(v) == pytest.approx(1.0, abs=1e-14)
    # A cell at x > 0 moves with the slope x - h/2 at its inner face.
    expected = 0.05 + 0.95 * 1.02**-50
    assert grid.measure(v).mean == pytest.approx(expected, abs=1e-3)
    right, left = linear_rates(np.array([2.0, -3.0, 0.0]), 0.0)
    assert right.tolist() == [0.0, 3.0, 0.0]
    assert left.tolist() == [2.0, 0.0, 0.0]


def test_a_periodic_potential_may_jump_across_the_wrap():
    grid = fl.Grid((0, 1, 8), boundary="periodic")
    flow = grid.flow(fl.kl("x"))
    g = np.exp(-grid.centers)
    assert np.abs(flow.velocity(0.0, g)).max() <= 1e-13 / grid.volume**2
    assert flow.jumps(0.0)[0][-1] == pytest.approx(-7 / 8)


def test_time_dependent_potentials_are_seen_by_everything():
    grid = fl.Grid((-4, 4, 80))
    flow = grid.flow(fl.Entropy(0.3) + fl.Potential("(x - t)**2/2"))
    for t in (0.0, 0.7, 0.0):
        still = grid.flow(fl.Entropy(0.3) + fl.Potential(f"(x - {t})**2/2"))
        u = grid.project(fl.Gaussian(0.2, 0.5))
        assert flow.velocity(t, u) == pytest.approx(still.velocity(t, u), abs=1e-12)
        assert flow.energy(t, u) == pytest.approx(still.energy(t, u))
        assert flow.variation(t, u) == pytest.approx(still.variation(t, u), abs=1e-12)
        assert flow.gibbs(t) == pytest.approx(still.gibbs(), rel=1e-12)
        for h in (0.1, 0.2, 0.1):
            pair = (f.resolvent(t, u, h, ())[0] for f in (flow, still))
            assert next(pair) == pytest.approx(next(pair), abs=1e-13)
    with pytest.raises(TypeError, match="depends on time"):
        flow.generator()


def test_variation_is_the_derivative_of_the_energy():
    grid = GRIDS["box"]
    flow = grid.flow(fl.Entropy(0.4) + fl.Potential("r**2/2 + x*y"))
    u = 1 + np.random.default_rng(0).random(grid.shape)
    w = np.random.default_rng(1).normal(size=grid.shape)
    slope = (flow.energy(0.0, u + 1e-5 * w) - flow.energy(0.0, u - 1e-5 * w)) / 2e-5
    assert slope == pytest.approx((flow.variation(0.0, u) * w).sum() * grid.volume)


def test_energy_of_empty_cells_is_finite_and_of_negative_ones_infinite():
    grid = fl.Grid((0, 1, 4))
    u = np.array([0.0, 4.0, 0.0, 0.0])
    assert grid.flow(fl.Entropy()).energy(0.0, u) == pytest.approx(math.log(4.0))
    assert grid.flow(fl.Entropy()).energy(0.0, u - 0.1) == math.inf
    assert grid.flow(fl.Potential("x")).energy(0.0, u - 0.1) == pytest.approx(0.325)


def test_gibbs_needs_entropy_and_no_drift():
    grid = fl.Grid((0, 1, 4))
    assert grid.mass(grid.flow(fl.kl("x")).gibbs(mass=3.0)) == pytest.approx(3.0)
    for flow in (
        grid.flow(fl.Potential("x")),
        grid.flow(fl.Entropy(), drift=lambda x: x),
    ):
        with pytest.raises(TypeError, match="positive temperature and no drift"):
            flow.gibbs()


def test_an_entropy_typed_as_a_formula_is_linear_diffusion():
    grid = fl.Grid((0, 1, 9))
    u = np.random.default_rng(0).random(9)
    typed = grid.flow(
        0.5 * fl.Internal("2*rho*log(rho) + 3*rho") + 0.0 * fl.porous_medium(2)
    )
    known = grid.flow(fl.Entropy())
    assert typed.velocity(0.0, u) == pytest.approx(known.velocity(0.0, u), rel=1e-13)
    assert typed.energy(0.0, u) - known.energy(0.0, u) == pytest.approx(
        1.5 * grid.mass(u)
    )


@each_grid
def test_stable_step_bounds_the_spectrum_closely(grid):
    for size, ratio in ((0.0, 1.0), (1.0, 2.0)):
        flow = grid.flow(fl.Entropy(0.7) + given_values(rough(grid, size)))
        eigenvalues = np.linalg.eigvals(flow.generator().toarray())
        bound = 2 / np.abs(eigenvalues).max()
        step = flow.stable_step(0.0, np.ones(grid.shape))
        assert bound / ratio * 0.95 <= step <= bound * (1 + 1e-12)
    assert grid.flow(fl.Potential("0*r")).stable_step(0.0, step) == math.inf


def test_stable_step_is_safe_with_a_drift():
    grid = GRIDS["circle"]
    flow = grid.flow(fl.Entropy(0.01), drift=lambda x: np.ones_like(x))
    h = flow.stable_step(0.0, np.ones(40))
    eigenvalues = np.linalg.eigvals(flow.generator().toarray())
    assert np.abs(1 + h * eigenvalues).max() <= 1 + 1e-12


@each_grid
def test_torch_and_float32_agree_with_numpy(grid):
    torch = pytest.importorskip("torch")
    flow = grid.flow(fl.Entropy(0.7) + fl.Potential("r**2/2"))
    u = np.random.default_rng(0).random(grid.shape)
    reference = (
        flow.velocity(0.0, u),
        flow.energy(0.0, u),
        flow.variation(0.0, u),
        flow.resolvent(0.0, u, 0.1, ())[0],
    )
    for kind, tol in ((np.float64, 1e-14), (np.float32, 1e-6)):
        for state in (u.astype(kind), torch.as_tensor(u.astype(kind))):
            v, memory = flow.resolvent(0.0, state, 0.1, ())
            found = (
                flow.velocity(0.0, state),
                flow.energy(0.0, state),
                flow.variation(0.0, state),
                v,
            )
            for mine, other in zip(found, reference, strict=True):
                error = np.abs(np.asarray(mine) - other).max()
                assert error <= tol * np.abs(other).max()
            for mine in (found[0], found[2], v, memory[0]):
                assert type(mine) is type(state)
                assert mine.dtype == state.dtype


def test_spaces_on_a_device_make_tensors():
    torch = pytest.importorskip("torch")
    grid = fl.Grid((-5, 5, 30), device="cpu", dtype="float32")
    flow = grid.flow(fl.kl("x**2/2"), drift=lambda x: torch.sin(x))
    u = grid.project(fl.Gaussian(0.0, 1.0))
    assert u.dtype == torch.float32
    assert flow.velocity(0.0, u).dtype == torch.float32
    assert grid.mass(u) == pytest.approx(1.0, abs=1e-6)
    assert grid.flow(fl.kl("x**2/2")).gibbs().dtype == torch.float32


def test_velocity_can_be_differentiated_by_torch():
    torch = pytest.importorskip("torch")
    for energy in (fl.kl("x**2/2"), fl.porous_medium(2.0, "x**2/2")):
        flow = fl.Grid((-2, 2, 9)).flow(energy)
        u = torch.as_tensor(1 + np.random.default_rng(0).random(9))
        velocity = partial(flow.velocity, 0.0)
        J = torch.autograd.functional.jacobian(velocity, u).numpy()
        expected = flow.jacobian(0.0, u).dense()
        assert np.abs(J - expected).max() <= 1e-9 * np.abs(expected).max()


def test_flows_do_not_write_into_states_and_pickle_without_their_cache():
    grid = fl.Grid((-3, 3, 40))
    flow = grid.flow(fl.Entropy() + fl.Potential("x**4/4"))
    u = grid.project(fl.Gaussian(0.0, 0.5))
    u.setflags(write=False)
    v, _ = flow.resolvent(0.0, u, 0.1, ())
    flow.velocity(0.0, u)
    again = pickle.loads(pickle.dumps(flow))
    assert not again._cache
    assert (again.resolvent(0.0, u, 0.1, ())[0] == v).all()


def test_factors_are_kept_for_the_last_steps_only(monkeypatch):
    made = []
    factor = cells.Line.factor
    monkeypatch.setattr(
        cells.Line, "factor", lambda self, h: made.append(h) or factor(self, h)
    )
    flow = fl.Grid((-3, 3, 40)).flow(fl.kl("x**2/2"))
    u = np.ones(40)
    for h in (0.1, 0.2, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.1):
        flow.resolvent(0.0, u, h, ())
    assert made == [0.1, 0.2, 0.3, 0.4, 0.5, 0.1]


def test_threads_may_share_a_flow():
    grid = fl.Grid((-3, 3, 200))
    flow = grid.flow(fl.Entropy() + fl.Potential("(x - t)**2/2"))
    u = grid.project(fl.Gaussian(0.0, 0.5))
    steps = [0.01 * (1 + k % 7) for k in range(60)]
    serial = [flow.resolvent(h, u, h, ())[0] for h in steps]
    found = {}

    def work(name):
        found[name] = [flow.resolvent(h, u, h, ())[0] for h in steps]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(
        (a == b).all()
        for one in found.values()
        for a, b in zip(one, serial, strict=True)
    )


def test_default_run_reaches_the_exact_law():
    p = fl.problems.ornstein_uhlenbeck(mean=1.5, std=0.5)
    grid = fl.Grid((-8, 8, 400))
    sol = fl.solve(grid.flow(p.energy), p.exact(0.0), (0, 1), save_at=1.0)
    assert sol.stats["scheme"] == "TRBDF2()"
    assert grid.l1(sol.u[-1], grid.project(p.exact(1.0))) < 2e-4
    assert sol.stats["energy_rises"] == 0
    assert sol.stats["mass_drift"] < 1e-13
