"""States between the steps: orders, kinks, charts, files."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scheme_toys import FORCED, WELL, observed, well_exact

import flows as fl

torch = pytest.importorskip("torch")

COUNTS = {
    2: (24, 32, 48, 64),
    3: (24, 32, 48, 64),
    4: (16, 24, 32, 48),
    5: (24, 32, 48, 64),
    8: (6, 8, 10, 12),
}
ONE_STEP = [
    fl.Heun(),
    fl.RK4(),
    fl.BogackiShampine(),
    fl.DormandPrince(),
    fl.Tsit5(),
    fl.DOP853(),
    fl.TRBDF2(),
    fl.SDIRK3(),
    fl.BDF2(),
]
PROBLEMS = {
    "well": (WELL, np.array([0.4, -0.7]), well_exact, 2.0),
    "forced": (FORCED, np.array([1.0, 0.4]), lambda t, u: u / (1 + u * t * t), 1.0),
}
# Random times, the same for every step size: the worst of them decides.
PARTS = np.random.default_rng(5).random(60)


def errors_between(scheme, name, counts):
    flow, u0, exact, end = PROBLEMS[name]
    errors = []
    for n in counts:
        sol = fl.solve(flow, u0, (0, end), scheme, dt=end / n)
        t = end * PARTS
        true = np.array([exact(s, u0) for s in t])
        errors.append(float(np.abs(sol(t) - true).max()))
    return end / np.array(counts), errors


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("scheme", ONE_STEP, ids=repr)
def test_states_between_the_steps_have_the_order_of_the_scheme(scheme, name):
    sizes, errors = errors_between(scheme, name, COUNTS[scheme.order])
    slope = observed(sizes, errors)
    assert scheme.order - 0.2 <= slope <= scheme.order + 0.7, (slope, errors)


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.Tsit5(), fl.DOP853()], ids=repr)
def test_states_between_the_steps_are_as_good_as_at_them(scheme):
    flow, u0, exact, end = PROBLEMS["well"]
    sol = fl.solve(flow, u0, (0, end), scheme, dt=0.25)
    at = max(np.abs(u - exact(t, u0)).max() for t, u in zip(sol.t, sol.u, strict=True))
    t = end * PARTS
    between = max(np.abs(sol(s) - exact(s, u0)).max() for s in t)
    assert between < 4 * at


@pytest.mark.parametrize("scheme", ONE_STEP, ids=repr)
def test_saved_states_are_met_and_the_path_is_smooth(scheme):
    sol = fl.solve(WELL, [0.4, -0.7], (0, 2), scheme, dt=0.25)
    assert np.array_equal(sol(sol.t), sol.u)
    d = 1e-7
    for t in sol.t[1:-1]:
        left, right = sol(t) - sol(t - d), sol(t + d) - sol(t)
        np.testing.assert_allclose(left, right, atol=2e-5 * d + 1e-12)


class Counting(fl.Flow):
    space = None
    calls = 0

    def velocity(self, t, u):
        self.calls += 1
        return -u


def test_what_was_computed_in_a_step_is_kept():
    flow = Counting()
    sol = fl.solve(flow, [1.0], (0, 1), fl.DOP853(), dt=0.5)
    before = flow.calls
    sol(0.1)
    first = flow.calls - before
    assert first == 2 * 12 + 4
    sol([0.2, 0.3, 0.45])
    assert flow.calls - before == first


class Logarithm(fl.Flow):
    """u' = u - u^3 on u > 0 in z = log u."""

    space = None

    def encode(self, u):
        return np.log(u)

    def decode(self, z):
        return np.exp(z)

    def velocity(self, t, z):
        return 1.0 - np.exp(2 * z)


class Circle(fl.Flow):
    """Rotation with speed 1 + t on the unit circle."""

    space = None

    def velocity(self, t, u):
        return (1 + t) * np.array([-u[1], u[0]])

    def retract(self, u):
        return u / np.linalg.norm(u)


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.DormandPrince()], ids=repr)
def test_charts_and_retractions_keep_the_order(scheme):
    def chart(n):
        sol = fl.solve(Logarithm(), [0.4], (0, 2), scheme, dt=2 / n)
        true = np.array([well_exact(s, np.array([0.4])) for s in 2 * PARTS])
        return float(np.abs(sol(2 * PARTS) - true).max())

    def circle(n):
        sol = fl.solve(Circle(), [1.0, 0.0], (0, 1), scheme, dt=1 / n)
        angle = PARTS + PARTS**2 / 2
        u = sol(PARTS)
        assert np.abs(np.linalg.norm(u, axis=1) - 1).max() < 1e-14
        true = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return float(np.abs(u - true).max())

    counts = (24, 32, 48, 64)
    for error in (chart, circle):
        errors = [error(n) for n in counts]
        assert observed(1 / np.array(counts), errors) > scheme.order - 0.2, errors


def test_batches_and_tensors_have_dense_output():
    u0 = np.array([[0.4, -0.7], [0.1, 0.2]])
    flow = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4 + (y**2 - 1)**2/4"))
    ours = fl.solve(flow, u0, (0, 2), fl.DOP853(), dt=0.25)
    theirs = fl.solve(flow, torch.tensor(u0), (0, 2), fl.DOP853(), dt=0.25)
    t = 2 * PARTS
    assert ours(t).shape == (60, 2, 2)
    np.testing.assert_allclose(theirs(t).numpy(), ours(t), atol=1e-13)
    true = np.array([well_exact(s, u0) for s in t])
    assert np.abs(ours(t) - true).max() < 1e-7


def test_minimizing_movements_of_a_kink_are_interpolated_by_themselves():
    """|x| from 1 by steps of 1/4: De Giorgi's interpolation is the exact flow."""
    flow = fl.Euclidean().flow(fl.Potential("abs(x)"))
    sol = fl.solve(flow, [1.0], (0, 2), fl.MinimizingMovement(), dt=0.25)
    t = 2 * PARTS
    assert sol(t)[:, 0] == pytest.approx(np.maximum(1 - t, 0), abs=1e-14)


class Proximal(fl.Flow):
    """The flow of u^2/2, known by its proximal map only."""

    space = None

    def prox(self, t, u, h, memory):
        return u / (1 + h), ()


def test_flows_without_a_velocity_have_the_states_of_shorter_steps():
    sol = fl.solve(Proximal(), [1.0], (0, 1), fl.JKO(), dt=0.25)
    assert sol(0.35) == pytest.approx((1 / 1.25) / 1.1, rel=1e-14)


def test_exact_schemes_are_exact_between_their_steps():
    flow = fl.Euclidean().flow(fl.quadratic([1.0, 3.0]))
    sol = fl.solve(flow, [1.0, 2.0], (0, 2), fl.Exact(), dt=1.0)
    true = np.array([1.0, 2.0]) * np.exp(-np.outer(2 * PARTS, [1.0, 3.0]))
    assert np.abs(sol(2 * PARTS) - true).max() < 1e-14


def test_a_loaded_solution_has_the_cubic(tmp_path):
    flow = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4"))
    sol = fl.solve(flow, [0.4], (0, 2), fl.DOP853(), dt=0.25)
    back = fl.load(sol.save(tmp_path / "sol.npz"), flow)
    assert back(0.33) == pytest.approx(sol(0.33), abs=1e-4)
    with pytest.raises(ValueError, match=r"needs the flow.*load\(path, flow\)"):
        fl.load(tmp_path / "sol.npz")(0.3)


def test_adaptive_steps_keep_their_tolerance_between_them():
    dt = fl.Adaptive(1e-8, 1e-11)
    sol = fl.solve(WELL, [0.1, 0.3], (0, 8), fl.DOP853(), dt=dt)
    t = 8 * PARTS
    true = np.array([well_exact(s, np.array([0.1, 0.3])) for s in t])
    assert np.abs(sol(t) - true).max() < 1e-6


def test_a_velocity_that_is_not_finite_leaves_shorter_steps():
    flow = fl.Quantiles(40).flow(fl.kl("x**2/2"))
    sol = fl.solve(flow, fl.Dirac(0.0), (0, 1), fl.JKO(), dt=0.02)
    half = fl.solve(flow, fl.Dirac(0.0), (0, 0.01), fl.JKO(), dt=0.01)
    assert sol(0.01) == pytest.approx(half.u[-1], abs=1e-12)
    assert math.isfinite(sol(0.01).sum())
