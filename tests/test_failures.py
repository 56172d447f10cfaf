"""Numerics that fail: what is kept, and what the message says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_reliability import GRID, HEAT, X0, array, run

import flows as fl


class Late(fl.Flow):
    """Velocity that turns NaN at t = 0.5."""

    def velocity(self, t, u):
        return u * (math.nan if t > 0.5 else -1.0)


@pytest.mark.parametrize("dt", [0.01, fl.Adaptive()], ids=["fixed", "adaptive"])
def test_nan_later_keeps_the_last_good_state(dt):
    with pytest.raises(fl.SolveError, match=r"non-finite|not finite") as caught:
        run(Late(), X0, scheme=fl.DormandPrince(), dt=dt)
    sol = caught.value.solution
    assert not sol.ok
    assert np.isfinite(sol.u).all()
    assert 0.4 < sol.t[-1] < 0.51


class Blowup(fl.Flow):
    """u' = u^2 from 1: infinite at t = 1."""

    def velocity(self, t, u):
        return u * u


def test_blow_up_names_its_time():
    with pytest.raises(
        fl.SolveError, match=r"t\* = 0\.99|t\* = 1\.0|t = 0\.99|t = 1"
    ) as caught:
        run(Blowup(), array(1.0), (0, 2), fl.DormandPrince(), fl.Adaptive())
    assert caught.value.solution.t[-1] == pytest.approx(1.0, abs=1e-3)


def test_blow_up_with_fixed_steps_stops():
    with pytest.raises(fl.SolveError, match="blow"):
        run(Blowup(), array(1.0), (0, 5), fl.RK4(), 0.05)


def test_max_steps_gives_a_partial_result_and_a_hint():
    stiff = fl.Euclidean().flow(fl.Potential("x**2/2 + 5000*y**2 + x**4"))
    with pytest.raises(fl.SolveError, match=r"max_steps=50.*stiff.*TRBDF2") as caught:
        run(stiff, X0, (0, 10), fl.DormandPrince(), fl.Adaptive(max_steps=50))
    assert 1 < len(caught.value.solution.t) <= 51


def test_steps_takes_an_unstable_step():
    flow = fl.Euclidean().flow(fl.quadratic(1.0))
    stream = fl.steps(flow, array(1.0), fl.Euler(), dt=3.0)
    assert [float(next(stream)[1][0]) for _ in range(3)] == [-2.0, 4.0, -8.0]


def test_a_rising_energy_is_counted_and_can_be_an_error():
    flow = fl.Euclidean().flow(fl.Potential("x**4/4"))
    sol = run(flow, array(1.0), (0, 15), fl.Euler(), 1.5, save_at=1.5)
    rising = fl.Euclidean().flow(fl.Potential("cos(5*x)"))
    bad = run(rising, array(0.1), (0, 2), fl.Euler(), 0.4)
    assert bad.stats["energy_rises"] >= 1
    assert bad.stats["largest_rise"] > 0
    with pytest.raises(fl.SolveError, match="energy rose"):
        run(rising, array(0.1), (0, 2), fl.Euler(), 0.4, on_step=fl.Check(descent=True))
    assert sol.stats["energy_rises"] == 0


def test_a_negative_density_is_an_error_never_clipped():
    rough = np.zeros(40)
    rough[20] = 5.0
    with pytest.raises(fl.SolveError, match=r"negative.*ImplicitEuler") as caught:
        run(HEAT, rough, (0, 2), fl.TRBDF2(), 0.5)
    assert caught.value.solution.u.min() >= 0


class Leak(fl.Flow):
    """A grid flow that loses mass."""

    space = GRID

    def velocity(self, t, u):
        return -u


def test_mass_drift_is_an_error():
    with pytest.raises(fl.SolveError, match="mass drifted"):
        run(Leak(), fl.Gaussian(0, 0.7))


class Unsolvable(fl.Flow):
    """Implicit equation without solution above h = 0.02."""

    def velocity(self, t, u):
        return -u

    def resolvent(self, t, w, h, memory):
        from flows.linear import NewtonFailure

        if h > 0.02:
            raise NewtonFailure("no luck", [1.0, 0.5])
        return w / (1 + h), ()


class Hopeless(Unsolvable):
    def resolvent(self, t, w, h, memory):
        from flows.linear import NewtonFailure

        raise NewtonFailure("no luck", [1.0, 0.5])


def test_inner_failure_halves_the_step_then_stops_with_residuals():
    sol = run(Unsolvable(), X0, scheme=fl.ImplicitEuler(), dt=0.1)
    assert sol.stats["halved"] > 0
    assert sol.u[-1] == pytest.approx(X0 * np.exp(-1), rel=2e-2)
    with pytest.raises(fl.SolveError, match=r"residuals 1.00e.00, 5.00e-01"):
        run(Hopeless(), X0, scheme=fl.ImplicitEuler(), dt=0.1)


def test_a_zero_atol_with_a_zero_component_is_explained():
    with pytest.raises(fl.SolveError, match="`atol` is 0"):
        run(t=(0, 1), u0=array(0.0, 1.0), scheme=fl.Tsit5(), dt=fl.Adaptive(1e-6, 0.0))


def test_coincident_particles_exert_no_force():
    flow = fl.Particles(3).flow(fl.Interaction("r"))
    x = np.zeros((3, 2))
    assert np.array_equal(flow.velocity(0.0, x), x)


def test_overflow_in_float32_is_an_error_not_a_result():
    flow = fl.Euclidean().flow(fl.Potential("-x**4"))
    with pytest.raises((fl.SolveError, ValueError), match="finite"):
        run(flow, array(1e12, dtype=np.float32), (0, 1), fl.Euler(), 0.5)


def cliff(x):
    """The gradient of |x|^2/2, without a value near 0."""
    return np.where(np.abs(x) < 0.5, np.nan, x)


STIFF = [fl.Radau(), fl.Rosenbrock(), fl.BDF(), fl.Exponential(), fl.TRBDF2()]
STIFF += [fl.SDIRK3(), fl.BDF2(), fl.ImplicitEuler()]


@pytest.mark.parametrize("scheme", [*STIFF, fl.Tsit5()], ids=repr)
@pytest.mark.parametrize("own", [False, True])
def test_adaptive_steps_do_not_creep_up_to_where_the_numbers_end(scheme, own):
    energy = fl.Potential(lambda x: (x**2).sum(-1) / 2, gradient=cliff)
    start = np.array([[1.0, 1.0], [1.5, 1.0]]) if own else np.array([1.0, 1.0])
    control = fl.Adaptive(rtol=1e-4, max_steps=2000)
    with pytest.raises(fl.SolveError, match="finite") as caught:
        fl.solve(
            fl.Euclidean().flow(energy),
            start,
            (0, 3),
            scheme,
            dt=control,
            save_at=[3.0] if own else None,
        )
    assert "Adaptive()" not in str(caught.value)
    assert ".." not in str(caught.value)
    assert np.abs(caught.value.solution.u).min() >= 0.5
    t = caught.value.solution.t[-1]
    assert t == pytest.approx(np.log(2.0), abs=1e-2)


@pytest.mark.parametrize("scheme", [*STIFF, fl.Tsit5()], ids=repr)
@pytest.mark.parametrize("own", [False, True])
def test_blow_up_names_its_time_under_every_scheme(scheme, own):
    start = np.array([[1.0], [0.5]]) if own else np.array([1.0])
    control = fl.Adaptive(rtol=1e-4, max_steps=5000)
    flow = fl.Euclidean().flow(fl.Potential("-x**4/4"))
    with pytest.raises(fl.SolveError, match=r"finite time at t\* = 0\.(49|50)"):
        fl.solve(flow, start, (0, 1), scheme, dt=control, save_at=[1.0])
