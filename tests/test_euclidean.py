"""Flows of vectors: derivatives, implicit steps, kinks, batches, what is refused."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import flows as fl
from flows.linear import NewtonFailure
from flows.spaces import kinks
from flows.spaces.pointwise import pointwise_prox

LINE = fl.Euclidean()
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def same_numbers_in_every_test():
    """A test draws the same numbers alone, in any order and on any worker."""
    global RNG
    RNG = np.random.default_rng(3)


ROSENBROCK = fl.Potential("(1 - x)**2 + 100*(y - x**2)**2")
WELL = fl.Potential("(x**2 - 1)**2/4")
A = np.array([[2.0, 0.5], [0.5, 1.0]])


def rosenbrock(x):
    return (1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2


def soft(x, h):
    return np.sign(x) * np.maximum(np.abs(x) - h, 0.0)


def turn(x):
    return np.stack([x[..., 1], -x[..., 0]], axis=-1)


ENERGIES = {
    "well": (fl.Potential("(x**2 - 1)**2/4 + x*y/3 + y**4"), 2),
    "Rosenbrock": (ROSENBROCK, 2),
    "callable": (fl.Potential(rosenbrock), 2),
    "sum": (2 * fl.Potential("r**4/4") - fl.quadratic([1.0, 0.5, 0.2]), 3),
    "quadratic": (fl.quadratic(A, center=[1.0, 0.0], b=[0.0, 2.0]), 2),
    "diagonal": (fl.quadratic([3.0, 1.0, 0.0], b=1.0) + fl.Potential(2.0), 3),
    "moving": (fl.Potential("(x - sin(t))**2/2 + x**4"), 1),
    "separable": (fl.separable("x**4/4 + exp(x)"), 4),
}
each_energy = pytest.mark.parametrize(
    ("energy", "n"), ENERGIES.values(), ids=list(ENERGIES)
)


@each_energy
def test_velocity_and_jacobian_are_derivatives_of_the_energy(energy, n):
    flow, x, e = LINE.flow(energy), RNG.normal(size=n), 1e-5
    for i in range(n):
        step = e * np.eye(n)[i]
        slope = (flow.energy(0.4, x + step) - flow.energy(0.4, x - step)) / (2 * e)
        assert flow.velocity(0.4, x)[i] == pytest.approx(-slope, rel=1e-5, abs=1e-6)
        row = flow.velocity(0.4, x + step) - flow.velocity(0.4, x - step)
        assert flow.jacobian(0.4, x)[i] == pytest.approx(
            row / (2 * e), rel=1e-5, abs=1e-4
        )


@each_energy
def test_a_batch_is_its_points_one_by_one(energy, n):
    flow, x = LINE.flow(energy), RNG.normal(size=(5, n))
    assert flow.energy(0.2, x).shape == (5,)
    assert isinstance(flow.energy(0.2, x[0]), float)
    for name in ("velocity", "energy", "jacobian"):
        whole = getattr(flow, name)(0.2, x)
        each = [getattr(flow, name)(0.2, row) for row in x]
        assert whole == pytest.approx(np.array(each), rel=1e-13, abs=1e-13)
    whole, _ = flow.prox(0.2, x, 0.3, ())
    each = [flow.prox(0.2, row, 0.3, ())[0] for row in x]
    assert whole == pytest.approx(np.array(each), rel=1e-9, abs=1e-10)
    assert LINE.distance(x, whole).shape == (5,)
    assert LINE.distance(x[0], whole[0]) == pytest.approx(
        np.linalg.norm(x[0] - whole[0])
    )


@each_energy
def test_solving_a_batch_is_solving_its_points(energy, n):
    flow, x = LINE.flow(energy), 0.5 * RNG.normal(size=(3, n))
    for scheme in (fl.RK4(), fl.TRBDF2()):
        batch = fl.solve(flow, x, (0, 0.02), scheme, dt=1e-3, save_at=0.02).u[-1]
        for row, end in zip(x, batch, strict=True):
            one = fl.solve(flow, row, (0, 0.02), scheme, dt=1e-3, save_at=0.02)
            assert one.u[-1] == pytest.approx(end, rel=1e-9, abs=1e-10)


@each_energy
@pytest.mark.parametrize("h", [1e-3, 0.1, 10.0, 1e3])
def test_implicit_steps_solve_their_equation_and_pay_for_their_length(energy, n, h):
    flow, u = LINE.flow(energy), RNG.normal(size=n)
    if "0.2" in repr(energy):
        h = min(h, 0.9)
    v, memory = flow.prox(0.5, u, h, ())
    assert memory[0] is v
    residual = np.abs(v - u - h * flow.velocity(0.5, v))
    reach = np.abs(flow.jacobian(0.5, v)) @ np.abs(v)
    assert (residual <= 1e-13 * (1 + np.abs(u) + np.abs(v) + h * reach)).all()
    paid = flow.energy(0.5, v) + LINE.distance(u, v) ** 2 / (2 * h)
    assert paid <= flow.energy(0.5, u) + 1e-12 * (1 + abs(flow.energy(0.5, u)))
    w, _ = flow.resolvent(0.5, u, h, (v,))
    assert w == pytest.approx(v, rel=1e-7, abs=1e-9)


@each_energy
def test_torch_and_numpy_agree(energy, n):
    torch = pytest.importorskip("torch")
    flow, x = LINE.flow(energy), RNG.normal(size=(4, n))
    y = torch.from_numpy(x)
    for name in ("velocity", "energy", "jacobian"):
        a, b = (getattr(flow, name)(0.3, u) for u in (x, y))
        assert isinstance(b, torch.Tensor)
        assert b.numpy() == pytest.approx(a, rel=1e-12, abs=1e-12)
    a, b = (flow.prox(0.3, u, 0.2, ())[0] for u in (x, y))
    assert b.numpy() == pytest.approx(a, rel=1e-10, abs=1e-11)


@each_energy
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_float32_stays_float32(energy, n, library):
    flow, x = LINE.flow(energy), RNG.normal(size=(4, n)).astype(np.float32)
    y = pytest.importorskip("torch").from_numpy(x) if library == "torch" else x
    for result in (
        flow.velocity(0.3, y),
        flow.jacobian(0.3, y),
        flow.prox(0.3, y, 0.2, ())[0],
        flow.resolvent(0.3, y, 0.2, ())[0],
    ):
        assert str(result.dtype).endswith("float32")
    exact = flow.prox(0.3, x.astype(float), 0.2, ())[0]
    got = np.asarray(flow.prox(0.3, y, 0.2, ())[0])
    assert got == pytest.approx(exact, rel=2e-4, abs=2e-4)


def test_a_callable_is_differentiated_by_torch():
    a, b = LINE.flow(fl.Potential(rosenbrock)), LINE.flow(ROSENBROCK)
    x = np.array([[-1.2, 1.0], [0.3, 0.4]])
    assert isinstance(a.velocity(0.0, x), np.ndarray)
    assert a.velocity(0.0, x) == pytest.approx(b.velocity(0.0, x), rel=1e-13)
    assert a.jacobian(0.0, x) == pytest.approx(b.jacobian(0.0, x), rel=1e-13)


@pytest.mark.parametrize("h", [1e-3, 0.1, 10.0, 1e3, 1e6])
@pytest.mark.parametrize("u", [(-1.2, 1.0), (5.0, -20.0), (0.0, 1e3), (-3.0, -3.0)])
def test_newton_finds_a_minimum_of_rosenbrock_from_anywhere(u, h):
    flow, u = LINE.flow(ROSENBROCK), np.array(u)
    v, _ = flow.prox(0.0, u, h, ())
    H = np.eye(2) - h * flow.jacobian(0.0, v)
    assert (np.linalg.eigvalsh(H) > 0).all()
    # Newton's decrement estimates the distance to the solution.
    residual = v - u - h * flow.velocity(0.0, v)
    assert np.abs(np.linalg.solve(H, residual)).max() < 1e-8 * (1 + np.abs(v).max())
    paid = flow.energy(0.0, v) + LINE.distance(u, v) ** 2 / (2 * h)
    assert paid < flow.energy(0.0, u)


@pytest.mark.parametrize("h", [0.5, 1.5, 10.0, 1e4])
def test_a_long_step_in_the_double_well_goes_to_the_nearer_bottom(h):
    u = np.array([[-100.0], [-2.0], [-0.5], [-1e-9], [1e-9], [0.01], [0.7], [3.0]])
    v, _ = LINE.flow(WELL).prox(0.0, u, h, ())
    assert (np.sign(v) == np.sign(u)).all()
    grid = np.linspace(-3, 3, 60001)
    for a, b in zip(u[1:, 0], v[1:, 0], strict=True):
        best = (h * (grid**2 - 1) ** 2 / 4 + (grid - a) ** 2 / 2).min()
        assert h * (b**2 - 1) ** 2 / 4 + (b - a) ** 2 / 2 <= best + 1e-9 * (1 + h)


def test_a_minimizing_movement_leaves_a_saddle_that_is_no_minimum():
    flow = LINE.flow(fl.Potential("(x**2 - 1)**2/4 + y**2"))
    # With h < 1 the objective is convex and 0 is its minimum.
    assert (flow.prox(0.0, np.zeros(2), 0.5, ())[0] == 0).all()
    v, _ = flow.prox(0.0, np.zeros(2), 2.0, ())
    assert np.abs(v) == pytest.approx([math.sqrt(0.5), 0.0], abs=1e-12)
    # The equation of implicit Euler has the saddle as a solution, and keeps it.
    assert (flow.resolvent(0.0, np.zeros(2), 2.0, ())[0] == 0).all()
    both, _ = flow.prox(0.0, np.array([[0.0, 0.0], [1.0, 0.0]]), 2.0, ())
    assert both[1] == pytest.approx([1.0, 0.0], abs=1e-12)


def test_newton_reports_what_it_cannot_solve():
    with pytest.raises(NewtonFailure, match="the gradient is not finite"):
        LINE.flow(fl.Potential("log(x)")).prox(0.0, np.array([0.0]), 0.1, ())
    downhill = LINE.flow(fl.Potential("-x**4"))
    with pytest.raises(NewtonFailure) as caught:
        downhill.prox(0.0, np.array([2.0]), 1.0, ())
    assert len(caught.value.residuals) > 1
    with pytest.raises(NewtonFailure, match="did not converge"):
        # A gradient that is not that of the values has no descent direction.
        pointwise_prox(
            lambda v: (v**2).sum(-1),
            lambda v: 1.0 - np.sign(v) * np.pi,
            lambda v: np.ones((*v.shape, v.shape[-1])),
            np.array([0.3]),
            1.0,
            np.array([0.3]),
        )


def test_a_flow_of_quadratics_knows_everything():
    flow = LINE.flow(fl.quadratic(A, center=[1.0, 0.0]) + 0.5 * fl.quadratic(b=1.0))
    B = A + 0.5 * np.eye(2)
    g = A @ [1.0, 0.0] + 0.5
    u, h = np.array([0.3, -2.0]), 0.7
    from scipy.linalg import expm

    rest = np.linalg.solve(B, g)
    exact = rest + expm(-h * B) @ (u - rest)
    assert flow.exact(0.0, u, h) == pytest.approx(exact, abs=1e-14)
    implicit = np.linalg.solve(np.eye(2) + h * B, u + h * g)
    assert flow.resolvent(0.0, u, h, ())[0] == pytest.approx(implicit, abs=1e-14)
    assert flow.prox(0.0, u, h, ())[0] == pytest.approx(implicit, abs=1e-14)
    assert flow.stable_step(0.0, u) == pytest.approx(2 / np.linalg.eigvalsh(B)[-1])
    sol = fl.solve(flow, u, (0, h), fl.Exact(), dt=0.1)
    assert sol.u[-1] == pytest.approx(exact, abs=1e-13)


def test_a_singular_quadratic_drifts_in_its_kernel():
    flow = LINE.flow(fl.quadratic([[1.0, 1.0], [1.0, 1.0]], b=[1.0, -1.0]))
    u = np.array([1.0, 2.0])
    # (1, -1) is in the kernel and b lies in it.
    mean = 1.5 * math.exp(-6.0)
    exact = [mean - 0.5 + 3.0, mean + 0.5 - 3.0]
    assert flow.exact(0.0, u, 3.0) == pytest.approx(exact, abs=1e-13)
    flat = LINE.flow(fl.quadratic(0.0))
    assert flat.stable_step(0.0, u) == math.inf
    assert flat.exact(0.0, u, 5.0) == pytest.approx(u)


def test_an_indefinite_quadratic_has_no_minimum_for_long_steps():
    flow = LINE.flow(fl.quadratic([1.0, -2.0]))
    u = np.ones(2)
    v, _ = flow.prox(0.0, u, 0.4, ())
    assert v == pytest.approx([1 / 1.4, 1 / 0.2])
    for method in (flow.prox, flow.resolvent):
        with pytest.raises(NewtonFailure, match=r"no minimum at h = 0.5.*-2"):
            method(0.0, u, 0.5, ())
    assert flow.exact(0.0, u, 1.0) == pytest.approx([math.exp(-1), math.exp(2)])
    # The smooth part of a sum is found indefinite by Newton's method.
    curved = LINE.flow(fl.quadratic([1.0, -2.0]) + fl.Potential("r**4"))
    w, _ = curved.prox(0.0, u, 5.0, ())
    assert w - u - 5 * curved.velocity(0.0, w) == pytest.approx(np.zeros(2), abs=1e-12)


def test_quadratics_are_recognized_and_others_offer_less():
    quadratic, other = LINE.flow(fl.quadratic()), LINE.flow(WELL)
    for name in ("exact", "stable_step"):
        assert hasattr(quadratic, name)
        assert not hasattr(other, name)
    with pytest.raises(ValueError, match="above"):
        fl.solve(LINE.flow(fl.quadratic(10.0)), np.ones(1), (0, 9), fl.Euler(), dt=0.3)


def objective(V, u, h):
    return lambda v: h * float(V(v)) + 0.5 * float(((v - u) ** 2).sum())


KINKS = {
    "abs": ("abs(x)", lambda v: np.abs(v).sum(), 1),
    "radius": ("r", lambda v: np.linalg.norm(v), 3),
    "power": ("r**1.5/1.5", lambda v: np.linalg.norm(v) ** 1.5 / 1.5, 2),
    "power of abs": ("abs(x)**1.2", lambda v: np.abs(v[0]) ** 1.2, 1),
    "kink and square": ("2*r + r**2", lambda v: 2 * np.linalg.norm(v) + v @ v, 2),
    "l1": ("abs(x) + 2*abs(y)", lambda v: abs(v[0]) + 2 * abs(v[1]), 2),
    "flat direction": ("abs(x) + 0*y", lambda v: abs(v[0]), 2),
    "lasso": (
        "abs(x) + abs(y) + (2*x + y - 1)**2/2",
        lambda v: np.abs(v).sum() + (2 * v[0] + v[1] - 1) ** 2 / 2,
        2,
    ),
    "correlated lasso": (
        "abs(x) + abs(y) + abs(z) + (x + y - z)**2 + (x - 2*y)**2/3 - z",
        lambda v: (
            np.abs(v).sum()
            + (v[0] + v[1] - v[2]) ** 2
            + (v[0] - 2 * v[1]) ** 2 / 3
            - v[2]
        ),
        3,
    ),
    "steep": ("abs(x) + (x - 1)**4", lambda v: abs(v[0]) + (v[0] - 1) ** 4, 1),
    "five coordinates": (
        "abs(x1) + abs(x2) + abs(x3) + abs(x4) + 3*abs(x5) + (x1 - x5)**2",
        lambda v: np.abs(v).sum() + 2 * abs(v[4]) + (v[0] - v[4]) ** 2,
        5,
    ),
}


@pytest.mark.parametrize(("formula", "V", "n"), KINKS.values(), ids=list(KINKS))
@pytest.mark.parametrize("h", [0.1, 1.0, 20.0])
def test_steps_with_kinks_minimize_their_objective(formula, V, n, h):
    from scipy.optimize import minimize

    flow, rng = LINE.flow(fl.Potential(formula)), np.random.default_rng(n)
    for scale in (0.1, 2.0):
        u = scale * rng.normal(size=n)
        v, _ = flow.prox(0.0, u, h, ())
        f = objective(V, u, h)
        starts = [u, np.zeros(n), v, v + 1e-3 * rng.normal(size=n)]
        best = min(
            minimize(
                f, s, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}
            ).fun
            for s in starts
        )
        assert f(v) <= best + 1e-11 * (1 + abs(best))
        w, _ = flow.resolvent(0.0, u, h, (u,))
        assert w == pytest.approx(v, rel=1e-12, abs=1e-12)
        assert ((w == 0) == (v == 0)).all()


def test_the_lasso_sets_coordinates_to_zero_exactly():
    rows, cols = 12, 5
    M, y = RNG.normal(size=(rows, cols)), RNG.normal(size=rows)
    form = fl.separable("lam*abs(x)", parameters={"lam": 4.0}) + fl.quadratic(
        M.T @ M, b=M.T @ y
    )
    sol = fl.solve(LINE.flow(form), np.ones(cols), (0, 200), fl.JKO(), dt=1.0)
    x = sol.u[-1]
    slope = M.T @ (M @ x - y)
    assert (x == 0).any()
    assert np.abs(slope[x == 0]).max() <= 4.0
    assert slope[x != 0] == pytest.approx(-4.0 * np.sign(x[x != 0]), abs=1e-9)
    assert fl.check_descent(sol)


def test_a_batch_with_kinks_is_its_points():
    x = RNG.normal(size=(6, 2))
    for formula in ("r", "abs(x) + abs(y) + (x - y)**2"):
        flow = LINE.flow(fl.Potential(formula))
        whole, _ = flow.prox(0.0, x, 0.5, ())
        for row, v in zip(x, whole, strict=True):
            assert flow.prox(0.0, row, 0.5, ())[0] == pytest.approx(v, abs=1e-14)
        small = x.astype(np.float32)
        assert flow.prox(0.0, small, 0.5, ())[0].dtype == np.float32


def test_kinks_work_on_tensors():
    torch = pytest.importorskip("torch")
    flow, x = LINE.flow(fl.Potential("abs(x) + abs(y)")), RNG.normal(size=(4, 2))
    v, _ = flow.prox(0.0, torch.from_numpy(x), 0.3, ())
    assert isinstance(v, torch.Tensor)
    assert v.numpy() == pytest.approx(soft(x, 0.3), abs=1e-15)


@pytest.mark.parametrize("scheme", [fl.JKO(), fl.ImplicitEuler()], ids=repr)
def test_points_stop_in_a_kink(scheme):
    sol = fl.solve(
        LINE.flow(fl.separable("abs(x)")),
        np.array([1.0, -0.3]),
        (0, 2),
        scheme,
        dt=0.25,
    )
    exact = [np.sign(u) * max(abs(u) - s, 0) for s in sol.t for u in (1.0, -0.3)]
    assert sol.u.ravel() == pytest.approx(exact, abs=1e-14)


def test_the_form_of_a_kink_is_found_once(monkeypatch):
    counts = []
    found = kinks.split_formula
    monkeypatch.setattr(
        kinks, "split_formula", lambda term, d: counts.append(d) or found(term, d)
    )
    flow = LINE.flow(fl.Potential("abs(x) + x**2/7"))
    fl.solve(flow, np.array([3.0]), (0, 1), fl.JKO(), dt=0.01)
    assert counts == [1]


def test_the_users_prox_goes_first_and_knows_the_scale():
    energy = 2 * fl.Potential("abs(x)", prox=soft)
    flow = LINE.flow(energy)
    assert flow.prox(0.0, np.array([3.0]), 0.5, ())[0] == pytest.approx([2.0])
    sol = fl.solve(flow, np.array([1.0]), (0, 1), fl.JKO(), dt=0.25)
    assert sol.u[:, 0] == pytest.approx([1.0, 0.5, 0.0, 0.0, 0.0], abs=1e-15)


@pytest.mark.parametrize(
    ("prox", "kind", "text"),
    [
        (lambda x, h: None, TypeError, "`prox` returned None"),
        (lambda x, h: 3.0, ValueError, r"`prox` returned shape \(\) for points"),
        (lambda x, h: np.ones(2), ValueError, r"returned shape \(2,\) for points"),
    ],
)
def test_a_wrong_prox_is_named(prox, kind, text):
    flow = LINE.flow(fl.Potential("abs(x)", prox=prox))
    with pytest.raises(kind, match=text):
        flow.prox(0.0, np.ones(1), 0.1, ())


@pytest.mark.parametrize(
    "formula",
    [
        "-abs(x)",
        "min(x, 0)",
        "abs(x*y)",
        "sqrt(abs(x))",
        "abs(x) - r**3",
        "log(abs(x))",
    ],
)
@pytest.mark.parametrize(
    "scheme", [fl.JKO(), fl.ImplicitEuler(), fl.TRBDF2()], ids=repr
)
def test_unknown_kinks_are_refused_before_the_first_step(formula, scheme):
    calls = []
    flow, n = LINE.flow(fl.Potential(formula)), 2 if "y" in formula else 1
    with pytest.raises(
        TypeError, match=r"is not known: it has a kink.*prox="
    ) as caught:
        fl.solve(
            flow, np.ones(n), (0, 1), scheme, dt=0.1,
            on_step=[lambda event: calls.append(event)],
        )  # fmt: skip
    assert not calls
    # Explicit schemes are offered, and the default is one of them.
    assert "RK4()" in str(caught.value)
    assert flow.default()[0] == "DormandPrince"


def test_a_sum_of_kinks_without_a_known_map_is_refused():
    energy = fl.Potential("abs(x)", prox=soft) + fl.Potential("abs(x - 1)")
    with pytest.raises(TypeError, match="not known"):
        LINE.flow(energy).prox(0.0, np.ones(1), 0.1, ())


def test_a_form_can_be_known_in_one_dimension_only():
    flow = LINE.flow(fl.separable("abs(x - 1)") + fl.Potential("r"))
    assert flow.prox(0.0, np.array([3.0]), 0.5, ())[0] == pytest.approx([2.0])
    with pytest.raises(TypeError, match=r"is not known in R\^2"):
        flow.prox(0.0, np.ones(2), 0.5, ())


def test_a_drift_is_added_and_ends_the_gradient_structure():
    flow = LINE.flow(fl.quadratic(1.0), drift=turn)
    assert not flow.is_gradient
    u = np.array([1.0, 2.0])
    assert flow.velocity(0.0, u) == pytest.approx([1.0, -3.0])
    assert flow.energy(0.0, u) == pytest.approx(2.5)
    sol = fl.solve(flow, np.array([1.0, 0.0]), (0, 2), fl.DOP853(), dt=0.01)
    exact = math.exp(-2) * np.array([math.cos(2), -math.sin(2)])
    assert sol.u[-1] == pytest.approx(exact, abs=1e-12)
    batch = fl.solve(flow, np.eye(2), (0, 2), fl.DOP853(), dt=0.01)
    assert batch.u[-1, 0] == pytest.approx(exact, abs=1e-12)
    assert flow.energy(0.0, np.eye(2)) == pytest.approx([0.5, 0.5])
    assert fl.solve(flow, u, (0, 1)).ok


@pytest.mark.parametrize(
    ("drift", "kind", "text"),
    [
        (3.0, TypeError, "`drift` must be callable"),
        (lambda x: None, TypeError, "`drift` returned None"),
        (lambda x: x[..., 0], ValueError, "`drift` returned shape"),
    ],
)
def test_a_wrong_drift_is_named(drift, kind, text):
    with pytest.raises(kind, match=text):
        fl.solve(
            LINE.flow(WELL, drift=drift), np.ones((3, 1)), (0, 1), fl.RK4(), dt=0.1
        )


def test_implicit_steps_of_a_drift_are_refused():
    with pytest.raises(TypeError, match="needs `resolvent`"):
        fl.solve(LINE.flow(WELL, drift=turn), np.ones(2), (0, 1), fl.TRBDF2(), dt=0.1)


def test_points_are_projected_and_measured():
    assert LINE.project(fl.Dirac(2.0)) == pytest.approx([2.0])
    assert LINE.project(fl.Dirac([1.0, 2.0])) == pytest.approx([1.0, 2.0])
    cloud = RNG.normal(size=(3, 2))
    assert (LINE.project(fl.Empirical(cloud)) == cloud).all()
    assert fl.Euclidean(dtype="float32").project(fl.Dirac(1.0)).dtype == np.float32
    assert isinstance(LINE.measure(np.ones(2)), fl.Dirac)
    assert isinstance(LINE.measure(cloud), fl.Empirical)
    sol = fl.solve(
        LINE.flow(fl.quadratic()), fl.Empirical(cloud), (0, 1), fl.RK4(), dt=0.1
    )
    factor = sum((-0.1) ** k / math.factorial(k) for k in range(5)) ** 10
    assert sol.u[-1] == pytest.approx(factor * cloud, abs=1e-13)


def test_measures_that_are_no_points_are_refused():
    with pytest.raises(TypeError, match="takes an array or a Dirac measure"):
        LINE.project(fl.Gaussian(0.0, 1.0))
    weighted = fl.Empirical(np.ones((2, 1)), [0.3, 0.7])
    with pytest.raises(ValueError, match="has weights"):
        LINE.project(weighted)


@pytest.mark.parametrize(
    ("u", "text"),
    [
        (np.array(1.0), r"has shape \(\); Euclidean takes \(n,\)"),
        (np.ones((2, 2, 2)), r"has shape \(2, 2, 2\); Euclidean takes \(n,\)"),
    ],
)
def test_wrong_states_are_refused(u, text):
    with pytest.raises(ValueError, match=text):
        LINE.admit(u)


@pytest.mark.parametrize(
    ("energy", "u", "text"),
    [
        (fl.quadratic([1.0, 2.0]), np.ones(3), "2 coordinate"),
        (fl.Potential("x + y"), np.ones(3), "names no coordinate beyond"),
        (fl.Potential("x**2/2"), np.ones(2), "fl.separable"),
    ],
)
def test_a_state_of_the_wrong_dimension_is_refused_by_the_formula(energy, u, text):
    with pytest.raises(ValueError, match=text):
        fl.solve(LINE.flow(energy), u, (0, 1), fl.RK4(), dt=0.1)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (fl.Entropy(1.0), r"cannot represent the term Entropy\(1\).*Grid, Quantiles"),
        (fl.Interaction("x**2"), "no density and no pairs.*Particles"),
        (fl.porous_medium(2.0), "cannot represent the term porous_medium"),
    ],
)
def test_refused_terms_name_the_spaces_that_take_them(term, text):
    with pytest.raises(TypeError, match=text):
        LINE.flow(WELL + term)
    assert not LINE.accepts(term)
    assert LINE.accepts(WELL)


def test_wrong_places_are_refused():
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        fl.Euclidean(dtype="float16")
    with pytest.raises(TypeError, match="has dtype='float32'; convert"):
        fl.Euclidean(dtype="float32").admit(np.ones(2))
    pytest.importorskip("torch")
    with pytest.raises(ValueError, match="`device` must be None"):
        fl.Euclidean(device="nowhere")
    with pytest.raises(TypeError, match="computes with torch on cpu"):
        fl.Euclidean(device="cpu").admit(np.ones(2))


@each_energy
def test_flows_pickle(energy, n):
    if "rosenbrock" in repr(energy):
        assert pickle.loads(pickle.dumps(energy)).V is rosenbrock
    flow, u = LINE.flow(energy), RNG.normal(size=n)
    flow.prox(0.0, u, 0.1, ())
    again = pickle.loads(pickle.dumps(flow))
    assert (again.velocity(0.1, u) == flow.velocity(0.1, u)).all()
    assert repr(again) == repr(flow)


def test_flows_with_kinks_pickle_with_their_maps():
    flow = LINE.flow(fl.Potential("abs(x) + x**2"))
    prox = pickle.loads(pickle.dumps(flow.prox))
    u = np.array([0.7])
    assert prox(0.0, u, 0.2, ())[0] == flow.prox(0.0, u, 0.2, ())[0]


def test_spaces_have_short_names():
    assert repr(LINE) == "Euclidean()"
    assert repr(fl.Euclidean(dtype="float32")) == "Euclidean(dtype='float32')"
