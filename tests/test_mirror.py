"""Mirror flows: the simplex, positive vectors, p-norms, and maps of one's own."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import flows as fl
from flows.linear import NewtonFailure
from flows.spaces.costs import BregmanCost, linear_model
from flows.spaces.mirror_maps import Burg, Entropy, Simplex
from flows.spaces.p_norms import PNorm

POINTS = {
    fl.Mirror.simplex(): [0.6, 0.3, 0.1],
    fl.Mirror.positive(): [0.6, 2.2, 0.2],
    fl.Mirror.burg(): [0.6, 2.2, 0.2],
    fl.Mirror.p_norm(1.5): [0.6, -2.2, 0.2],
    fl.Mirror.p_norm(3): [0.6, -2.2, 0.2],
}
CASES = [pytest.param(s, np.array(x), id=repr(s)) for s, x in POINTS.items()]
QUARTIC = fl.Potential("(x - 0.2)**2 + 3*(y - 0.1)**2 + (z - 0.7)**4 + x*y")
MILD_ENERGY = fl.Potential("(x - 0.2)**2 + (y - 0.1)**2 + (z - 0.7)**4 + x*y/2")
MILD = np.array([0.6, 1.2, 0.4])
TIGHT = fl.Adaptive(rtol=1e-12, atol=1e-13)


def sinh_map(**changes):
    """phi = sum cosh x, a map of the user's own."""
    parts = {
        "value": lambda x: np.cosh(x).sum(-1),
        "gradient": np.sinh,
        "inverse": np.arcsinh,
        "name": "cosh",
    }
    return fl.MirrorMap(**{**parts, **changes})


def end(flow, u0, t, scheme, dt):
    return fl.solve(flow, u0, (0, t), scheme, dt=dt).u[-1]


@pytest.mark.parametrize(("space", "x"), CASES)
def test_the_chart_and_its_inverse_undo_each_other(space, x):
    flow = space.flow(QUARTIC)
    assert np.allclose(flow.decode(flow.encode(x)), x, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("space", "x"), CASES)
def test_the_jacobian_is_the_derivative_of_the_velocity(space, x):
    flow = space.flow(QUARTIC)
    z, e = flow.encode(x), 1e-6
    columns = [
        (flow.velocity(0.0, z + e * d) - flow.velocity(0.0, z - e * d)) / (2 * e)
        for d in np.eye(3)
    ]
    assert np.abs(np.stack(columns, -1) - flow.jacobian(0.0, z)).max() < 1e-7


@pytest.mark.parametrize(("space", "x"), CASES)
def test_the_energy_falls_by_the_inner_product_of_the_velocity(space, x):
    flow = space.flow(QUARTIC)
    z, e = flow.encode(x), 1e-5
    v = flow.velocity(0.0, z)
    rate = flow.energy(0.0, flow.decode(z + e * v)) - flow.energy(
        0.0, flow.decode(z - e * v)
    )
    assert rate / (2 * e) == pytest.approx(-flow.inner(z, v, v), rel=1e-6)


@pytest.mark.parametrize(("space", "x"), CASES)
def test_root_and_product_are_the_hessian_of_the_conjugate(space, x):
    map = space.map
    z, e = map.gradient(x), 1e-6
    L, a = map.root(z), np.array([1.0, 2.0, -0.5])
    change = (map.inverse(z + e * a) - map.inverse(z - e * a)) / (2 * e)
    assert np.allclose(L @ L.T @ a, change, rtol=1e-6, atol=1e-8)
    assert np.allclose(map.applied(z, a), change, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("space", "x"), CASES)
@pytest.mark.parametrize("h", [0.01, 1.0, 100.0])
def test_the_proximal_step_solves_its_equation_and_minimizes(space, x, h):
    flow = space.flow(QUARTIC)
    z = flow.encode(x)
    v, memory = flow.prox(0.0, z, h, ())
    gap = v - h * flow.velocity(0.0, v) - z
    assert np.abs(gap).max() < 1e-12 * (1 + h * np.abs(flow.velocity(0.0, z)).max())
    assert np.array_equal(memory[0], v)

    def objective(y):
        return flow.energy(0.0, y) + space.divergence(y, x) / h

    best = objective(flow.decode(v))
    rng = np.random.default_rng(0)
    for size in (1e-3, 0.1):
        others = flow.decode(v + size * rng.normal(size=(50, 3)))
        assert (objective(others) >= best - 1e-14).all()


@pytest.mark.parametrize(("space", "x"), CASES)
@pytest.mark.parametrize(
    "scheme", [fl.Euler(), fl.Heun(), fl.RK4(), fl.ImplicitEuler(), fl.TRBDF2()]
)
def test_schemes_have_their_order_in_the_chart(space, x, scheme):
    # The maps of p-norms are not smooth where a coordinate changes sign.
    flow = space.flow(MILD_ENERGY)
    start = np.array([0.6, 0.3, 0.1]) if space == fl.Mirror.simplex() else MILD
    exact = end(flow, start, 0.25, fl.DOP853(), TIGHT)

    def error(h):
        return space.distance(end(flow, start, 0.25, scheme, h), exact)

    steps = [1 / 32, 1 / 48, 1 / 64, 1 / 96]
    slope = fl.convergence(error, steps).slope
    assert scheme.order - 0.1 < slope < scheme.order + 0.2


def test_mirror_descent_is_explicit_euler():
    x, h, g = np.array([0.5, 0.3, 0.2]), 0.3, np.array([2 * 0.5, 2 * 0.3, 2 * 0.2])
    one = end(fl.Mirror.simplex().flow(fl.Potential("r**2")), x, h, fl.Euler(), h)
    weights = x * np.exp(-h * g)
    assert np.abs(one - weights / weights.sum()).max() < 1e-15


@pytest.mark.parametrize("dt", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(
    "scheme", [fl.Euler(), fl.ImplicitEuler(), fl.RK4(), fl.JKO(), fl.Exact()]
)
def test_linear_energies_are_exact_at_any_step(scheme, dt):
    p = fl.problems.simplex_linear([1.0, 2.0, 0.5], [0.3, 0.5, 0.2])
    u = end(fl.Mirror.simplex().flow(p.energy), p.exact(0.0), 10.0, scheme, dt)
    assert np.abs(u - p.exact(10.0)).max() < 1e-14


@pytest.mark.parametrize("energy", ["x + 2*y + z/2", "3", "2*x - z + 0*y"])
def test_typed_linear_energies_offer_the_exact_flow(energy):
    assert hasattr(fl.Mirror.simplex().flow(fl.Potential(energy)), "exact")


@pytest.mark.parametrize("energy", ["x**2 + y", "x*y", "t*x + y", "abs(x) + y"])
def test_other_energies_do_not(energy):
    assert not hasattr(fl.Mirror.simplex().flow(fl.Potential(energy)), "exact")


def test_states_stay_inside_after_a_hundred_thousand_units_of_time():
    p = fl.problems.simplex_linear([1.0, 2.0, 0.5], [0.3, 0.5, 0.2])
    sol = fl.solve(
        fl.Mirror.simplex().flow(p.energy), p.exact(0.0), (0, 1e5), fl.RK4(), dt=50.0
    )
    assert (sol.u > 0).all()
    assert np.isfinite(sol.energy).all()
    assert np.abs(sol.u[-1].sum() - 1) < 1e-15
    # The chart still knows the logarithm of what has underflowed.
    z = sol.final.u
    assert np.allclose(z - z[2], p.exact.logs(1e5), rtol=1e-12)


def test_a_nonlinear_energy_runs_for_a_hundred_thousand_units_of_time():
    flow = fl.Mirror.simplex().flow(fl.Potential("(x - 2)**2 + y**2 + z**2"))
    u = end(flow, np.full(3, 1 / 3), 1e5, fl.ImplicitEuler(), 100.0)
    assert (u > 0).all()
    assert np.abs(u - [1, 0, 0]).max() < 1e-15


def test_relative_entropy_moves_on_a_line_of_logarithms():
    p = fl.problems.simplex_kl()
    flow = fl.Mirror.simplex().flow(p.energy)
    assert np.abs(end(flow, p.exact(0), 3.0, fl.DOP853(), TIGHT) - p.exact(3)).max() < (
        1e-11
    )
    descended = end(flow, p.exact(0.0), 2.0, fl.Euler(), 0.25)
    assert np.abs(descended - p.exact.descent(8, 0.25)).max() < 1e-14
    implicit = end(flow, p.exact(0.0), 2.0, fl.JKO(), 0.25)
    assert np.abs(implicit - p.exact.at(1.25**-8)).max() < 1e-13


@pytest.mark.parametrize("kind", ["simplex_linear", "simplex_kl"])
def test_closed_forms_on_the_simplex_agree_with_integration(kind):
    starts = np.array([[0.7, 0.2, 0.1], [0.05, 0.15, 0.8]])
    p = getattr(fl.problems, kind)(x0=starts)
    sol = fl.solve(
        fl.Mirror.simplex().flow(p.energy), p.initial, p.t, fl.DOP853(), dt=TIGHT
    )
    for t, u, e in zip(sol.t, sol.u, sol.energy, strict=True):
        assert np.abs(u - p.exact(t)).max() < 1e-10
        assert np.allclose(e, p.exact_energy(t), atol=1e-10)
    assert np.abs(p.exact(60.0) - p.limit).max() < 1e-12
    assert pickle.loads(pickle.dumps(p)).exact(1.0).tolist() == p.exact(1.0).tolist()


def test_rock_paper_scissors_conserves_the_product_and_euler_spirals_out():
    p = fl.problems.rock_paper_scissors()
    flow = fl.Mirror.simplex().flow(p.energy, p.constants["drift"])
    assert not flow.is_gradient
    sol = fl.solve(flow, p.initial, p.t, fl.DOP853(), dt=TIGHT)
    product = sol.u.prod(-1)
    assert np.abs(product / p.constants["product"] - 1).max() < 1e-10
    outwards = fl.solve(flow, p.initial, p.t, fl.Euler(), dt=0.05).u.prod(-1)
    assert (np.diff(outwards) < 0).all()
    assert outwards[-1] < 0.95 * outwards[0]


def test_games_with_unequal_stakes_spiral_in_to_the_equilibrium():
    p = fl.problems.rock_paper_scissors(win=2.0, loss=1.0)
    assert np.allclose(p.constants["equilibrium"], 1 / 3)
    flow = fl.Mirror.simplex().flow(p.energy, p.constants["drift"])
    product = fl.solve(flow, p.initial, p.t, fl.RK4(), dt=0.05).u.prod(-1)
    assert (np.diff(product) > 0).all()


def test_the_replicator_equation_is_the_mirror_flow_of_its_payoffs():
    B = np.array([[1.0, 2.0, 0.5], [-1.0, 0.3, 1.0], [0.2, 0.7, -2.0]])
    p = fl.problems.replicator(B, [0.2, 0.5, 0.3])
    flow = fl.Mirror.simplex().flow(p.energy, p.constants["drift"])
    x = p.initial
    v = flow.space.map.applied(flow.encode(x), flow.velocity(0.0, flow.encode(x)))
    assert np.abs(v - x * (B @ x - x @ B @ x)).max() < 1e-15
    assert fl.problems.replicator(B + B.T, x).constants["drift"] is None


def test_a_batch_moves_as_its_members():
    flow = fl.Mirror.simplex().flow(QUARTIC)
    starts = np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    for scheme in (fl.RK4(), fl.ImplicitEuler()):
        both = end(flow, starts, 1.0, scheme, 0.1)
        for start, u in zip(starts, both, strict=True):
            assert np.abs(end(flow, start, 1.0, scheme, 0.1) - u).max() < 1e-14
    z = flow.encode(starts)
    assert flow.inner(z, z, z).shape == flow.norm(z).shape == (2,)
    assert flow.admissible(z).tolist() == [True, True]


def test_members_of_a_batch_may_have_their_own_steps():
    flow = fl.Mirror.positive().flow(QUARTIC)
    z = flow.encode(np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]))
    h = np.array([[0.1], [2.0]])
    v, _ = flow.prox(0.0, z, h, ())
    for i in range(2):
        alone, _ = flow.prox(0.0, z[i], float(h[i, 0]), ())
        assert np.abs(alone - v[i]).max() < 1e-13


@pytest.mark.parametrize(("space", "x"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tensors_give_the_same_path(space, x, dtype):
    flow = space.flow(QUARTIC)
    tolerance = 1e-12 if dtype is torch.float64 else 2e-5
    for scheme in (fl.RK4(), fl.ImplicitEuler()):
        u = end(flow, torch.tensor(x, dtype=dtype), 0.5, scheme, 0.05)
        assert u.dtype == dtype
        assert np.abs(u.numpy() - end(flow, x, 0.5, scheme, 0.05)).max() < tolerance


def test_float32_underflows_without_a_trace():
    flow = fl.Mirror.simplex().flow(fl.Potential("x + 2*y"))
    u = end(flow, np.array([0.5, 0.5], "float32"), 1e4, fl.Euler(), 10.0)
    assert u.dtype == np.float32
    assert (u > 0).all()


def test_distances_are_lengths_of_geodesics():
    """Compared with the length of the geodesic itself, cut into small pieces."""
    x, y = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
    angle = np.arccos(np.sqrt(x * y).sum())
    s = np.linspace(0, 1, 2001)[:, None]
    circle = (
        np.sin((1 - s) * angle) * np.sqrt(x) + np.sin(s * angle) * np.sqrt(y)
    ) ** 2 / np.sin(angle) ** 2
    curves = {
        fl.Mirror.simplex(): (circle, lambda p: 1 / p),
        fl.Mirror.positive(): (
            ((1 - s) * np.sqrt(x) + s * np.sqrt(y)) ** 2,
            lambda p: 1 / p,
        ),
        fl.Mirror.burg(): (x ** (1 - s) * y**s, lambda p: 1 / p**2),
    }
    for space, (path, metric) in curves.items():
        step, middle = np.diff(path, axis=0), 0.5 * (path[1:] + path[:-1])
        length = np.sqrt((step**2 * metric(middle)).sum(-1)).sum()
        assert space.distance(x, y) == pytest.approx(length, rel=1e-6)
        assert space.distance(x, x * (1 + 1e-12)) < 1e-11


def test_the_divergence_is_half_the_squared_distance_nearby():
    for space, x in POINTS.items():
        x = np.array(x)
        y = space.map.inverse(space.map.gradient(x) + 1e-4 * np.array([1.0, -2, 0.5]))
        assert space.divergence(y, x) == pytest.approx(
            0.5 * space.distance(y, x) ** 2, rel=1e-3
        )


@pytest.mark.parametrize("map", [Simplex(), Entropy(), Burg(), PNorm(1.5), PNorm(3)])
def test_the_explicit_step_minimizes_linear_model_plus_cost(map):
    u, g, h = np.array([0.5, 0.3, 0.2]), np.array([1.0, -0.4, 0.3]), 0.2
    cost = BregmanCost(map)
    v = cost.step(u, g, h)
    best = linear_model(cost, u, v, g, h)
    z = map.gradient(v)
    rng = np.random.default_rng(1)
    others = map.inverse(map.center(z + 0.1 * rng.normal(size=(200, 3))))
    assert (linear_model(cost, u, others, g, h) >= best - 1e-15).all()
    assert best < 0


def test_a_map_of_ones_own_works_everywhere():
    space = fl.Mirror(sinh_map())
    flow, x = space.flow(fl.Potential("r**2/2")), np.array([2.0, -1.0])
    slow = end(flow, x, 1.0, fl.ImplicitEuler(), 1 / 256)
    tight = end(flow, x, 1.0, fl.DOP853(), TIGHT)
    # cosh(x) x' = -x.
    for a, b in zip(x, tight, strict=True):
        s = np.linspace(b, a, 4001)
        f = np.cosh(s) / s
        assert np.sum(0.5 * (f[1:] + f[:-1])) * (s[1] - s[0]) == pytest.approx(
            1.0, rel=1e-6
        )
    assert np.abs(slow - tight).max() < 5e-3
    z = flow.encode(x)
    J = -np.diag(1 / np.cosh(x))
    assert np.allclose(flow.jacobian(0.0, z), J, rtol=1e-8)
    assert flow.inner(z, z, z) == pytest.approx(float((z * z / np.cosh(x)).sum()))
    assert "MirrorMap(cosh)" in repr(space)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"inverse": np.sinh}, "away from `u0`.*gradient of the conjugate"),
        ({"value": lambda x: np.sinh(x).sum(-1)}, "not the gradient of its `value`"),
        ({"inverse": lambda z: z.sum(-1)}, "returned shape"),
        ({"gradient": lambda x: x / 0}, "not finite at index"),
    ],
)
def test_maps_that_do_not_belong_together_are_refused(changes, match):
    space = fl.Mirror(sinh_map(**changes))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=match):
        fl.solve(
            space.flow(fl.Potential("r**2/2")), [2.0, -1.0], (0, 1), fl.Euler(), dt=0.1
        )


def test_a_path_that_leaves_the_chart_is_told_what_a_mirror_can_do():
    flow = fl.Mirror.burg().flow(fl.Potential("-x - y"))
    for dt in (0.1, fl.Adaptive()):
        with pytest.raises(fl.SolveError, match=r"run earlier.*positive") as e:
            fl.solve(flow, np.ones(2), (0, 5), fl.RK4() if dt == 0.1 else None, dt=dt)
        assert "fl.bounds" not in str(e.value)
        # x' = x^2 from 1 grows beyond all bounds at t = 1.
        assert 0.9 < e.value.solution.t[-1] <= 1.0


def test_a_map_must_be_callable_and_a_map():
    with pytest.raises(TypeError, match="`inverse` of a MirrorMap must be callable"):
        sinh_map(inverse=3)
    for wrong in ((), ("simplex",)):
        with pytest.raises(
            TypeError, match=r"Write Mirror\.simplex.*MirrorMap of your"
        ):
            fl.Mirror(*wrong)
    with pytest.raises(ValueError, match="above 1"):
        fl.Mirror.p_norm(1)
    with pytest.raises(TypeError, match="number above 1"):
        fl.Mirror.p_norm("2")


@pytest.mark.parametrize(
    ("space", "u0", "match"),
    [
        (fl.Mirror.simplex(), [0.5, 0.6], "outside the simplex: sum 1.1, minimum 0.5"),
        (fl.Mirror.simplex(), [1.5, -0.5], r"u0\[1\] = -0.5"),
        (fl.Mirror.simplex(), [1.0, 0.0], "leave it out"),
        (fl.Mirror.positive(), [1.0, -2.0], r"positive orthant.*u0\[1\] = -2"),
        (fl.Mirror.burg(), [0.0, 1.0], r"positive orthant.*u0\[0\] = 0"),
        (fl.Mirror.positive(), np.ones((2, 2, 2)), r"takes \(n,\)"),
    ],
)
def test_starts_outside_are_refused_with_the_remedy(space, u0, match):
    flow = space.flow(fl.Potential("r**2"))
    with pytest.raises(ValueError, match=match):
        fl.solve(flow, np.array(u0), (0, 1), fl.Euler(), dt=0.1)


def test_what_is_no_potential_or_drift_is_refused():
    with pytest.raises(TypeError, match=r"Mirror cannot represent.*Entropy"):
        fl.Mirror.simplex().flow(fl.Entropy(1.0))
    with pytest.raises(TypeError, match="`drift` must be callable"):
        fl.Mirror.simplex().flow(fl.Potential("x"), drift=3.0)


def test_kinks_run_explicitly_and_are_refused_implicitly():
    flow = fl.Mirror.positive().flow(fl.Potential("abs(x - 1) + y"))
    assert np.isfinite(end(flow, np.array([2.0, 1.0]), 0.5, fl.RK4(), 0.1)).all()
    with pytest.raises(TypeError, match=r"no implicit step of.*kinks"):
        end(flow, np.array([2.0, 1.0]), 0.5, fl.ImplicitEuler(), 0.1)


def test_bursts_out_of_the_chart_are_failures_not_states():
    """Burg's z = -1/x must stay negative: -x pushes it through 0 at t = 1."""
    flow = fl.Mirror.burg().flow(fl.Potential("-x"))
    assert end(flow, np.array([1.0]), 0.5, fl.Euler(), 0.1) == pytest.approx(2.0)
    assert not flow.admissible(np.array([0.5]))
    with pytest.raises(fl.SolveError):
        fl.solve(flow, np.array([1.0]), (0, 2), fl.RK4(), dt=0.3)


def test_a_proximal_step_leaves_a_maximum():
    """-r^2 on the simplex: the center is a maximum, the steps go to a corner."""
    flow = fl.Mirror.simplex().flow(fl.Potential("-5*r**2"))
    z = flow.encode(np.full(3, 1 / 3))
    v, _ = flow.prox(0.0, z, 1.0, ())
    assert flow.energy(0.0, flow.decode(v)) < flow.energy(0.0, np.full(3, 1 / 3)) - 1
    stay, _ = flow.resolvent(0.0, z, 1.0, ())
    assert np.abs(stay - z).max() < 1e-15


def test_a_gradient_that_is_not_finite_is_a_newton_failure():
    flow = fl.Mirror.positive().flow(fl.Potential("sqrt(x - 1) + y"))
    with np.errstate(all="ignore"), pytest.raises(NewtonFailure, match="not finite"):
        flow.prox(0.0, np.array([-3.0, 0.0]), 1.0, ())


def test_mirrors_pickle_and_print_as_typed():
    for space in (*POINTS, fl.Mirror.simplex(dtype="float32")):
        assert eval(f"fl.{space!r}") == space
        assert pickle.loads(pickle.dumps(space)) == space
        flow = space.flow(fl.Potential("x + y"))
        assert repr(pickle.loads(pickle.dumps(flow))) == repr(flow)


def test_a_run_continues_in_the_chart():
    flow = fl.Mirror.simplex().flow(fl.Potential("x + 2*y"))
    first = fl.solve(flow, [0.5, 0.5], (0, 2000), fl.Euler(), dt=10.0)
    second = fl.solve(flow, first, (2000, 4000), fl.Euler(), dt=10.0)
    assert np.ptp(second.final.u) == pytest.approx(4000, rel=1e-12)
    assert (second.u > 0).all()


def test_measures_enter_and_leave():
    space = fl.Mirror.simplex()
    assert space.project(fl.Dirac([0.25, 0.75])).tolist() == [0.25, 0.75]
    assert isinstance(space.measure(np.array([0.25, 0.75])), fl.Dirac)
    with pytest.raises(ValueError, match="outside the simplex"):
        space.project(fl.Dirac([1.0, 1.0]))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: fl.problems.simplex_linear(x0=[0.5, 0.6, 0.1]), "positive with sum 1"),
        (lambda: fl.problems.simplex_kl(q=[0.5, 0.5, 0.0]), "`q` must be positive"),
        (lambda: fl.problems.replicator(np.eye(2), [0.2, 0.3, 0.5]), r"expected \(3"),
        (lambda: fl.problems.rock_paper_scissors(win=0.0), "`win` must be greater"),
    ],
)
def test_problems_of_the_simplex_refuse_what_is_not_on_it(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(("space", "x"), CASES)
def test_gradient_and_dissipation_pass_the_library_s_own_checks(space, x):
    flow = space.flow(QUARTIC)
    assert fl.check_gradient(flow, x).slope == pytest.approx(2.0, abs=0.05)
    sol = fl.solve(flow, x, (0, 0.25), fl.RK4(), dt=1 / 512)
    assert fl.theory.check_dissipation(sol, 3e-5)
    assert fl.check_descent(sol)


def relative_gap(flow, v, w, h):
    push = h * flow.velocity(0.0, v)
    return np.abs((v - push - w) / (1 + abs(v) + abs(w) + abs(push))).max()


@pytest.mark.parametrize("n", [2, 10, 60])
@pytest.mark.parametrize("h", [1.0, 1e3, 1e6])
def test_steep_energies_and_long_steps_are_solved_on_the_simplex(n, h):
    rng = np.random.default_rng(n)
    B = rng.normal(size=(n, n))
    flow = fl.Mirror.simplex().flow(fl.quadratic(B @ B.T, b=rng.normal(size=n)))
    z = flow.encode(rng.dirichlet(np.ones(n)))
    v, _ = flow.prox(0.0, z, h, ())
    assert relative_gap(flow, v, z, h) < 1e-7
    # A long step ends at the minimum over the simplex: no gradient below the mean.
    if h == 1e6:
        x = flow.decode(v)
        g = -flow.velocity(0.0, v)
        level = (x * g).sum()
        assert (g >= level - 1e-4 * np.abs(g).max()).all()


@pytest.mark.parametrize(
    "space", [fl.Mirror.positive(), fl.Mirror.burg(), fl.Mirror.p_norm(1.5)], ids=repr
)
@pytest.mark.parametrize("h", [1e-3, 1.0, 1e4])
def test_narrow_curved_valleys_are_followed(space, h):
    flow = space.flow(fl.Potential("100*(y - x**2)**2 + (1 - x)**2"))
    starts = np.random.default_rng(1).uniform(0.1, 3.0, size=(8, 2))
    z = flow.encode(starts)
    v, _ = flow.prox(0.0, z, h, ())
    assert relative_gap(flow, v, z, h) < 1e-7
    assert (flow.energy(0.0, flow.decode(v)) <= flow.energy(0.0, starts)).all()


def test_states_that_a_float_cannot_hold_end_the_run():
    flow = fl.Mirror.positive().flow(fl.Potential("-x"))
    with pytest.raises(fl.SolveError, match=r"outside Mirror\.positive\(\)"):
        fl.solve(flow, [1.0], (0, 1000), fl.RK4(), dt=1.0)
