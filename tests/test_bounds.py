"""States kept within a box: by projection, in logarithms, by rejection."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import flows as fl
from flows.linear import NewtonFailure

RNG = np.random.default_rng(8)


@pytest.fixture(autouse=True)
def same_numbers_in_every_test():
    """A test draws the same numbers alone, in any order and on any worker."""
    global RNG
    RNG = np.random.default_rng(8)


PROJECTED = fl.Euclidean(bounds=fl.bounds.projection(0.0, 1.0))
LOGARITHMIC = fl.Euclidean(bounds=fl.bounds.logarithm(0.0, 1.0))
POSITIVE = fl.Euclidean(bounds=fl.bounds.logarithm(0.0))
REJECTING = fl.Euclidean(bounds=fl.bounds.rejection(0.0))
BARRIER = fl.Potential("-log(x)")
WELL = fl.Potential("(x - 0.3)**4 + (x - 0.3)**2/2 + x*y/5 + (y - 0.6)**2")
KINDS = [fl.bounds.projection, fl.bounds.logarithm, fl.bounds.rejection]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda f: f.__name__)


def exact_barrier(x0, t):
    return np.sqrt(x0**2 + 2 * t)


@each_kind
@pytest.mark.parametrize(
    ("scheme", "order"), [(fl.Heun(), 2), (fl.RK4(), 4), (fl.TRBDF2(), 2)], ids=repr
)
def test_orders_hold_inside(kind, scheme, order):
    u = np.array([0.9, 0.2])
    free = fl.Euclidean().flow(WELL)
    exact = fl.solve(free, u, (0, 1), fl.DOP853(), dt=1 / 128, save_at=1.0).u[-1]
    flow = fl.Euclidean(bounds=kind(0.0, 1.0)).flow(WELL)
    sizes = [1 / 32, 1 / 64, 1 / 128, 1 / 256]
    errors = [
        np.abs(fl.solve(flow, u, (0, 1), scheme, dt=h).u[-1] - exact).max()
        for h in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert order - 0.2 < slope < order + 0.4


@each_kind
@pytest.mark.parametrize("rtol", [1e-4, 1e-7])
@pytest.mark.parametrize("scheme", [fl.Tsit5(), fl.TRBDF2()], ids=repr)
def test_the_barrier_is_followed_to_the_tolerance(kind, rtol, scheme):
    flow = fl.Euclidean(bounds=kind(0.0)).flow(BARRIER)
    u = np.array([1e-3])
    control = fl.Adaptive(rtol=rtol, atol=1e-3 * rtol)
    sol = fl.solve(flow, u, (0, 1), scheme, dt=control)
    assert (sol.u > 0).all()
    gap = np.abs(sol.u[:, 0] / exact_barrier(1e-3, sol.t) - 1)
    assert gap.max() < 300 * rtol
    assert fl.check_descent(sol)


@each_kind
def test_a_decay_to_the_bound_stays_positive_and_accurate(kind):
    # dx/dt = -3 x reaches 1e-13 at t = 10.
    flow = fl.Euclidean(bounds=kind(0.0)).flow(fl.quadratic(3.0))
    sol = fl.solve(
        flow, np.ones(2), (0, 10), fl.Tsit5(), dt=fl.Adaptive(rtol=1e-6, atol=1e-12)
    )
    assert (sol.u >= 0).all()
    assert sol.u[:, 0] == pytest.approx(np.exp(-3 * sol.t), rel=1e-4, abs=1e-11)


def test_logarithms_keep_the_digits_of_a_small_state():
    # z = log x falls at the constant rate 3, which every scheme has exactly.
    flow = POSITIVE.flow(fl.quadratic(3.0))
    for scheme in (fl.Euler(), fl.ImplicitEuler(), fl.RK4()):
        sol = fl.solve(flow, np.ones(1), (0, 100), scheme, dt=2.0)
        assert np.log(sol.u[:, 0]) == pytest.approx(-3 * sol.t, rel=1e-12)


@pytest.mark.parametrize(
    "scheme", [fl.RK4(), fl.ImplicitEuler(), fl.TRBDF2(), fl.JKO()]
)
def test_a_projected_flow_rests_on_the_bound_with_its_multiplier(scheme):
    # min x^2/2 + y^2/2 + x y/2 + 2 x - 3 y/2 over [0, 1]^2: x = 0, y = 1.
    A, b = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([-2.0, 1.5])
    flow = PROJECTED.flow(fl.quadratic(A, b=b))
    sol = fl.solve(flow, np.array([0.9, 0.2]), (0, 20), scheme, dt=0.1)
    assert (sol.u >= 0).all()
    assert (sol.u <= 1).all()
    assert sol.u[-1] == pytest.approx([0.0, 1.0], abs=1e-12)
    assert fl.check_descent(sol)
    assert (flow.velocity(0.0, sol.u[-1]) == 0).all()


def test_a_projected_path_is_exact_after_it_meets_the_bound():
    # y' = -(y - 2) - x/2, x' = -1 until x = 0 at t = 0.5, at rest afterwards.
    energy = fl.Potential("x + (y - 2)**2/2 + 0*x")
    space = fl.Euclidean(bounds=fl.bounds.projection(0.0))
    sol = fl.solve(
        space.flow(energy),
        np.array([0.5, 0.1]),
        (0, 1),
        fl.Tsit5(),
        dt=fl.Adaptive(rtol=1e-8, atol=1e-10),
    )
    assert sol.u[:, 0] == pytest.approx(np.maximum(0.5 - sol.t, 0), abs=1e-7)
    assert sol.u[:, 1] == pytest.approx(2 - 1.9 * np.exp(-sol.t), abs=1e-7)


@pytest.mark.parametrize(
    "jacobian",
    [None, fl.Dense(), fl.Banded(1, 1), fl.Sparse(np.ones((4, 4))), fl.Krylov()],
    ids=repr,
)
@pytest.mark.parametrize("h", [0.1, 1.0, 100.0])
def test_implicit_steps_minimize_over_the_box(jacobian, h):
    from scipy.optimize import minimize

    def energy(x):
        gaps = x[..., 1:] - x[..., :-1]
        return 2.0 * (gaps**2).sum(-1) + (x**4).sum(-1) - 3.0 * x[..., 0] + x[..., 3]

    u = np.array([[0.9, 0.1, 0.4, 0.8], [0.0, 1.0, 0.5, 0.5]])
    space = fl.Euclidean(jacobian=jacobian, bounds=fl.bounds.projection(0.0, 1.0))
    flow = space.flow(fl.Potential(energy))
    v, _ = flow.prox(0.0, u, h, ())
    assert ((v >= 0) & (v <= 1)).all()
    for a, b in zip(u, v, strict=True):

        def paid(x, a=a):
            return energy(x) + ((x - a) ** 2).sum() / (2 * h)

        best = minimize(paid, b, bounds=[(0, 1)] * 4, tol=1e-13)
        assert paid(b) <= best.fun + 1e-12
        # First-order conditions: a slope only at a bound, into it.
        slope = (b - a) / h - fl.Euclidean().flow(fl.Potential(energy)).velocity(0.0, b)
        assert np.abs(slope[(b > 0) & (b < 1)]).max(initial=0.0) < 1e-8
        assert (slope[b == 0] >= 0).all()
        assert (slope[b == 1] <= 0).all()


def test_separable_steps_are_clipped_coordinate_by_coordinate():
    flow = PROJECTED.flow(fl.separable("(x - 2)**2/2"))
    v, _ = flow.prox(0.0, np.array([0.0, 0.5, 1.0]), 0.25, ())
    assert v == pytest.approx([0.4, 0.8, 1.0], abs=1e-14)
    weighted = fl.Euclidean([1.0, 3.0], bounds=fl.bounds.projection(0.0, 1.0))
    v, _ = weighted.flow(fl.separable("(x - 2)**2/2")).prox(0.0, np.zeros(2), 0.3, ())
    # 3 (v - 0) = 0.3 (2 - v) for the heavy coordinate.
    assert v == pytest.approx([0.6 / 1.3, 0.6 / 3.3], abs=1e-14)


@pytest.mark.parametrize("scheme", [fl.Euler(), fl.RK4(), fl.ImplicitEuler()], ids=repr)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, np.inf), (-np.inf, 1.0)])
def test_logarithms_stay_strictly_inside(scheme, bounds):
    space = fl.Euclidean(bounds=fl.bounds.logarithm(*bounds))
    u = RNG.uniform(0.05, 0.95, size=(6, 2))
    sol = fl.solve(space.flow(WELL), u, (0, 20), scheme, dt=0.1)
    lower, upper = bounds
    assert ((sol.u > lower) & (sol.u < upper)).all()
    rest = fl.solve(fl.Euclidean().flow(WELL), u, (0, 20), scheme, dt=0.1).u[-1]
    assert sol.u[-1] == pytest.approx(rest, abs=1e-5)


CHARTS = {
    "positive": (0.0, np.inf, [0.3, 1e-8, 40.0]),
    "shifted": (-2.0, np.inf, [-1.9, 0.0, 7.0]),
    "below": (-np.inf, 1.0, [0.999, -4.0, 0.0]),
    "between": (-1.0, 3.0, [-0.999, 0.4, 2.99]),
    "mixed": ([0.0, -np.inf, -1.0], [1.0, np.inf, np.inf], [0.2, -7.0, 3.0]),
}


@pytest.mark.parametrize(("lower", "upper", "x"), CHARTS.values(), ids=list(CHARTS))
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_charts_are_inverted_and_differentiated(lower, upper, x, library):
    x = np.array(x)
    flow = fl.Euclidean(bounds=fl.bounds.logarithm(lower, upper)).flow(
        fl.Potential("x**2 + (y - x)**4 + exp(z)*cos(x)/10")
    )
    if library == "torch":
        x = pytest.importorskip("torch").from_numpy(x)
    z = flow.encode(x)
    assert np.asarray(flow.decode(z)) == pytest.approx(np.asarray(x), rel=1e-12)
    if library == "torch":
        assert type(flow.velocity(0.0, z)) is type(x)
        return
    e = 1e-6
    J = flow.jacobian(0.0, z)
    free = fl.Euclidean().flow(flow.functional)
    for i in range(3):
        step = e * np.eye(3)[i]
        moved = (flow.decode(z + step) - flow.decode(z - step)) / (2 * e)
        assert flow.slopes(z)[0][i] == pytest.approx(moved[i], rel=1e-6)
        column = flow.velocity(0.0, z + step) - flow.velocity(0.0, z - step)
        assert J[:, i] == pytest.approx(column / (2 * e), rel=1e-5, abs=1e-5)
    assert flow.velocity(0.0, z) * flow.slopes(z)[0] == pytest.approx(
        free.velocity(0.0, x)
    )
    found = fl.check_gradient(flow, x)
    assert found.slope == pytest.approx(2.0, abs=0.1)


def test_charts_do_not_overflow():
    flow = fl.Euclidean(bounds=fl.bounds.logarithm(-1.0, 1.0)).flow(fl.quadratic())
    z = np.array([-900.0, -40.0, 0.0, 40.0, 900.0])
    with np.errstate(all="raise", under="ignore"):
        x = flow.decode(z)
        assert (np.abs(x) <= 1).all()
        assert x == pytest.approx([-1, -1, 0, 1, 1])
        flow.slopes(z)


@pytest.mark.parametrize(
    "jacobian",
    [None, fl.Dense(), fl.Banded(1, 1), fl.Banded(2, 2), fl.Krylov()],
    ids=repr,
)
def test_logarithms_take_implicit_steps_with_every_structure(jacobian):
    def energy(x):
        gaps = x[..., 1:] - x[..., :-1]
        return 2.0 * (gaps**2).sum(-1) + (x**4).sum(-1) - (x[..., 0] + x[..., 3])

    space = fl.Euclidean(jacobian=jacobian, bounds=fl.bounds.logarithm(0.0))
    flow = space.flow(fl.Potential(energy))
    for u in (RNG.uniform(0.1, 2.0, size=4), RNG.uniform(0.1, 2.0, size=(3, 4))):
        w = flow.encode(u)
        z, _ = flow.resolvent(0.0, w, 0.2, ())
        assert z - w == pytest.approx(0.2 * flow.velocity(0.0, z), abs=1e-10)
    own = np.array([[0.1], [0.2], [0.4]])
    z, _ = flow.resolvent(0.0, w, own, ())
    assert z - w == pytest.approx(own * flow.velocity(0.0, z), abs=1e-10)


def test_logarithms_of_many_separable_coordinates_need_no_matrix():
    n = 20_000
    flow = POSITIVE.flow(fl.separable("x**2/2 - log(x)"))
    u = np.exp(RNG.normal(size=n))
    sol = fl.solve(flow, u, (0, 30), fl.ImplicitEuler(), dt=0.5, save_at=30.0)
    assert sol.u[-1] == pytest.approx(np.ones(n), abs=1e-9)


def test_logarithms_work_in_a_metric():
    flow = fl.Euclidean([1.0, 2.0], bounds=fl.bounds.logarithm(0.0)).flow(WELL)
    plain = fl.Euclidean([1.0, 2.0]).flow(WELL)
    u = np.array([0.9, 0.2])
    a = fl.solve(flow, u, (0, 2), fl.RK4(), dt=0.01).u[-1]
    b = fl.solve(plain, u, (0, 2), fl.RK4(), dt=0.01).u[-1]
    assert a == pytest.approx(b, abs=1e-8)
    sol = fl.solve(flow, u, (0, 1), fl.RK4(), dt=0.01)
    assert fl.theory.check_dissipation(sol, 1e-5)


def test_a_path_that_meets_its_bound_is_said_to_blow_up():
    flow = POSITIVE.flow(fl.Potential("x"))
    with pytest.raises(fl.SolveError) as caught:
        fl.solve(flow, np.array([0.5]), (0, 1), fl.Tsit5(), dt=fl.Adaptive())
    t = caught.value.solution.t[-1]
    assert t == pytest.approx(0.5, abs=1e-3)


def test_rejected_steps_are_repeated_until_they_are_inside():
    flow = REJECTING.flow(BARRIER)
    assert flow.admissible(np.array([0.1, 0.0])) is True
    assert flow.admissible(np.array([0.1, -1e-9])) is False
    inside = flow.admissible(np.array([[0.1], [-0.1]]))
    assert inside.tolist() == [True, False]
    # Without rejection this overshoots to a negative state.
    big = fl.Adaptive(rtol=1e-2, atol=10.0, first=0.5)
    sol = fl.solve(
        REJECTING.flow(fl.Potential("x**4/4 + 1e-3/x")),
        np.array([2.0]),
        (0, 5),
        fl.Heun(),
        dt=big,
    )
    assert (sol.u > 0).all()


def test_rejection_offers_what_the_flow_offers():
    flow = fl.Euclidean(bounds=fl.bounds.rejection(-5.0, 5.0)).flow(fl.quadratic(2.0))
    plain = fl.Euclidean().flow(fl.quadratic(2.0))
    u = np.ones(2)
    assert flow.exact(0.0, u, 0.3) == pytest.approx(plain.exact(0.0, u, 0.3))
    assert flow.stable_step(0.0, u) == plain.stable_step(0.0, u)
    for name in ("resolvent", "prox"):
        assert (getattr(flow, name)(0.0, u, 0.1, ())[0] < u).all()
    assert flow.jacobian(0.0, u) == pytest.approx(-2 * np.eye(2))
    other = fl.Euclidean(bounds=fl.bounds.rejection(0.0)).flow(WELL)
    assert not hasattr(other, "exact")


@each_kind
def test_a_drift_may_have_bounds(kind):
    space = fl.Euclidean(bounds=kind(0.0, 2.0))
    flow = space.flow(fl.quadratic(center=1.0), drift=lambda x: 0.1 * x)
    assert not flow.is_gradient
    sol = fl.solve(flow, np.array([0.5]), (0, 5), fl.RK4(), dt=0.1)
    # x' = 1 - 0.9 x.
    exact = 1 / 0.9 + (0.5 - 1 / 0.9) * np.exp(-0.9 * sol.t)
    assert sol.u[:, 0] == pytest.approx(exact, abs=1e-5)
    assert not hasattr(flow, "resolvent")
    assert flow.default()[0] == "DormandPrince"


@each_kind
def test_bounds_work_on_tensors_and_keep_float32(kind):
    torch = pytest.importorskip("torch")
    flow = fl.Euclidean(bounds=kind(0.0, 1.0)).flow(WELL)
    u = RNG.uniform(0.2, 0.8, size=(5, 2))
    ends = []
    for x in (u, torch.from_numpy(u), u.astype(np.float32)):
        sol = fl.solve(flow, x, (0, 1), fl.TRBDF2(), dt=0.1)
        assert sol.u.dtype == x.dtype
        ends.append(np.asarray(sol.u[-1]))
    assert ends[1] == pytest.approx(ends[0], abs=1e-9)
    assert ends[2] == pytest.approx(ends[0], abs=1e-4)


@each_kind
def test_members_of_a_batch_do_not_mix_in_bounds(kind):
    flow = fl.Euclidean(bounds=kind(0.0, 1.0)).flow(WELL)
    u = RNG.uniform(0.2, 0.8, size=(3, 2))
    whole = fl.solve(flow, u, (0, 1), fl.TRBDF2(), dt=0.1).u[-1]
    for x, end in zip(u, whole, strict=True):
        one = fl.solve(flow, x, (0, 1), fl.TRBDF2(), dt=0.1).u[-1]
        assert one == pytest.approx(end, abs=1e-9)
    assert flow.norm(np.ones((3, 2))).shape == (3,)


@pytest.mark.parametrize(
    ("space", "u", "text"),
    [
        (
            PROJECTED,
            [0.5, -0.3],
            r"`u0\[1\]` = -0.3 is beyond its lower bound 0; .*clip",
        ),
        (PROJECTED, [[0.5, 1.5]], r"`u0\[0, 1\]` = 1.5 is beyond its upper bound 1"),
        (REJECTING, [-1.0], r"`u0\[0\]` = -1 is beyond its lower bound 0"),
        (POSITIVE, [0.5, 0.0], r"`u0\[1\]` = 0 is on or beyond its lower bound 0; log"),
        (LOGARITHMIC, [1.0], r"`u0\[0\]` = 1 is on or beyond its upper.*projection"),
        (
            fl.Euclidean(bounds=fl.bounds.projection([0.0, 1.0])),
            [1.0, 2.0, 3.0],
            "`bounds` has 2 entries, but the state has 3",
        ),
    ],
)
def test_a_start_outside_is_refused(space, u, text):
    with pytest.raises(ValueError, match=text):
        fl.solve(space.flow(fl.quadratic()), np.array(u), (0, 1), fl.RK4(), dt=0.1)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: fl.bounds.projection("0"), ValueError, None),
        (lambda: fl.bounds.projection("zero"), TypeError, "`lower` must be a number"),
        (lambda: fl.bounds.projection(np.nan), ValueError, "without NaN"),
        (lambda: fl.bounds.projection(np.ones((2, 2))), ValueError, "`lower` must be"),
        (lambda: fl.bounds.logarithm(1.0, 1.0), ValueError, "`lower` must be below"),
        (lambda: fl.bounds.rejection([0, 0], [1, 1, 1]), ValueError, "has 2 entries"),
        (lambda: fl.bounds.rejection(), ValueError, "No bound is finite"),
        (
            lambda: fl.Euclidean(bounds=(0, 1)),
            TypeError,
            "must be fl.bounds.projection",
        ),
        (
            lambda: fl.Euclidean([[2, 1], [1, 2]], bounds=fl.bounds.projection(0)),
            ValueError,
            "needs a diagonal metric",
        ),
    ],
)
def test_wrong_bounds_are_named(make, kind, text):
    if text is None:
        assert make().lower == 0.0
        return
    with pytest.raises(kind, match=text):
        make()


def test_what_bounds_cannot_do_is_said():
    with pytest.raises(TypeError, match="may end on a bound, which has no logarithm"):
        fl.solve(POSITIVE.flow(fl.quadratic()), np.ones(1), (0, 1), fl.JKO(), dt=0.1)
    flow = PROJECTED.flow(fl.Potential("abs(x)"))
    for name in ("resolvent", "prox"):
        with pytest.raises(TypeError, match="with a kink within bounds"):
            getattr(flow, name)
    with pytest.raises(TypeError, match="with a kink within bounds"):
        POSITIVE.flow(fl.Potential("abs(x - 1)")).resolvent  # noqa: B018


def test_newton_in_logarithms_reports_what_it_cannot_solve():
    flow = POSITIVE.flow(fl.Potential("x"))
    with pytest.raises(NewtonFailure):
        flow.resolvent(0.0, np.array([-30.0]), 10.0, ())


@each_kind
def test_flows_with_bounds_pickle_and_are_written(kind):
    space = fl.Euclidean(bounds=kind(0.0, [1.0, math.inf]))
    flow = space.flow(WELL)
    again = pickle.loads(pickle.dumps(flow))
    u = np.array([0.5, 0.5])
    assert (again.velocity(0.0, u) == flow.velocity(0.0, u)).all()
    assert repr(space) == f"Euclidean(bounds={kind.__name__}(0.0, [1.0, inf]))"
