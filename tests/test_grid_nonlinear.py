"""Nonlinear diffusion on a grid: the two-point flux and its implicit steps."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

import flows as fl
from flows.linear import CyclicTridiagonal, NewtonFailure, NewtonResult, Tridiagonal
from flows.spaces import grid_nonlinear
from flows.spaces.finite_volume import linear_rates, pressures, two_point_flux
from flows.symbolic import PowerFunction

CONVEX = {
    "m=1.05": (fl.porous_medium(1.05),),
    "m=1.5": (fl.porous_medium(1.5),),
    "m=2": (fl.porous_medium(2.0),),
    "m=5": (fl.porous_medium(5.0),),
    "two powers": (fl.porous_medium(2.0), 0.1 * fl.porous_medium(3.0)),
    "typed": (fl.Internal("rho**2 + rho**3"),),
    "exponential": (fl.Internal("exp(rho)"),),
    "logarithm": (fl.Internal("(1 + rho)*log(1 + rho)"),),
}
CONCAVE = {
    "m=0.5": (fl.porous_medium(0.5),),
    "m=0.9": (fl.porous_medium(0.9),),
    "typed root": (fl.Internal("-sqrt(rho)"),),
    "minus logarithm": (fl.Internal("-log(rho)"),),
    "fast and slow": (fl.porous_medium(0.5), fl.porous_medium(2.0)),
}
each_convex = pytest.mark.parametrize("terms", CONVEX.values(), ids=CONVEX)
each_density = pytest.mark.parametrize(
    "terms", [*CONVEX.values(), *CONCAVE.values()], ids=[*CONVEX, *CONCAVE]
)
GRIDS = {
    "line": fl.Grid((-3, 3, 30)),
    "two cells": fl.Grid((0, 1, 2)),
    "circle": fl.Grid((-3, 3, 30), boundary="periodic"),
    "box": fl.Grid((-3, 3, 9), (-2, 2, 7)),
    "tube": fl.Grid((-3, 3, 9), (-2, 2, 7), boundary=("periodic", "no-flux")),
}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def flux(terms, a, b, jump, T=0.0, derivatives=False):
    """h J for densities a, b; those in a and b as well on request."""
    parts = pressures(terms)
    a, b = (np.asarray(p, dtype=float) for p in (a, b))
    wet = [np.maximum(p, 1e-100) for p in (a, b)]
    sides = [tuple(part.profile(p, np.log(p)) for p in wet) for part in parts]
    jump = np.broadcast_to(np.asarray(jump, dtype=float), a.shape)
    with np.errstate(all="raise"):
        return two_point_flux(parts, (a, b), sides, jump, T, derivatives)


def pairs(n, ratio, seed=0):
    """Random densities from 1e-4 to 10, neighbors up to e^ratio larger or smaller."""
    rng = np.random.default_rng(seed)
    a = 10 ** rng.uniform(-4, 1, n)
    b = np.minimum(a * np.exp(rng.uniform(-ratio, ratio, n)), 20.0)
    return a, b, rng.normal(size=n) * 10 ** rng.uniform(-2, 1, n)


def total(name, terms, p):
    return sum(getattr(term, name)(p) for term in terms)


def slope(sizes, errors):
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


@each_density
@pytest.mark.parametrize("T", [0.0, 0.7])
def test_flux_vanishes_exactly_at_equilibrium(terms, T):
    a, b, _ = pairs(2000, 3.0)
    rise = total("first_at", terms, b) - total("first_at", terms, a)
    jump = -rise - T * np.log(b / a)
    face = flux(terms, a, b, jump, T, derivatives=True)
    size = np.abs(jump) + T + np.abs(total("second_at", terms, a)) * a
    # The jump itself is rounded, and moves as much flux as its rounding.
    scale = face.noise + size * (a + b)
    assert np.abs(face.flux / scale).max() <= 1e-14


@each_density
@pytest.mark.parametrize("T", [0.0, 0.7])
def test_flux_derivatives_are_those_of_the_flux(terms, T):
    a, b, jump = pairs(2000, 2.0)
    face = flux(terms, a, b, jump, T, derivatives=True)
    more, less = 1 + 1e-6, 1 - 1e-6
    left = (flux(terms, s * a, b, jump, T).flux for s in (more, less))
    right = (flux(terms, a, s * b, jump, T).flux for s in (more, less))
    by_a = (next(left) - next(left)) / 2e-6
    by_b = (next(right) - next(right)) / 2e-6
    size = np.abs(face.by_a) * a + np.abs(face.by_b) * b + face.noise
    wrong = np.abs(by_a - face.by_a * a) + np.abs(by_b - face.by_b * b)
    # At the cap of the mean the quotient straddles a kink. Pressures that are no powers
    # are integrated by quadrature, to a few digits less at densities above 1.
    exact = all(isinstance(term.function, PowerFunction) for term in terms)
    assert np.quantile(wrong / size, 0.995) <= (1e-8 if exact else 1e-4)
    assert np.isfinite(face.by_a + face.by_b).all()


@each_convex
@pytest.mark.parametrize("T", [0.0, 0.7])
def test_flux_of_convex_pressures_is_monotone(terms, T):
    a, b, jump = pairs(20000, 12.0)
    face = flux(terms, a, b, jump, T, derivatives=True)
    size = np.abs(face.by_a) + np.abs(face.by_b)
    assert (face.by_a / size).min() >= -1e-8
    assert (face.by_b / size).max() <= 1e-8


@pytest.mark.parametrize("m", [0.3, 0.5, 0.9])
def test_flux_of_concave_pressures_is_nearly_monotone(m):
    a, b, jump = pairs(20000, 12.0)
    face = flux((fl.porous_medium(m),), a, b, jump, derivatives=True)
    size = np.abs(face.by_a) + np.abs(face.by_b)
    assert (face.by_a / size).min() >= -0.3 * (1 - m)
    assert (face.by_b / size).max() <= 0.3 * (1 - m)


@pytest.mark.parametrize("m", [0.2, 0.5, 0.9, 1.1, 1.5, 2.0, 3.0])
def test_flux_of_a_power_without_potential_is_the_difference_of_pressures(m):
    k = 1.0 if m > 1.0 else 8.0
    a, b, _ = pairs(500, k)
    found = flux((1.3 * fl.porous_medium(m),), a, b, 0.0).flux
    keep = np.abs(np.log(b / a)) <= (1.0 / m if m > 1.0 else k)
    exact = 1.3 * (a**m - b**m)
    assert found[keep] == pytest.approx(exact[keep], rel=1e-10, abs=1e-13)
    if m < 1.0:
        into_dry = flux((fl.porous_medium(m),), [0.0], [2.0], 0.0)
        assert into_dry.flux == pytest.approx(-(2.0**m))


def test_flux_into_a_dry_cell_is_upwind_transport():
    terms = (fl.porous_medium(3.0),)
    for b, jump in ((2.0, 0.5), (2.0, -1.0), (0.1, -1.0)):
        drive = jump + 1.5 * b**2
        face = flux(terms, [0.0], [b], jump)
        assert face.flux == pytest.approx(-max(drive, 0.0) * b, abs=1e-14)
    assert flux(terms, [0.0], [0.0], 3.0).flux == 0.0


def test_flux_without_internal_part_is_scharfetter_gummel():
    a, b, jump = pairs(500, 3.0)
    tiny = fl.Internal(PowerFunction(2.0, coefficient=1e-300))
    right, left = linear_rates(jump, 0.7)
    face = flux((tiny,), a, b, jump, 0.7)
    assert face.flux == pytest.approx(right * a - left * b, rel=1e-12, abs=1e-15)


@each_grid
@pytest.mark.parametrize("signed", [False, True])
def test_jacobian_is_the_derivative_of_the_velocity(grid, signed):
    energy = fl.porous_medium(2.5, "cos(r)") + fl.Entropy(0.2)
    flow = grid.flow(energy)
    rng = np.random.default_rng(3)
    u = rng.random(grid.shape) + 0.1
    if signed:
        u = np.where(rng.random(grid.shape) < 0.3, -u, u)
    w = rng.normal(size=grid.shape)
    J = flow.jacobian(0.0, u)
    kind = {"line": Tridiagonal, "circle": CyclicTridiagonal}
    name = next(k for k, g in GRIDS.items() if g is grid)
    assert isinstance(J, kind.get(name, object))
    J = J.dense() if grid.d == 1 else J.toarray()
    change = (
        flow.velocity(0.0, u + 1e-6 * w) - flow.velocity(0.0, u - 1e-6 * w)
    ) / 2e-6
    assert (J @ w.ravel()) == pytest.approx(
        change.ravel(), abs=1e-6 * np.abs(change).max()
    )
    assert np.abs(J.sum(axis=0)).max() <= 1e-14 * np.abs(J).max()
    if not signed:
        assert (J - np.diag(np.diag(J)) >= 0).all()
    # An odd flux: densities of either sign flow alike.
    assert (flow.velocity(0.0, -u) == -flow.velocity(0.0, u)).all()


def steady_state(grid, terms, V, C):
    """p with U'(p) + V = C, 0 where there is none."""

    def density(gap):
        def excess(logp):
            return float(total("first_at", terms, np.exp(np.array([logp])))[0]) - gap

        low, high = -30.0, 5.0
        return (
            math.exp(brentq(excess, low, high, xtol=1e-15)) if excess(low) < 0 else 0.0
        )

    return np.array([density(C - v) for v in V(grid.centers)])


EQUILIBRIA = {
    "m=2": ((fl.porous_medium(2.0),), 0.8),
    "m=3": ((fl.porous_medium(3.0),), 0.8),
    "m=0.5": ((fl.porous_medium(0.5),), -0.2),
    "two powers": ((fl.porous_medium(2.0), fl.porous_medium(3.0)), 0.8),
    "with entropy": ((fl.Internal("rho*log(rho) + rho**2"),), 0.8),
    "logarithmic": ((fl.Internal("-log(rho)"),), -0.2),
}


@pytest.mark.parametrize(("terms", "C"), EQUILIBRIA.values(), ids=EQUILIBRIA)
def test_equilibria_are_kept_by_every_step(terms, C):
    # The support is connected, because V(0) = 1/4 is below the constant.
    grid = fl.Grid((-3.1, 3, 61))
    flow = grid.flow(sum(terms[1:], terms[0]) + fl.Potential("(x**2 - 1)**2/4"))
    u = steady_state(grid, terms, lambda x: (x**2 - 1) ** 2 / 4, C)
    assert u.max() > 0.1
    wet = u > 0
    constant = flow.variation(0.0, u)[wet]
    assert np.ptp(constant) <= 1e-12
    for tau in (1e-3, 1.0, 1e3):
        v, _ = flow.resolvent(0.0, u, tau, ())
        assert np.abs(v - u).max() <= 1e-12 * u.max()


def test_long_steps_settle_into_the_profile_with_the_right_mass():
    # m = 2: p = (C - x^2/2)/2 on |x| < a, a^2 = 2C, mass a^3/3 = 1 up to O(h^2).
    grid = fl.Grid((-3, 3, 300))
    flow = grid.flow(fl.porous_medium(2.0, "x**2/2"))
    u = grid.project(fl.Uniform(-2.5, -2.0))
    for _ in range(4):
        u, _ = flow.resolvent(0.0, u, 1e3, (u,))
    C = 0.5 * 3.0 ** (2 / 3)
    exact = np.maximum(C - grid.centers**2 / 2, 0.0) / 2
    assert grid.l1(u, exact) <= 1e-3
    inside = u > 1e-3
    assert np.ptp(flow.variation(0.0, u)[inside]) <= 1e-11


STARTS = {
    "block": lambda x: np.where(np.abs(x) < 1, 1.0, 0.0),
    "narrow": lambda x: np.exp(-50 * x**2),
    "rough": lambda x: np.random.default_rng(0).random(x.size) ** 8,
    "one cell": lambda x: np.where(np.arange(x.size) == x.size // 3, 1.0, 0.0),
}


@pytest.mark.parametrize("m", [0.3, 0.5, 1.1, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("V", [None, "x**2/2", "20*cos(3*x)"])
@pytest.mark.parametrize("start", STARTS)
def test_implicit_steps_of_any_length_keep_mass_and_sign_and_lower_the_energy(
    m, V, start
):
    grid = fl.Grid((-3, 3.1, 80))
    flow = grid.flow(fl.porous_medium(m, V))
    u = STARTS[start](grid.centers)
    u = u / grid.mass(u)
    for tau in (1e-4, 1e-2, 1.0, 1e3):
        v, memory = flow.resolvent(0.0, u, tau, ())
        assert memory[0] is v
        assert v.min() >= 0
        assert grid.mass(v) == pytest.approx(1.0, abs=2e-13)
        before, after = flow.energy(0.0, u), flow.energy(0.0, v)
        assert after <= before + 1e-13 * abs(before)
        rest = v - tau * flow.velocity(0.0, v) - u
        assert np.abs(rest).sum() <= 1e-8 * np.abs(u).sum()


@each_density
@given(seed=st.integers(0, 99), tau=st.sampled_from([1e-3, 0.1, 10.0]))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_implicit_steps_solve_their_equation_for_any_density(terms, seed, tau):
    grid = fl.Grid((-2, 2, 25))
    flow = grid.flow(
        sum(terms[1:], terms[0]) + fl.Potential("x**2/2") + fl.Entropy(0.1)
    )
    w = np.random.default_rng(seed).random(25) ** 3 + 1e-3
    v, _ = flow.resolvent(0.0, w, tau, (np.ones(25),))
    assert v.min() > 0
    rest = v - tau * flow.velocity(0.0, v) - w
    size = 1 + tau * np.abs(flow.jacobian(0.0, v).diagonal).max()
    assert np.abs(rest).max() <= 1e-12 * size


@pytest.mark.parametrize("m", [0.5, 1.2, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("tau", [1e-3, 0.1, 10.0])
def test_right_hand_sides_may_be_negative(m, tau):
    grid = fl.Grid((-3, 3.1, 80))
    flow = grid.flow(fl.porous_medium(m, "x**2/2"))
    u = STARTS["block"](grid.centers)
    noise = np.random.default_rng(1).normal(size=80)
    spike = u - 14.7 * (np.arange(80) == 40)
    for w in (u + 0.3 * noise, spike, -u, 0.0 * u):
        v, _ = flow.resolvent(0.0, w, tau, (u,))
        rest = v - tau * flow.velocity(0.0, v) - w
        size = np.abs(w).sum() + tau * np.abs(flow.velocity(0.0, v)).sum()
        assert np.abs(rest).sum() <= 1e-10 * size
    assert (v == 0).all()


def barenblatt_error(m, n, t=(0.1, 0.6)):
    """L1 error of SDIRK3 steps so small that the error in space is left."""
    grid = fl.Grid((-3, 3.037, n))
    sol = fl.solve(
        grid.flow(fl.porous_medium(m)),
        fl.Barenblatt(m, t=t[0]),
        t,
        fl.SDIRK3(),
        dt=0.02,
        save_at=[t[1]],
    )
    return grid.l1(sol.u[-1], grid.project(fl.Barenblatt(m, t=t[1])))


def test_barenblatt_profiles_spread_at_order_two():
    sizes = np.array([32, 45, 64, 90, 128])
    errors = [barenblatt_error(2.0, n) for n in sizes]
    assert slope(1 / sizes, errors) >= 1.8


def test_steep_fronts_spread_at_order_one_or_more():
    sizes = np.array([32, 45, 64, 90, 128, 181])
    errors = [barenblatt_error(3.0, n) for n in sizes]
    assert slope(1 / sizes, errors) >= 1.1


def test_fast_diffusion_has_order_two():
    # m = 1/2 in one dimension: b = 2/3, k = 1/3, u = t^-b (C + k x^2 t^-2b)^-2.
    def profile(x, t):
        b = 2.0 / 3.0
        return t**-b * (1.0 + x**2 * t ** (-2 * b) / 3.0) ** -2

    def averages(grid, t):
        e = grid.edges
        cells = [quad(profile, *ends, args=(t,))[0] for ends in pairwise(e)]
        return np.array(cells) / grid.volume

    def error(n):
        grid = fl.Grid((-12, 12, n))
        flow = grid.flow(fl.porous_medium(0.5))
        sol = fl.solve(
            flow, averages(grid, 1.0), (1.0, 1.5), fl.SDIRK3(), dt=0.02, save_at=[1.5]
        )
        # Away from the walls, which the exact solution does not feel.
        near = np.abs(grid.centers) < 4
        return np.abs(sol.u[-1] - averages(grid, 1.5))[near].sum() * grid.volume

    sizes = np.array([48, 66, 96, 132])
    assert slope(1 / sizes, [error(n) for n in sizes]) == pytest.approx(2.0, abs=0.2)


def test_confined_barenblatt_follows_its_exact_scale():
    # m = 2, V = x^2/2: the cube of the scale relaxes to 1/3 as e^{-3 t}.
    grid = fl.Grid((-2.5, 2.5, 150))
    flow = grid.flow(fl.porous_medium(2.0, "x**2/2"))
    third = 1.0 / 3.0
    times = [third + (0.05 - third) * math.exp(-3 * t) for t in (0.0, 0.5)]
    sol = fl.solve(
        flow,
        fl.Barenblatt(2.0, t=times[0]),
        (0, 0.5),
        fl.SDIRK3(),
        dt=0.01,
    )
    assert grid.l1(sol.u[-1], grid.project(fl.Barenblatt(2.0, t=times[1]))) < 2e-3
    assert sol.stats["energy_rises"] == 0


def test_planes_flow_like_lines_where_nothing_depends_on_the_other_axis():
    line, plane = fl.Grid((-3, 3, 20)), fl.Grid((0, 1, 4), (-3, 3, 20))
    flows = (
        line.flow(fl.porous_medium(2.0, "x**2/2")),
        plane.flow(fl.porous_medium(2.0, "y**2/2")),
    )
    u = line.project(fl.Gaussian(0.5, 0.5))
    both = np.tile(u, (4, 1))
    velocities = [
        flow.velocity(0.0, w) for flow, w in zip(flows, (u, both), strict=True)
    ]
    assert velocities[1] == pytest.approx(np.tile(velocities[0], (4, 1)), abs=1e-13)
    steps = [
        f.resolvent(0.0, w, 0.3, ())[0] for f, w in zip(flows, (u, both), strict=True)
    ]
    assert steps[1] == pytest.approx(np.tile(steps[0], (4, 1)), abs=1e-12)


def test_densities_stay_below_the_bound_of_their_energy():
    grid = fl.Grid((-3, 3, 50))
    fermi = fl.Internal("rho*log(rho) + (1 - rho)*log(1 - rho)")
    flow = grid.flow(fermi + fl.Potential("3*x**2"))
    u = np.where(np.abs(grid.centers) < 2, 0.9, 0.001)
    for tau in (1e-3, 0.1, 10.0, 1e3):
        v, _ = flow.resolvent(0.0, u, tau, ())
        assert 0 < v.min() <= v.max() < 1
        assert grid.mass(v) == pytest.approx(grid.mass(u), rel=1e-13)
    full = flow.energy(0.0, np.where(np.abs(grid.centers) < 2, 1.0, 0.0))
    assert full == pytest.approx(
        3 * np.sum(grid.centers[8:-8] ** 2) * grid.volume, rel=0.2
    )
    assert flow.energy(0.0, u - 0.1) == math.inf


def test_drift_and_time_reach_the_nonlinear_flux():
    grid = fl.Grid((-2, 2, 40))
    u = grid.project(fl.Gaussian(0.3, 0.4))
    pulled = grid.flow(fl.porous_medium(2.0, "x**2/2")).velocity(0.0, u)
    pushed = grid.flow(fl.porous_medium(2.0), drift=lambda x: -x)
    assert not pushed.is_gradient
    assert pushed.velocity(0.0, u) == pytest.approx(pulled, abs=1e-11)
    moving = grid.flow(fl.porous_medium(2.0, "t*x**2/2"))
    assert moving.velocity(1.0, u) == pytest.approx(pulled, abs=1e-11)
    assert moving.resolvent(1.0, u, 0.1, ())[0] == pytest.approx(
        pushed.resolvent(0.0, u, 0.1, ())[0], abs=1e-12
    )


@each_grid
@pytest.mark.parametrize("m", [0.6, 2.0])
def test_torch_and_float32_agree_with_numpy(grid, m):
    torch = pytest.importorskip("torch")
    flow = grid.flow(fl.porous_medium(m, "r**2/2") + fl.Internal("rho**2 + rho**4"))
    u = np.random.default_rng(0).random(grid.shape) + 0.1

    def results(state):
        v, memory = flow.resolvent(0.0, state, 0.1, ())
        assert memory[0] is v
        return flow.velocity(0.0, state), flow.variation(0.0, state), v

    reference, energy = results(u), flow.energy(0.0, u)
    for kind, tol in ((np.float64, 1e-13), (np.float32, 1e-5)):
        for state in (u.astype(kind), torch.as_tensor(u.astype(kind))):
            for mine, other in zip(results(state), reference, strict=True):
                assert type(mine) is type(state)
                assert mine.dtype == state.dtype
                error = np.abs(np.asarray(mine) - other).max()
                assert error <= tol * np.abs(other).max()
            assert flow.energy(0.0, state) == pytest.approx(energy, rel=tol)


def test_explicit_steps_at_the_bound_are_stable():
    for m, start in ((2.0, fl.Barenblatt(2.0, t=0.1)), (0.6, fl.Gaussian(0, 0.7))):
        grid = fl.Grid((-3, 3, 40))
        flow = grid.flow(fl.porous_medium(m, "x**2/2"))
        u = grid.project(start)
        for _ in range(200):
            u = u + flow.stable_step(0.0, u) * flow.velocity(0.0, u)
            assert u.min() >= -1e-15
    J = flow.jacobian(0.0, u).dense()
    largest = np.abs(np.linalg.eigvals(J)).max()
    assert 1.0 <= 2 / (largest * flow.stable_step(0.0, u)) <= 2.0


@pytest.mark.parametrize("m", [1.01, 1.1, 1.5, 2.0, 4.0])
def test_explicit_steps_from_compact_support_are_positive(m):
    grid = fl.Grid((-3, 3, 60))
    flow = grid.flow(fl.porous_medium(m))
    u = grid.project(fl.Uniform(-1, 1))
    for _ in range(50):
        u = u + flow.stable_step(0.0, u) * flow.velocity(0.0, u)
        assert 0 <= u.min() <= u.max() <= 0.5 + 1e-12


def test_dry_cells_do_not_limit_explicit_steps():
    # U'' is infinite at 0 for m < 2, the diffusion m p^(m-1) is not.
    grid = fl.Grid((-3, 3, 60))
    u = grid.project(fl.Uniform(-1, 1))
    h = grid.flow(fl.porous_medium(1.5)).stable_step(0.0, u)
    assert h >= 0.03 * grid.volume**2 / (1.5 * u.max() ** 0.5)


def test_failure_is_reported_with_the_residuals(monkeypatch):
    grid = fl.Grid((-2, 2, 20))
    flow = grid.flow(fl.porous_medium(2.0))
    u = grid.project(fl.Uniform(-1, 1))
    with pytest.raises(NewtonFailure, match="not finite"):
        flow.resolvent(0.0, u * np.nan, 0.1, ())
    monkeypatch.setattr(
        grid_nonlinear,
        "newton",
        lambda f, solve, x, **options: NewtonResult(x + 1.0, 1, [1.0]),
    )
    with pytest.raises(NewtonFailure, match="stalled at the residual") as info:
        flow.resolvent(0.0, u, 0.1, ())
    assert info.value.residuals == [1.0]
    # However rough the arithmetic, mass does not change.
    monkeypatch.setattr(grid_nonlinear, "EPS", 1e6)
    with pytest.raises(NewtonFailure, match="mass off by 20"):
        flow.resolvent(0.0, u, 0.1, ())


def test_flows_pickle_and_leave_states_alone():
    grid = fl.Grid((-2, 2, 20))
    flow = grid.flow(fl.porous_medium(2.0, "x**2/2"))
    u = grid.project(fl.Uniform(-1, 1))
    u.setflags(write=False)
    v, _ = flow.resolvent(0.0, u, 0.1, (u,))
    again = pickle.loads(pickle.dumps(flow))
    assert (again.resolvent(0.0, u, 0.1, (u,))[0] == v).all()
    assert flow.default() == ("TRBDF2", None)


def test_default_run_spreads_from_compact_support():
    grid = fl.Grid((-3, 3, 60))
    sol = fl.solve(
        grid.flow(fl.porous_medium(2.0, "x**2/2")),
        fl.Uniform(-0.5, 0.5),
        (0, 1),
        dt=fl.Adaptive(rtol=1e-4, atol=1e-6),
    )
    assert sol.stats["energy_rises"] == 0
    assert sol.stats["mass_drift"] < 1e-13
    assert sol.stats["minimum"] > -1e-6
