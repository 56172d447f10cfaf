"""Metrics of R^n: flows, distances, implicit steps, exact maps, what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.sparse.linalg import aslinearoperator

import flows as fl
from flows.linear import NewtonFailure

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def same_numbers_in_every_test():
    """A test draws the same numbers alone, in any order and on any worker."""
    global RNG
    RNG = np.random.default_rng(11)


N = 3
ROOT = RNG.normal(size=(N, N))
FULL = ROOT @ ROOT.T + np.eye(N)
WEIGHTS = np.array([1.0, 2.0, 0.5])
WELL = fl.Potential("(x**2 - 1)**2/4 + x*y/3 + y**4 + (z - x)**2")


def of_full(v):
    return v @ FULL


def inverse_of_full(g):
    return g @ np.linalg.inv(FULL)


def curved(x):
    """A metric that turns and grows with the point."""
    outer = x[..., :, None] * x[..., None, :]
    return np.eye(x.shape[-1]) + 0.5 * outer


CONSTANT = {
    "number": (2.0, 2.0 * np.eye(N)),
    "weights": (WEIGHTS, np.diag(WEIGHTS)),
    "matrix": (FULL, FULL),
    "products": (fl.metrics.operator(of_full), FULL),
    "products and solve": (fl.metrics.operator(of_full, inverse_of_full), FULL),
    "linear operator": (aslinearoperator(FULL), FULL),
}
each_metric = pytest.mark.parametrize(
    ("metric", "M"), CONSTANT.values(), ids=list(CONSTANT)
)


@each_metric
def test_the_velocity_is_the_steepest_descent_of_the_metric(metric, M):
    flow, plain = fl.Euclidean(metric).flow(WELL), fl.Euclidean().flow(WELL)
    for u in (RNG.normal(size=N), RNG.normal(size=(4, N))):
        v = flow.velocity(0.0, u)
        assert v @ M == pytest.approx(plain.velocity(0.0, u), abs=1e-11)
        a, b = RNG.normal(size=u.shape), RNG.normal(size=u.shape)
        assert flow.inner(u, a, b) == pytest.approx(((a @ M) * b).sum(-1), abs=1e-12)
        gap = fl.Euclidean(metric).distance(a, b)
        assert gap == pytest.approx(np.sqrt((((a - b) @ M) * (a - b)).sum(-1)))
        assert flow.energy(0.0, u) == pytest.approx(plain.energy(0.0, u))
        J = flow.jacobian(0.0, u)
        assert pytest.approx(np.linalg.inv(M) @ plain.jacobian(0.0, u), abs=1e-10) == J


@each_metric
@pytest.mark.parametrize("h", [0.05, 0.5])
def test_implicit_steps_pay_in_the_metric(metric, M, h):
    space = fl.Euclidean(metric)
    flow = space.flow(WELL)
    u = RNG.normal(size=(5, N))
    for method in (flow.resolvent, flow.prox):
        v, memory = method(0.0, u, h, ())
        assert memory[0] is v
        assert v - u == pytest.approx(h * flow.velocity(0.0, v), abs=1e-10)
    paid = flow.energy(0.0, v) + space.distance(u, v) ** 2 / (2 * h)
    assert (paid <= flow.energy(0.0, u) + 1e-12).all()
    one, _ = flow.prox(0.0, u[0], h, ())
    assert one == pytest.approx(v[0], abs=1e-10)


@each_metric
def test_a_flow_in_a_metric_is_a_plain_flow_in_other_coordinates(metric, M):
    # With M = L L^T and y = L^T x the metric of y is plain.
    L = np.linalg.cholesky(M)
    A = np.diag([1.0, 3.0, 0.2])
    u = RNG.normal(size=N)
    sol = fl.solve(
        fl.Euclidean(metric).flow(fl.quadratic(A)), u, (0, 1), fl.DOP853(), dt=0.02
    )
    half = np.linalg.inv(L)
    y = fl.solve(
        fl.Euclidean().flow(fl.quadratic(half @ A @ half.T)),
        L.T @ u,
        (0, 1),
        fl.DOP853(),
        dt=0.02,
    )
    assert sol.u @ L == pytest.approx(y.u, abs=1e-11)
    assert sol.u[-1] == pytest.approx(expm(-np.linalg.solve(M, A)) @ u, abs=1e-11)


@pytest.mark.parametrize("kind", ["number", "weights", "matrix"])
@pytest.mark.parametrize("A", [[1.0, 0.0, 4.0], [[2, 1, 0], [1, 2, 0], [0, 0, 0.5]]])
def test_a_quadratic_is_exact_in_a_metric(kind, A):
    metric, M = CONSTANT[kind]
    flow = fl.Euclidean(metric).flow(fl.quadratic(A, b=[1.0, -2.0, 0.5]))
    H = np.diag(A) if np.ndim(A) == 1 else np.array(A, float)
    B, g = np.linalg.solve(M, H), np.linalg.solve(M, [1.0, -2.0, 0.5])
    u, h = RNG.normal(size=N), 0.7
    # The flow of (x, 1) is linear, whether or not A is singular.
    whole = np.zeros((N + 1, N + 1))
    whole[:N, :N], whole[:N, N] = -B, g
    exact = (expm(h * whole) @ np.append(u, 1.0))[:N]
    assert flow.exact(0.0, u, h) == pytest.approx(exact, abs=1e-13)
    implicit = np.linalg.solve(np.eye(N) + h * B, u + h * g)
    assert flow.prox(0.0, u, h, ())[0] == pytest.approx(implicit, abs=1e-13)
    top = np.linalg.eigvals(B).real.max()
    assert flow.stable_step(0.0, u) == pytest.approx(2 / top)
    with pytest.raises(ValueError, match="above the stability bound"):
        fl.solve(flow, u, (0, 900), fl.Euler(), dt=2.1 / top)
    steps = np.array([[0.1], [0.7]])
    batch = flow.exact(0.0, np.array([u, u]), steps)
    assert batch[1] == pytest.approx(exact, abs=1e-13)


@each_metric
def test_the_energy_falls_by_the_inner_product_of_the_velocity(metric, M):
    flow = fl.Euclidean(metric).flow(WELL)
    sol = fl.solve(flow, np.array([1.0, -0.5, 2.0]), (0, 1), fl.RK4(), dt=0.01)
    assert fl.theory.check_dissipation(sol, 1e-5)
    found = fl.check_gradient(flow, np.array([1.0, -0.5, 2.0]))
    assert found.slope == pytest.approx(2.0, abs=0.05)


def test_the_gradient_check_notices_a_metric_that_is_not_that_of_the_flow():
    class Wrong(fl.metrics.Metric):
        def apply(self, x, v):
            return 1.1 * v

        def solve(self, x, g):
            return g

    flow = fl.Euclidean(Wrong()).flow(WELL)
    found = fl.check_gradient(flow, np.array([1.0, -0.5, 2.0]))
    assert found.slope < 1.3


def test_a_curved_metric_has_the_jacobian_of_its_velocity():
    flow = fl.Euclidean(metric=curved).flow(WELL)
    e = 1e-5
    for u in (RNG.normal(size=N), RNG.normal(size=(4, N))):
        J = flow.jacobian(0.0, u)
        for i in range(N):
            step = e * np.eye(N)[i]
            column = flow.velocity(0.0, u + step) - flow.velocity(0.0, u - step)
            assert J[..., i] == pytest.approx(column / (2 * e), abs=1e-7)
    products = fl.Euclidean(metric=curved, jacobian=fl.Krylov()).flow(WELL)
    w = RNG.normal(size=u.shape)
    along = products.jacobian(0.0, u).product(w)
    assert along == pytest.approx(np.einsum("bij,bj->bi", J, w), abs=1e-8)


@pytest.mark.parametrize("jacobian", [None, fl.Krylov()], ids=repr)
@pytest.mark.parametrize("h", [0.1, 1.0])
def test_a_curved_metric_has_implicit_steps(jacobian, h):
    flow = fl.Euclidean(metric=curved, jacobian=jacobian).flow(WELL)
    u = RNG.normal(size=(6, N))
    v, _ = flow.resolvent(0.0, u, h, ())
    assert v - u == pytest.approx(h * flow.velocity(0.0, v), abs=1e-11)
    own, _ = flow.resolvent(0.0, u, np.full((6, 1), h), ())
    assert own == pytest.approx(v, abs=1e-10)


@pytest.mark.parametrize(
    ("scheme", "order"), [(fl.ImplicitEuler(), 1), (fl.TRBDF2(), 2), (fl.RK4(), 4)]
)
def test_orders_hold_in_a_curved_metric(scheme, order):
    flow = fl.Euclidean(metric=curved).flow(WELL)
    u = np.array([1.0, -0.5, 2.0])
    exact = fl.solve(flow, u, (0, 0.5), fl.DOP853(), dt=0.002, save_at=0.5).u[-1]
    sizes = [1 / 16, 1 / 32, 1 / 64, 1 / 128]
    errors = [
        np.abs(fl.solve(flow, u, (0, 0.5), scheme, dt=h).u[-1] - exact).max()
        for h in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert order - 0.2 < slope < order + 0.35


def test_a_constant_function_is_a_constant_metric():
    same = fl.Euclidean(metric=lambda x: np.broadcast_to(FULL, (*x.shape, N)))
    a, b = same.flow(WELL), fl.Euclidean(FULL).flow(WELL)
    u = RNG.normal(size=(4, N))
    assert a.velocity(0.0, u) == pytest.approx(b.velocity(0.0, u), abs=1e-12)
    for f in (a, b):
        assert f.resolvent(0.0, u, 0.3, ())[0] == pytest.approx(
            b.resolvent(0.0, u, 0.3, ())[0], abs=1e-11
        )


def test_a_metric_of_ones_own_needs_two_methods():
    class Hyperbolic(fl.metrics.Metric):
        """The upper half plane, |v|^2/y^2."""

        constant = False

        def apply(self, x, v):
            return v / x[..., 1:] ** 2

        def solve(self, x, g):
            return g * x[..., 1:] ** 2

    # Along V = x^2 + log(y)^2 the velocity is (-2 x y^2, -2 y log y).
    flow = fl.Euclidean(metric=Hyperbolic()).flow(fl.Potential("x**2 + log(y)**2"))
    u = np.array([0.7, 3.0])
    expected = [-2 * 0.7 * 9, -6 * np.log(3)]
    assert flow.velocity(0.0, u) == pytest.approx(expected)
    sol = fl.solve(flow, u, (0, 2), fl.TRBDF2(), dt=fl.Adaptive(rtol=1e-7))
    # d log y / dt = -2 log y.
    assert np.log(sol.u[:, 1]) == pytest.approx(
        np.log(3) * np.exp(-2 * sol.t), abs=2e-5
    )
    assert fl.check_descent(sol)
    assert fl.theory.check_dissipation(sol, 1e-4)


@pytest.mark.parametrize("kind", [*CONSTANT, "curved"])
def test_metrics_work_on_tensors(kind):
    torch = pytest.importorskip("torch")
    metric = CONSTANT[kind][0] if kind != "curved" else curved
    if kind.startswith("products"):
        matrix = torch.from_numpy(FULL)
        metric = fl.metrics.operator(lambda v: v @ matrix)
    if kind == "curved":

        def metric(x):
            outer = x[..., :, None] * x[..., None, :]
            return torch.eye(x.shape[-1], dtype=x.dtype) + 0.5 * outer

    there = fl.Euclidean(metric).flow(WELL)
    here = fl.Euclidean(CONSTANT[kind][0] if kind != "curved" else curved).flow(WELL)
    u = RNG.normal(size=(4, N))
    x = torch.from_numpy(u)
    for name in ("velocity", "jacobian"):
        a, b = getattr(here, name)(0.0, u), getattr(there, name)(0.0, x)
        assert isinstance(b, torch.Tensor)
        assert b.numpy() == pytest.approx(a, abs=1e-8)
    a, b = (f.resolvent(0.0, y, 0.2, ())[0] for f, y in ((here, u), (there, x)))
    assert b.numpy() == pytest.approx(a, abs=1e-10)


@pytest.mark.parametrize("kind", ["number", "weights", "matrix", "curved"])
def test_float32_stays_float32_in_a_metric(kind):
    metric = CONSTANT[kind][0] if kind != "curved" else curved
    flow = fl.Euclidean(metric).flow(WELL)
    u = RNG.normal(size=(4, N))
    small = u.astype(np.float32)
    for name in ("velocity", "jacobian"):
        assert getattr(flow, name)(0.0, small).dtype == np.float32
    v, _ = flow.resolvent(0.0, small, 0.2, ())
    assert v.dtype == np.float32
    assert v == pytest.approx(flow.resolvent(0.0, u, 0.2, ())[0], abs=1e-4)


def test_members_have_steps_and_times_of_their_own():
    energy = fl.Potential("(x - sin(t))**2/2 + x**4 + 0*z + y**2*(1 + t)")
    h, t = np.array([[0.1], [0.4], [2.0]]), np.array([[0.0], [0.5], [3.0]])
    for metric in (None, 2.0, WEIGHTS, FULL, curved):
        flow = fl.Euclidean(metric).flow(energy)
        u = RNG.normal(size=(3, N))
        for name in ("velocity", "jacobian", "energy"):
            whole = getattr(flow, name)(t, u)
            each = [
                getattr(flow, name)(float(s[0]), x) for s, x in zip(t, u, strict=True)
            ]
            assert whole == pytest.approx(np.array(each), abs=1e-9)
        whole, _ = flow.resolvent(t, u, h, ())
        for i in range(3):
            one, _ = flow.resolvent(float(t[i, 0]), u[i], float(h[i, 0]), ())
            assert whole[i] == pytest.approx(one, abs=1e-9)


def test_a_multiple_of_the_identity_changes_the_clock_of_a_kink():
    slow = fl.Euclidean(4.0).flow(fl.Potential("abs(x)"))
    assert slow.prox(0.0, np.array([1.0]), 1.0, ())[0] == pytest.approx([0.75])
    for metric in ([1.0, 2.0], fl.metrics.operator(of_full)):
        flow = fl.Euclidean(metric).flow(fl.Potential("r"))
        with pytest.raises(TypeError, match=r"kink.*metric=None or a number"):
            flow.prox  # noqa: B018
        assert flow.default() == ("DormandPrince", None)
    with pytest.raises(TypeError, match="has a kink"):
        fl.Euclidean(curved).flow(fl.Potential("r")).resolvent  # noqa: B018


@pytest.mark.parametrize(
    ("metric", "kind", "text"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], ValueError, r"smallest eigenvalue is -1; add"),
        ([[1.0, 2.0], [0.0, 1.0]], ValueError, r"\|M - M.T\| reaches 2; give"),
        (np.ones((2, 3)), ValueError, r"square matrix, got shape \(2, 3\)"),
        (np.ones((2, 2, 2)), ValueError, r"got shape \(2, 2, 2\)"),
        ([[np.nan, 0.0], [0.0, 1.0]], ValueError, "must be finite"),
        ([1.0, -2.0], ValueError, r"positive finite weights, got -2 at index 1"),
        (0.0, ValueError, r"got 0 at index 0"),
        ("plain", TypeError, "`metric` must be None, a number"),
        (None, None, None),
    ],
)
def test_what_is_no_metric_is_refused(metric, kind, text):
    if kind is None:
        assert fl.Euclidean(metric).metric is None
        return
    with pytest.raises(kind, match=text):
        fl.Euclidean(metric=metric)


def test_a_sparse_metric_is_named():
    from scipy.sparse import eye_array

    with pytest.raises(TypeError, match=r"sparse matrix; give `fl.metrics.operator"):
        fl.Euclidean(metric=eye_array(3))
    with pytest.raises(TypeError, match="`product` must be callable"):
        fl.metrics.operator(3.0)
    with pytest.raises(TypeError, match="`solve` must be callable"):
        fl.metrics.operator(of_full, solve=3.0)
    with pytest.raises(TypeError, match="`metric` must be callable"):
        fl.metrics.riemannian(3.0)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ([1.0, 2.0], r"has 2 weights, but the state has 3"),
        (np.eye(2) + 0.1, r"has shape \(2, 2\), but the state has 3"),
    ],
)
def test_a_metric_of_another_size_is_refused_at_the_door(metric, text):
    flow = fl.Euclidean(metric).flow(fl.Potential("r**2/2"))
    with pytest.raises(ValueError, match=text):
        fl.solve(flow, np.ones(3), (0, 1), fl.RK4(), dt=0.1)


@pytest.mark.parametrize(
    ("function", "kind", "text"),
    [
        (lambda x: None, TypeError, "returned None; did you forget"),
        (lambda x: x, ValueError, r"returned shape \(3,\).*shape \(3, 3\)"),
        (lambda x: np.eye(2), ValueError, r"returned shape \(2, 2\)"),
        (lambda x: -np.eye(3), ValueError, "not positive definite: its smallest.* -1"),
        (lambda x: np.nan * np.eye(3), NewtonFailure, "metric is not finite"),
    ],
)
def test_a_wrong_metric_function_is_named(function, kind, text):
    flow = fl.Euclidean(metric=function).flow(fl.Potential("r**2/2"))
    with pytest.raises(kind, match=text):
        flow.velocity(0.0, np.ones(3))


def test_wrong_products_of_a_metric_are_named():
    u = np.ones(3)
    flow = fl.Euclidean(fl.metrics.operator(lambda v: None)).flow(WELL)
    with pytest.raises(TypeError, match="`product` returned None"):
        flow.velocity(0.0, u)
    flow = fl.Euclidean(fl.metrics.operator(of_full, lambda g: g[:1])).flow(WELL)
    with pytest.raises(
        ValueError, match=r"`solve` of the metric returned shape \(1,\)"
    ):
        flow.velocity(0.0, u)
    flow = fl.Euclidean(fl.metrics.operator(lambda v: -v)).flow(WELL)
    with pytest.raises(NewtonFailure, match=r"M v = g.*give `solve`"):
        flow.velocity(0.0, u)


def test_a_curved_metric_has_no_distance_and_no_minimizing_movements():
    space = fl.Euclidean(metric=curved)
    with pytest.raises(TypeError, match="depends on x, whose distance"):
        space.distance(np.ones(2), np.zeros(2))
    with pytest.raises(TypeError, match=r"no minimizing movements; ImplicitEuler"):
        fl.solve(space.flow(WELL), np.ones(3), (0, 1), fl.JKO(), dt=0.1)


def test_a_drift_in_a_metric_is_added_as_it_is():
    flow = fl.Euclidean(2.0).flow(fl.quadratic(), drift=lambda x: 0 * x + 1.0)
    assert flow.velocity(0.0, np.ones(2)) == pytest.approx([0.5, 0.5])


@each_metric
def test_spaces_with_metrics_are_written_and_pickled(metric, M):
    space = fl.Euclidean(metric)
    assert repr(space).startswith("Euclidean(metric=")
    flow = space.flow(WELL)
    if "operator" not in repr(space) and "at 0x" not in repr(space):
        again = pickle.loads(pickle.dumps(flow))
        u = np.ones(N)
        assert (again.velocity(0.0, u) == flow.velocity(0.0, u)).all()
    assert repr(fl.Euclidean([1.0, 2.0])) == "Euclidean(metric=[1.0, 2.0])"


def test_particles_and_quantiles_have_the_mean_as_their_product():
    a, b = RNG.normal(size=(2, 5, 2))
    flow = fl.Particles(5).flow(fl.Potential("x**2 + y**2"))
    assert flow.inner(a, a, b) == pytest.approx((a * b).sum() / 5)
    flow = fl.Quantiles(5).flow(fl.Potential("x**2"))
    assert flow.inner(a[:, 0], a[:, 0], b[:, 0]) == pytest.approx((a * b)[:, 0].mean())


def test_norms_are_one_number_a_member():
    flow, e = fl.Euclidean().flow(WELL), RNG.normal(size=(4, N))
    assert flow.norm(e) == pytest.approx(np.sqrt((e**2).mean(-1)))
    assert isinstance(flow.norm(e[0]), float)
    with pytest.raises(TypeError, match="Give one state, not a batch"):
        fl.check_gradient(flow, e)
