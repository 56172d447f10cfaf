"""Discrete gradients: the energy balance for every step, orders, spaces, refusals."""

import pickle

import numpy as np
import pytest
from scheme_toys import observed

import flows as fl
from flows.flow import Flow
from flows.linear import NewtonFailure, Operator, Tridiagonal
from flows.schemes.branch import Branch, Place
from flows.schemes.discrete_gradient import Balance

SPACE = fl.Euclidean()
RNG = np.random.default_rng(11)
SCHEMES = [fl.Gonzalez(), fl.AverageVectorField(), fl.ItohAbe()]
AVERAGED = SCHEMES[:2]
STEPS = [0.01, 0.3, 1.0, 10.0, 100.0]
ROSENBROCK = fl.problems.rosenbrock().energy
ENERGIES = {
    "stiff quadratic": (fl.quadratic([1.0, 1e4]), np.array([1.0, 2.0])),
    "coupled quadratic": (
        fl.quadratic([[2.0, 0.9], [0.9, 1.0]], b=[0.3, -1.0]),
        np.array([1.0, -2.0]),
    ),
    "stiff quartic": (fl.problems.stiff_quartic().energy, np.array([1.0, 2.0])),
    "log cosh": (
        fl.problems.log_cosh((1.0, 10.0, 1000.0), np.ones(3)).energy,
        np.array([1.0, -2.0, 0.3]),
    ),
    "softplus": (
        fl.Potential("softplus(3*x - y) + softplus(-x) + y**2/2"),
        np.array([1.0, 2.0]),
    ),
    "degree fourteen": (
        fl.Potential("(x - y)**12 + x**2/2 + y**14"),
        np.array([0.9, -0.4]),
    ),
    "double well": (fl.Potential("(x**2 - 1)**2/4"), np.array([0.3])),
    "valley": (fl.problems.sine_valley().energy, np.array([3.0])),
    "rosenbrock": (ROSENBROCK, np.array([-1.2, 1.0])),
    "rosenbrock, five points": (ROSENBROCK, RNG.normal(size=(5, 2))),
}


def numbers(x):
    return np.asarray(x.numpy() if hasattr(x, "numpy") else x, dtype=float)


def imbalance(flow, scheme, u, h, t=0.0):
    """Defect of the energy balance over the energies, and the step."""
    step = scheme.step(flow, t, u, h, None, ())
    at = t + 0.5 * h
    before, after = numbers(flow.energy(at, u)), numbers(flow.energy(at, step.u))
    d = step.u - u
    size = np.asarray(h)[..., 0] if getattr(h, "ndim", 0) else h
    defect = after - before + numbers(flow.inner(u, d, d)) / size
    return float(np.max(np.abs(defect) / (np.abs(before) + np.abs(after)))), step


@pytest.mark.parametrize("h", STEPS)
@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_the_energy_balance_holds_for_every_step(scheme, name, h):
    energy, u = ENERGIES[name]
    defect, step = imbalance(SPACE.flow(energy), scheme, u, h)
    assert defect < 1e-12
    assert np.abs(step.u - u).max() > 1e-4


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_a_stiff_run_keeps_the_balance_and_comes_to_rest(scheme):
    p = fl.problems.stiff_quartic((1.0, 1e4), (1.0, 2.0))
    flow = SPACE.flow(p.energy)
    sol = fl.solve(flow, p.initial, (0, 40), scheme, dt=1.0)
    moved = np.sum(np.diff(sol.u, axis=0) ** 2, axis=1)
    size = np.abs(sol.energy[1:]) + np.abs(sol.energy[:-1])
    assert (np.abs(np.diff(sol.energy) + moved) <= 1e-12 * size).all()
    assert sol.stats["largest_rise"] == 0.0
    # Values of an energy of 1e4 show the other coordinate to 1e-5.
    assert abs(sol.u[-1, 0]) < (1e-5 if scheme == fl.ItohAbe() else 1e-12)


@pytest.mark.parametrize("scheme", AVERAGED, ids=repr)
@pytest.mark.parametrize("h", [0.1, 2.0, 50.0])
def test_averaged_gradients_are_the_midpoint_rule_on_quadratics(scheme, h):
    A = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 40.0]])
    b, u = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.0, -1.0])
    step = scheme.step(SPACE.flow(fl.quadratic(A, b=b)), 0.0, u, h, None, ())
    eye = np.eye(3)
    exact = np.linalg.solve(eye + h / 2 * A, (eye - h / 2 * A) @ u + h * b)
    assert np.abs(step.u - exact).max() < 1e-13 * max(1.0, h)


@pytest.mark.parametrize("h", [0.1, 2.0, 50.0])
def test_itoh_abe_is_a_sweep_of_relaxation_on_quadratics(h):
    A = np.array([[3.0, 1.0, 0.2], [1.0, 2.0, 0.5], [0.2, 0.5, 4.0]])
    b, u = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.0, -1.0])
    step = fl.ItohAbe().step(SPACE.flow(fl.quadratic(A, b=b)), 0.0, u, h, None, ())
    # Relaxation factors w_i = 2 h a_ii / (2 + h a_ii), between 0 and 2.
    y = u.copy()
    for i in range(3):
        w = 2 * h * A[i, i] / (2 + h * A[i, i])
        y[i] += w * (b[i] - A[i] @ y) / A[i, i]
    assert np.abs(step.u - y).max() < 1e-9


@pytest.mark.parametrize("energy", ["double well", "valley"])
def test_on_the_line_all_three_coincide(energy):
    functional, u = ENERGIES[energy]
    flow = SPACE.flow(functional)
    ends = [s.step(flow, 0.0, u, 0.3, None, ()).u[0] for s in SCHEMES]
    assert np.ptp(ends) < 1e-9


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_observed_orders(scheme):
    flow = SPACE.flow(fl.Potential("(x**2 - 1)**2/4 + (y - x**2)**2/2 + cos(x*y)"))
    u0 = np.array([0.3, 1.2])
    exact = fl.solve(flow, u0, (0, 1), fl.DOP853(), dt=0.01).u[-1]
    sizes = [1 / 10, 1 / 20, 1 / 40, 1 / 80]
    errors = [
        np.abs(fl.solve(flow, u0, (0, 1), scheme, dt=h).u[-1] - exact).max()
        for h in sizes
    ]
    assert observed(sizes, errors) == pytest.approx(scheme.order, abs=0.15)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_time_dependent_energies_keep_the_balance_at_the_middle_of_the_step(scheme):
    flow = SPACE.flow(fl.Potential("(x - sin(t))**4/4 + x**2/2"))
    defect, _ = imbalance(flow, scheme, np.array([0.7]), 0.4, t=1.3)
    assert defect < 1e-12
    sizes = [1 / 10, 1 / 20, 1 / 40, 1 / 80]
    exact = fl.solve(flow, [0.7], (0, 1), fl.DOP853(), dt=0.01).u[-1]
    errors = [
        np.abs(fl.solve(flow, [0.7], (0, 1), scheme, dt=h).u[-1] - exact).max()
        for h in sizes
    ]
    # On the line the scheme of coordinates is of order 2 as well.
    assert observed(sizes, errors) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_a_metric_matrix_enters_the_balance(scheme):
    G = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.1], [0.0, 0.1, 3.0]])
    flow = fl.Euclidean(metric=G).flow(fl.separable("x**4/4 + cosh(x)"))
    u = np.array([1.0, -0.5, 0.8])
    for h in (0.1, 5.0):
        defect, step = imbalance(flow, scheme, u, h)
        assert defect < 1e-12
        d = step.u - u
        assert flow.inner(u, d, d) == pytest.approx(d @ G @ d, rel=1e-12)
    exact = fl.solve(flow, u, (0, 0.5), fl.DOP853(), dt=0.01).u[-1]
    sizes = [0.5 / 10, 0.5 / 20, 0.5 / 40, 0.5 / 80]
    errors = [
        np.abs(fl.solve(flow, u, (0, 0.5), scheme, dt=h).u[-1] - exact).max()
        for h in sizes
    ]
    assert observed(sizes, errors) == pytest.approx(scheme.order, abs=0.2)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_a_batch_steps_as_its_members_do(scheme):
    flow = SPACE.flow(fl.Potential("(x**2 - 1)**2/4 + x*y + y**4"))
    u, h = RNG.normal(size=(6, 2)), np.geomspace(0.01, 5.0, 6)
    defect, step = imbalance(flow, scheme, u, h[:, None])
    assert defect < 1e-12
    for i in range(6):
        one = scheme.step(flow, 0.0, u[i], float(h[i]), None, ()).u
        assert np.abs(step.u[i] - one).max() < 1e-8


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("h", [0.1, 10.0])
def test_particles_and_quantiles_keep_the_balance_of_their_means(scheme, h):
    particles = fl.Particles(8)
    energy = fl.Interaction("r**4/4") + fl.Potential("r**2/2")
    x = RNG.normal(size=(8, 2))
    assert imbalance(particles.flow(energy), scheme, x, h)[0] < 1e-12
    quantiles = fl.Quantiles(12)
    for functional in (fl.kl("x**2/2"), fl.porous_medium(2, "x**4/4")):
        flow = quantiles.flow(functional)
        u = quantiles.project(fl.Gaussian(1.0, 0.5))
        defect, step = imbalance(flow, scheme, u, h)
        assert defect < 1e-12
        assert (np.diff(step.u) > 0).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_torch_steps_as_numpy_does(scheme):
    torch = pytest.importorskip("torch")
    flow = SPACE.flow(ROSENBROCK)
    for u in (np.array([-1.2, 1.0]), np.array([[-1.2, 1.0], [0.4, 0.3]])):
        there = scheme.step(flow, 0.0, torch.tensor(u), 0.02, None, ()).u
        here = scheme.step(flow, 0.0, u, 0.02, None, ()).u
        assert there.dtype == torch.float64
        assert np.abs(there.numpy() - here).max() < 1e-9


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_single_precision_stays_single_and_keeps_its_balance(scheme):
    u = np.array([[-1.2, 1.0], [0.4, 0.3]], dtype=np.float32)
    defect, step = imbalance(SPACE.flow(ROSENBROCK), scheme, u, 0.02)
    assert step.u.dtype == np.float32
    assert defect < 4096 * np.finfo(np.float32).eps


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_rest_is_rest_and_its_neighborhood_is_harmless(scheme):
    flow = SPACE.flow(fl.Potential("x**2/2 + x**4 + (y - 1)**2 + exp(-y)"))
    root = fl.solve(flow, [0.0, 0.5], (0, 60), fl.ImplicitEuler(), dt=1.0).u[-1]
    assert np.array_equal(
        scheme.step(SPACE.flow(fl.quadratic(1.0)), 0, np.zeros(2), 1.0, None, ()).u,
        np.zeros(2),
    )
    for scale in (0.0, 1e-15, 1e-12, 1e-8, 1e-5, 1e-3):
        for h in (0.1, 100.0):
            u = root + scale
            defect, step = imbalance(flow, scheme, u, h)
            assert defect < 1e-12
            # Values of the energy resolve the minimum to sqrt(eps).
            assert np.abs(step.u - root).max() <= 1.5 * scale + 3e-8


def test_itoh_abe_needs_no_derivative_and_takes_kinks():
    class Values(Flow):
        space = SPACE

        def energy(self, t, u):
            return float(abs(u[0]) + abs(u[0] - 2 * u[1]) + u[1] ** 2 / 8)

        def inner(self, u, a, b):
            return float(a @ b)

    u, flow = np.array([2.0, -1.0]), Values()
    for _ in range(40):
        defect, step = imbalance(flow, fl.ItohAbe(), u, 0.5)
        assert defect < 1e-12
        u = step.u
    assert flow.energy(0.0, u) < 0.02


def test_itoh_abe_says_that_an_energy_has_no_lower_bound():
    flow = SPACE.flow(fl.Potential("-x**4"))
    with pytest.raises(NewtonFailure, match="no lower bound"):
        fl.ItohAbe().step(flow, 0.0, np.array([0.5]), 1.0, None, ())
    with pytest.raises(fl.SolveError, match="lower bound"):
        fl.solve(flow, [0.5], (0, 4), fl.ItohAbe(), dt=1.0)


def test_itoh_abe_says_that_an_energy_jumps():
    class Jump(Flow):
        space = SPACE

        def energy(self, t, u):
            return float(5.0 - 4.0 * u[0] + (1e3 if u[0] > 0.5 else 0.0))

        def inner(self, u, a, b):
            return float(a @ b)

    with pytest.raises(NewtonFailure, match="jumps"):
        fl.ItohAbe().step(Jump(), 0.0, np.array([0.2]), 10.0, None, ())
    flow = Jump()
    flow.inner = lambda u, a, b: -float(a @ b)
    with pytest.raises(NewtonFailure, match="not positive"):
        fl.ItohAbe().step(flow, 0.0, np.array([0.2]), 10.0, None, ())


class Differences(Flow):
    """A flow that offers no Jacobian."""

    space = SPACE

    def __init__(self, flow):
        self.velocity, self.energy, self.inner = flow.velocity, flow.energy, flow.inner


@pytest.mark.parametrize("scheme", AVERAGED, ids=repr)
@pytest.mark.parametrize("name", ["stiff quartic", "rosenbrock", "log cosh"])
def test_without_a_jacobian_differences_give_the_same_step(scheme, name):
    energy, u = ENERGIES[name]
    flow = SPACE.flow(energy)
    defect, step = imbalance(Differences(flow), scheme, u, 0.02)
    assert defect < 1e-12
    other = scheme.step(flow, 0.0, u, 0.02, None, ()).u
    assert np.abs(step.u - other).max() < 1e-8
    if name == "rosenbrock":
        points = np.stack([u, u + 0.3])
        assert imbalance(Differences(flow), scheme, points, 0.02)[0] < 1e-12


CHAIN = fl.Potential("(x - y)**4/4 + (y - z)**4/4 + x**2/2 + z**2")


@pytest.mark.parametrize("scheme", AVERAGED, ids=repr)
@pytest.mark.parametrize("kind", ["tridiagonal", "sparse", "operator"])
def test_every_kind_of_jacobian_gives_the_same_step(scheme, kind):
    flow, u = SPACE.flow(CHAIN), np.array([1.0, -0.7, 0.4])
    expected = scheme.step(flow, 0.0, u, 0.5, None, ()).u
    other = Differences(flow)

    def jacobian(t, x):
        from scipy.sparse import csc_array

        J = flow.jacobian(t, x)
        if kind == "tridiagonal":
            return Tridiagonal(np.diag(J, -1), np.diag(J), np.diag(J, 1))
        return csc_array(J) if kind == "sparse" else Operator(lambda v: J @ v)

    other.jacobian = jacobian
    assert np.abs(scheme.step(other, 0.0, u, 0.5, None, ()).u - expected).max() < 1e-11


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("h", [0.1, 100.0])
@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
def test_matrices_keep_the_balance_in_the_frobenius_product(scheme, h, shape):
    X = np.random.default_rng(3).normal(size=shape)
    V = fl.Potential("(x1**2 - 1)**2 + x1*x4/2 + x2**2 + 30*x3**2 + x4**2")
    sol = fl.solve(fl.Matrices(2, 2).flow(V), X, (0, 4 * h), scheme, dt=h)
    moved = ((sol.u[1:] - sol.u[:-1]) ** 2).sum((-2, -1))
    assert np.abs(sol.energy[1:] - sol.energy[:-1] + moved / h).max() < 1e-12
    flat = fl.solve(SPACE.flow(V), X.reshape(*shape[:-2], 4), (0, 4 * h), scheme, dt=h)
    assert np.array_equal(sol.u.reshape(flat.u.shape), flat.u)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_flows_without_a_balance_are_refused(scheme):
    game = fl.learning.game(
        {"a": fl.Potential("x*y"), "b": -fl.Potential("x*y")}, {"a": [0], "b": [1]}
    )
    with pytest.raises(TypeError, match="does not offer"):
        fl.solve(game, [1.0, 0.5], (0, 1), scheme, dt=0.1)
    drifted = SPACE.flow(fl.quadratic(1.0), drift=lambda x: 0.0 * x)
    with pytest.raises(TypeError, match="needs a gradient flow"):
        fl.solve(drifted, [1.0], (0, 1), scheme, dt=0.1)
    mirror = fl.Mirror.simplex().flow(fl.separable("x**2/2"))
    with pytest.raises(TypeError, match=r"in a chart|does not offer"):
        fl.solve(mirror, [0.5, 0.5], (0, 1), scheme, dt=0.1)
    sphere = fl.Sphere().flow(fl.quadratic([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"are moved after a step|does not offer"):
        fl.solve(sphere, [1.0, 0.0], (0, 1), scheme, dt=0.1)
    langevin = fl.LangevinParticles(10).flow(fl.kl("x**2/2"))
    assert scheme.obstacle(langevin)


def test_an_equation_without_a_solution_fails_and_says_so():
    class Stuck(Flow):
        space = SPACE

        def velocity(self, t, u):
            return np.sign(u) + 0.1

        def energy(self, t, u):
            return float(np.sum(np.abs(u)))

        def inner(self, u, a, b):
            return float(a @ b)

    with pytest.raises(NewtonFailure, match=r"discrete gradient|energy balance"):
        fl.Gonzalez().step(Stuck(), 0.0, np.array([0.3]), 1.0, None, ())


def test_a_singular_system_is_a_failure_of_newton():
    flow = Differences(SPACE.flow(fl.quadratic([[2.0, 1.0], [1.0, 3.0]])))
    flow.jacobian = lambda t, u: np.full((2, 2), np.nan)
    with pytest.raises(NewtonFailure, match="the linear system has no solution"):
        fl.Gonzalez().step(flow, 0.0, np.array([1.0, 2.0]), 1.0, None, ())


def test_rounding_of_cancelling_terms_is_recognized():
    flow = SPACE.flow(fl.Potential("x**4 - 2*x**2 + 1"))
    u = np.array([1.0 + 3e-9])
    for scheme in SCHEMES:
        step = scheme.step(flow, 0.0, u, 1.0, None, ())
        assert abs(step.u[0] - 1.0) < 2e-8
    assert Balance(flow, 0.0, u, 1.0, ((0.5, 1.0),), lambda: u).jitter > 1e-17


def test_schemes_pickle_and_are_found_by_name():
    for scheme in SCHEMES:
        assert pickle.loads(pickle.dumps(scheme)) == scheme
        assert fl.schemes.scheme_named(type(scheme).__name__) == scheme
        assert scheme.dissipative


def test_step_doubling_chooses_the_steps_where_it_exists():
    doubling = getattr(fl, "StepDoubling", None)
    if doubling is None:
        pytest.skip("no step doubling")
    p = fl.problems.stiff_quartic((1.0, 30.0), (1.0, 2.0))
    sol = fl.solve(
        SPACE.flow(p.energy),
        p.initial,
        (0, 1),
        doubling(fl.Gonzalez()),
        dt=fl.Adaptive(rtol=1e-6),
    )
    assert np.abs(sol.u[-1] - p.exact(1.0)).max() < 1e-4


RIPPLES = fl.Potential(
    lambda x: (x**2 / 2 + np.cos(5 * x)).sum(-1),
    gradient=lambda x: x - 5 * np.sin(5 * x),
)
BARRIER = fl.Potential(lambda x: (x - np.log(x)).sum(-1), gradient=lambda x: 1 - 1 / x)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("n", [1, 2, 7, 20])
@pytest.mark.parametrize("seed", range(3))
def test_ripples_and_barriers_keep_the_balance_at_long_steps(scheme, n, seed):
    """No step is halved: h = 100 is h = 100 where many solutions compete."""
    for energy in (RIPPLES, BARRIER):
        start = np.abs(np.random.default_rng(seed).normal(size=n)) + 0.5
        sol = fl.solve(SPACE.flow(energy), start, (0, 300), scheme, dt=100.0)
        assert sol.stats["halved"] == 0
        moved = (np.diff(sol.u, axis=0) ** 2).sum(-1)
        np.testing.assert_allclose(np.diff(sol.energy), -moved / 100.0, atol=1e-12 * n)


@pytest.mark.parametrize("scheme", AVERAGED, ids=repr)
@pytest.mark.parametrize("dt", [1.0, 10.0, 100.0])
def test_no_step_along_the_curved_valley_is_halved(scheme, dt):
    flow = SPACE.flow(ROSENBROCK)
    for start in ([-1.2, 1.0], [2.0, -1.5], [0.5, 3.0], [-1.9, -0.7]):
        sol = fl.solve(flow, start, (0, 6 * dt), scheme, dt=dt)
        assert sol.stats["halved"] == 0
        moved = (np.diff(sol.u, axis=0) ** 2).sum(-1)
        size = np.abs(sol.energy[1:]) + np.abs(sol.energy[:-1])
        assert (np.abs(np.diff(sol.energy) + moved / dt) <= 1e-12 * (1 + size)).all()


def branch_of(flow, u, h, rule=((0.5, 1.0),)):
    balance = Balance(flow, 0.0, u, h, rule, lambda: 0.0 * u)
    return Branch(balance), balance


def test_the_branch_goes_through_the_folds_where_newton_is_stuck():
    u, h = np.array([1.3, -0.4]), 100.0
    flow = SPACE.flow(RIPPLES)
    branch, balance = branch_of(flow, u, h)
    with np.errstate(all="ignore"):
        d = branch.solve(np.array(True))
    assert abs(balance.gap(d)) < 1e-10
    slope = flow.velocity(0.0, u + 0.5 * d)
    assert abs(d[0] * slope[1] - d[1] * slope[0]) < 1e-8 * np.abs(slope).max()


def test_the_points_of_the_branch_are_implicit_euler_points_of_the_middle():
    """On a quadratic the point at the angle a is that of the step s tan(a)/2."""
    A = np.array([[3.0, 1.0], [1.0, 2.0]])
    u = np.array([1.0, -2.0])
    branch, _ = branch_of(SPACE.flow(fl.quadratic(A)), u, 0.7)
    at = Place(np.zeros(2), np.zeros(()))
    along, active = branch.tangent(at, None), np.array(True)
    for _ in range(6):
        at, along, good, _ = branch.onwards(at, along, np.array(0.1), active)
        assert good
        step = 0.5 * float(branch.unit) * np.tan(float(at.a))
        middle = np.linalg.solve(np.eye(2) + step * A, u)
        assert np.abs(u + 0.5 * at.d - middle).max() < 1e-5


@pytest.mark.parametrize("scheme", AVERAGED, ids=repr)
def test_members_of_a_batch_go_along_their_own_branches(scheme):
    u = np.random.default_rng(0).normal(size=(12, 2)) * 2
    h = np.geomspace(0.1, 1e4, 12)[:, None]
    energy = fl.Potential("x**2/2 + cos(5*x) + y**2/2 + cos(5*y) + x*y/3")
    assert imbalance(SPACE.flow(energy), scheme, u, h)[0] < 1e-12
    metric = fl.Euclidean(metric=np.array([[2.0, 0.6], [0.6, 1.0]]))
    assert imbalance(metric.flow(energy), scheme, u, h)[0] < 1e-12
    krylov = fl.Euclidean(jacobian=fl.Krylov()).flow(energy)
    assert imbalance(krylov, scheme, u, h)[0] < 1e-12
    small = imbalance(SPACE.flow(energy), scheme, u.astype(np.float32), 100.0)
    assert small[0] < 4096 * np.finfo(np.float32).eps
    assert small[1].u.dtype == np.float32
    torch = pytest.importorskip("torch")
    there = imbalance(SPACE.flow(energy), scheme, torch.tensor(u), 100.0)
    assert there[0] < 1e-12
    assert there[1].u.dtype == torch.float64


@pytest.mark.parametrize("scheme", AVERAGED, ids=repr)
def test_an_energy_without_a_lower_bound_is_named(scheme):
    with pytest.raises(NewtonFailure, match="not bounded below"):
        scheme.step(
            SPACE.flow(fl.Potential("-exp(x)")), 0.0, np.array([0.5]), 1e3, None, ()
        )
