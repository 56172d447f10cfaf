"""Controllers of the step, step doubling, and what tolerances promise."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from scheme_toys import (
    FORCED,
    PROBLEMS,
    START,
    WELL,
    Linear,
    final,
    observed,
    well_exact,
)

import flows as fl
from flows.control import Controller, first_step

CONTROLLERS = {
    "PI": fl.PI(),
    "H312": fl.PID(),
    "H211": fl.PID.h211(),
    "H321": fl.PID.h321(),
    "gains": fl.PID((0.3 + 0.4 + 0.05, -0.4 - 0.1, 0.05)),
}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_steady_error_gives_a_steady_step(name):
    """At e = safety^(q / sum b), the error at which the step stays as it is."""
    controller, q = CONTROLLERS[name], 5
    b = [0.7, -0.4, 0.0] if name == "PI" else controller.errors
    e = controller.safety ** (q / sum(b))
    assert controller.factor((e, e, e), (1.0, 1.0), q) == pytest.approx(1.0, rel=1e-12)
    array = np.full(3, e)
    got = controller.factor((array, array, array), (np.ones(3), np.ones(3)), q)
    assert got == pytest.approx(1.0, rel=1e-12)


def closed_loop(controller, q, phi, h=1.0):
    """Steps when the error is phi_n h^q: the model of the paper."""
    errors, steps = [1.0, 1.0], [0.0, 0.0]
    taken = []
    for p in phi:
        e = p * h**q
        ratios = (
            h / steps[0] if steps[0] else 1.0,
            steps[0] / steps[1] if steps[1] else 1.0,
        )
        factor = controller.factor((e, *errors), ratios, q)
        taken.append(h)
        errors, steps = [e, errors[0]], [h, steps[0]]
        h = h * factor
    return np.array(taken)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_closed_loop_finds_the_step_of_the_tolerance(name):
    controller, q = CONTROLLERS[name], 4
    b = [0.7, -0.4, 0.0] if name == "PI" else controller.errors
    h = closed_loop(controller, q, np.full(400, 16.0))
    wanted = (controller.safety ** (q / sum(b)) / 16.0) ** (1 / q)
    assert h[-1] == pytest.approx(wanted, rel=1e-6)


def test_filters_give_smoother_steps_where_the_error_is_noisy():
    rng = np.random.default_rng(0)
    phi = np.exp(rng.normal(size=4000))
    rough = {}
    for name in ("PI", "H211", "H312"):
        h = closed_loop(CONTROLLERS[name], 4, phi)[100:]
        rough[name] = float(np.std(np.diff(np.log(h))))
    assert rough["H312"] < rough["H211"] < 0.5 * rough["PI"]


def test_the_factors_stay_in_their_bounds():
    controller = fl.PID(smallest=0.3, largest=2.0)
    assert controller.factor((0.0, 1.0, 1.0), (1.0, 1.0), 4) == 2.0
    assert controller.factor((1e-30, 1e-4, 1e-4), (1.0, 1.0), 4) == 2.0
    assert controller.factor((1.0, 1e9, 1e90), (1.0, 1.0), 4) == 0.3
    both = np.array([0.0, 1.0])
    assert controller.factor((both, both + 1, both + 1), (1.0, 1.0), 4)[0] == 2.0
    assert controller.shrink(1e9, 4) == 0.3
    assert controller.shrink(1.01, 4) <= 0.9
    assert controller.shrink(np.array([1e9, 1.01]), 4).tolist() == [
        0.3,
        controller.shrink(1.01, 4),
    ]


@pytest.mark.parametrize("name", CONTROLLERS)
def test_runs_keep_their_tolerance_with_every_controller(name):
    dt = fl.Adaptive(1e-7, 1e-10, controller=CONTROLLERS[name])
    sol = fl.solve(WELL, [0.1], (0, 8), fl.DormandPrince(), dt=dt)
    exact = np.array([well_exact(t, np.array([0.1])) for t in sol.t])
    assert np.abs(sol.u - exact).max() < 2e-6
    # The filters need many steps to grow from the first one; none may stall.
    assert sol.stats["steps"] < 400
    assert sol.stats["rejected"] <= 0.1 * sol.stats["steps"] + 2


def test_controllers_are_frozen_values_that_pickle():
    for controller in CONTROLLERS.values():
        assert pickle.loads(pickle.dumps(controller)) == controller
        assert isinstance(controller, Controller)
    assert fl.PID.h211(2.0).errors == (0.5, 0.5, 0.0)


@pytest.mark.parametrize(
    ("call", "kind", "pattern"),
    [
        (lambda: fl.PID((1.0, 2.0)), ValueError, "`errors` must be 3 numbers"),
        (lambda: fl.PID(steps=(1.0,)), ValueError, "`steps` must be 2 numbers"),
        (lambda: fl.PID(("a", 1, 2)), TypeError, "`errors` must be 3 numbers"),
        (lambda: fl.PID((1, math.nan, 2)), ValueError, "`errors` must be 3 numbers"),
        (lambda: fl.PID.h211(-1), ValueError, "`b` must be a positive"),
        (lambda: fl.Adaptive(controller=3), TypeError, r"PI\(...\) or PID\(...\)"),
        (lambda: fl.StepDoubling(fl.BDF2()), ValueError, "history.*one-step scheme"),
        (lambda: fl.StepDoubling(fl.EulerMaruyama()), ValueError, "random numbers"),
        (lambda: fl.StepDoubling(fl.Exact()), ValueError, "no error in time"),
        (lambda: fl.StepDoubling(fl.RK4), TypeError, r"one-step scheme such as RK4"),
        (
            lambda: fl.solve(WELL, [0.1], (0, 1), fl.RK4(), dt=fl.Adaptive()),
            ValueError,
            r"StepDoubling\(RK4\(\)\)",
        ),
    ],
)
def test_wrong_arguments_say_what_is_allowed(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()


def test_a_checkpoint_refuses_a_controller_that_it_does_not_know(tmp_path):
    class Mine(fl.PI):
        pass

    dt = fl.Adaptive(controller=Mine())
    hook = fl.Checkpoint(tmp_path / "run.npz")
    with pytest.raises(
        TypeError, match=r"knows the controllers PI and PID, not .*Mine"
    ):
        fl.solve(WELL, [0.1], (0, 1), fl.Tsit5(), dt=dt, on_step=hook)


INNER = [
    fl.Euler(),
    fl.Heun(),
    fl.RK4(),
    fl.Tsit5(),
    fl.ImplicitEuler(),
    fl.TRBDF2(),
    fl.SDIRK3(),
    fl.MinimizingMovement(),
]
SIZES = {1: (64, 96, 128, 192), 2: (48, 64, 96, 128), 3: (32, 48, 64, 96)}
SIZES |= {4: (96, 128, 160, 192), 5: (24, 32, 48, 64), 6: (32, 40, 48, 64)}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("extrapolate", [False, True])
@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_doubled_schemes_have_their_order(inner, extrapolate, name):
    scheme = fl.StepDoubling(inner, extrapolate)
    flow, u0, exact, end = PROBLEMS[name]
    counts = SIZES[scheme.order]
    errors = [
        float(np.linalg.norm(final(scheme, flow, u0, end, n) - exact(end, u0)))
        for n in counts
    ]
    slope = observed(end / np.array(counts), errors)
    assert scheme.order == inner.order + extrapolate
    assert scheme.order - 0.15 <= slope <= scheme.order + 0.3, (slope, errors)


@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_the_doubled_estimate_is_the_local_error_to_leading_order(inner):
    flow, u0, h = WELL, START * 0.75, {1: 2e-3, 2: 4e-3, 3: 0.02, 4: 0.03, 5: 0.06}
    size = h[inner.order]
    step = fl.StepDoubling(inner).step(flow, 0.0, u0, size, None, ())
    local = step.u - well_exact(size, u0)
    np.testing.assert_allclose(step.error, local, rtol=0.15)


def test_the_work_of_three_steps_is_counted():
    step = fl.StepDoubling(fl.RK4()).step(WELL, 0.0, np.array([0.3]), 0.1, None, ())
    assert step.stats == {"velocity_calls": 12}
    doubled = fl.StepDoubling(fl.ImplicitEuler())
    step = doubled.step(WELL, 0.0, np.array([0.3]), 0.1, None, ())
    assert step.stats["resolvent_calls"] == 3
    again = doubled.step(WELL, 0.1, step.u, 0.1, None, step.memory)
    plain = doubled.step(WELL, 0.1, step.u, 0.1, None, ())
    np.testing.assert_allclose(again.u, plain.u, rtol=1e-14)


@pytest.mark.parametrize("extrapolate", [False, True])
@pytest.mark.parametrize("inner", [fl.Euler(), fl.Heun(), fl.RK4()], ids=repr)
def test_the_stability_interval_is_that_of_the_linear_equation(inner, extrapolate):
    scheme = fl.StepDoubling(inner, extrapolate)
    growth = [
        abs(scheme.step(Linear((-1.0, -1.0)), 0.0, np.array([1.0, 0.0]), x, None, ()).u)
        for x in scheme.stability * np.array([0.3, 0.7, 0.99, 1.02])
    ]
    size = [float(np.linalg.norm(g)) for g in growth]
    assert max(size[:3]) <= 1.0 < size[3]
    assert math.isinf(fl.StepDoubling(fl.TRBDF2(), extrapolate).stability)


@pytest.mark.parametrize("extrapolate", [False, True])
@pytest.mark.parametrize("inner", [fl.RK4(), fl.Heun(), fl.SDIRK3()], ids=repr)
def test_doubled_schemes_adapt(inner, extrapolate):
    scheme = fl.StepDoubling(inner, extrapolate)
    dt = fl.Adaptive(1e-7, 1e-10)
    sol = fl.solve(WELL, [0.1, 0.4], (0, 6), scheme, dt=dt)
    exact = np.array([well_exact(t, np.array([0.1, 0.4])) for t in sol.t])
    assert np.abs(sol.u - exact).max() < 3e-5
    assert repr(scheme) in sol.stats["scheme"]
    twin = pickle.loads(pickle.dumps(scheme))
    assert twin == scheme
    assert hash(twin) == hash(scheme)


def test_a_doubled_splitting_adapts_and_noise_is_refused():
    flow = fl.LangevinParticles(5).flow(fl.kl("x**2/2"))
    with pytest.raises(TypeError, match="noise"):
        fl.solve(
            flow, np.zeros((5, 1)), (0, 1), fl.StepDoubling(fl.Euler()), dt=0.1, rng=0
        )
    with pytest.raises(ValueError, match=r"StepDoubling\(RK4\(\)\)"):
        fl.schemes.scheme_named("StepDoubling")


@pytest.mark.parametrize(
    ("scheme", "power"),
    [
        (fl.TRBDF2(), 2 / 3),
        (fl.BDF2(), 2 / 3),
        (fl.ImplicitEuler(), 1 / 2),
        (fl.SDIRK3(), 1.0),
        (fl.DormandPrince(), 1.0),
    ],
    ids=repr,
)
def test_the_global_error_has_the_power_of_the_tolerance(scheme, power):
    """Tolerance^(p/q): what the docstring of Adaptive says."""
    tolerances = 10.0 ** -np.array([4.0, 5.0, 6.0, 7.0])
    if scheme.order == 1:
        tolerances = 10.0 ** -np.array([3.0, 3.5, 4.0, 4.5])
    if scheme.order == 5:
        tolerances = 10.0 ** -np.array([6.0, 7.0, 8.0, 9.0, 10.0])
    errors = []
    for tol in tolerances:
        dt = fl.Adaptive(float(tol), float(tol) * 1e-3)
        sol = fl.solve(FORCED, np.array([1.0, 0.4]), (0, 1.5), scheme, dt=dt)
        exact = np.array([1.0, 0.4]) / (1 + np.array([1.0, 0.4]) * 1.5**2)
        errors.append(float(np.abs(sol.u[-1] - exact).max()))
    slope = observed(tolerances, errors)
    assert power - 0.12 <= slope <= power + 0.25, (slope, errors)


def test_first_steps_of_members_are_those_of_each_alone():
    class Members(fl.Flow):
        space = None

        def velocity(self, t, u):
            return -(1 + t) * u**3

        def norm(self, e):
            return np.sqrt(np.mean(e * e, axis=-1))

    u = np.array([[1.0, 2.0], [30.0, 4.0], [0.0, 0.0]])
    t = np.array([0.0, 1.0, 2.0])
    together = first_step(Members(), fl.Adaptive(), t, u, 5, 9.0 - t)
    for i in range(3):
        one = first_step(fl.Flow(), fl.Adaptive(first=0.1), 0.0, u[i], 5, 9.0)
        assert one == 0.1
        alone = first_step(
            Members(), fl.Adaptive(), t[i : i + 1], u[i : i + 1], 5, 9.0 - t[i : i + 1]
        )
        assert together[i] == pytest.approx(alone[0], rel=1e-12)
