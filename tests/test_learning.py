"""Games, several objectives, masks and averages against their exact laws."""

import itertools
import math

import numpy as np
import pytest

import flows as fl
from flows.learning import min_norm_weights

SCHEMES = [fl.Euler(), fl.RK4(), fl.Tsit5(), fl.ImplicitEuler(), fl.TRBDF2()]


def radius(u):
    return np.linalg.norm(u, axis=-1)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_bilinear_game_runs_in_circles_at_the_order_of_the_scheme(scheme):
    p = fl.problems.bilinear_game(1.3, (0.6, -0.4), damping=0.2)

    def error(h):
        sol = fl.solve(p.flow, p.exact(0.0), p.t, scheme, dt=h)
        return float(radius(sol.u[-1] - p.exact(p.t[1])))

    slope = fl.convergence(error, [0.2, 0.1, 0.05, 0.025]).slope
    assert scheme.order - 0.1 <= slope <= scheme.order + 0.4


def growth(scheme, a, n=40):
    """Factors of the distance to the saddle in each step, h = a, sigma = 1."""
    p = fl.problems.bilinear_game()
    path = fl.steps(p.flow, p.exact(0.0), scheme, dt=a)
    u = np.array([u for _, u in itertools.islice(path, n)])
    return radius(u[1:]) / radius(u[:-1])


@pytest.mark.parametrize("a", [0.1, 0.5, 1 / math.sqrt(2), 0.9])
def test_steps_of_the_bilinear_game_have_their_exact_factors(a):
    simultaneous = growth(fl.Euler(), a)
    assert np.abs(simultaneous - math.sqrt(1 + a * a)).max() < 1e-14
    extragradient = growth(fl.Extragradient(), a)
    assert np.abs(extragradient - math.sqrt(1 - a**2 + a**4)).max() < 1e-14
    implicit = growth(fl.ImplicitEuler(), a)
    assert np.abs(implicit - 1 / math.sqrt(1 + a * a)).max() < 1e-14


def test_optimistic_steps_contract_below_one_over_sqrt_three_only():
    edge = 1 / math.sqrt(3)
    assert growth(fl.Optimistic(), 0.98 * edge, 400)[-50:].max() < 1.0
    assert growth(fl.Optimistic(), 1.02 * edge, 400)[-50:].min() > 1.0


def test_optimistic_steps_have_order_one_when_steps_alternate():
    p = fl.problems.bilinear_game()
    scheme = fl.Optimistic()

    def error(n):
        u, t, memory = p.exact(0.0), 0.0, ()
        for k in range(2 * n):
            h = (2.0 / n) * (1 / 3 if k % 2 else 2 / 3)
            step = scheme.step(p.flow, t, u, h, None, memory)
            u, memory, t = step.u, step.memory, t + h
        return float(radius(u - p.exact(2.0)))

    errors = [error(n) for n in (40, 80, 160)]
    assert 0.9 < math.log2(errors[1] / errors[2]) < 1.2


@pytest.mark.parametrize("a", [0.3, 1.0, 1.9])
def test_alternating_descent_keeps_its_quadratic_form(a):
    p = fl.problems.bilinear_game(x0=(0.8, 0.3))
    scheme = fl.Splitting("x y", inner=fl.Euler())
    path = fl.steps(p.flow, p.exact(0.0), scheme, dt=a)
    u = np.array([p.exact(0.0), *(u for _, u in itertools.islice(path, 200))])
    x, y = u.T
    form = x**2 + y**2 - a * x * y
    assert np.abs(form - form[0]).max() < 1e-12


def test_dirac_gan_linearizations_have_their_eigenvalues():
    """Generator at x, linear critic y, f(s) = -log(1 + e^-s), f'(0) = 1/2; R1 on y."""
    g = 0.3
    f = fl.Potential("-log(1 + exp(-x*y))")
    critic = -f + fl.Potential("g*y**2/2 + 0*x", parameters={"g": g})
    flow = fl.learning.game({"x": f, "y": critic}, {"x": [0], "y": [1]})
    found = np.sort_complex(np.linalg.eigvals(flow.jacobian(0.0, np.zeros(2))))
    root = np.sqrt(complex(g * g / 4 - 0.25))
    expected = np.sort_complex(np.array([-g / 2 - root, -g / 2 + root]))
    assert np.abs(found - expected).max() < 1e-14


@pytest.mark.parametrize(("slope", "bend"), [(0.5, -0.25), (1.0, 0.0)])
@pytest.mark.parametrize("g", [0.3, 2.0])
def test_consensus_damps_the_dirac_game(slope, bend, g):
    """v - g grad |v|^2/2 has eigenvalues -g f'(0)^2 +- i f'(0), any f''(0)."""
    import sympy

    x, y = sympy.symbols("x y")
    s = x * y
    df = slope + bend * s
    v = sympy.Matrix([-y * df, x * df])
    half = (v.T * v)[0] / 2
    field = [sympy.expand(v[i] - g * half.diff(z)) for i, z in enumerate((x, y))]
    flow = fl.theory.modified_equation(fl.Euler(), field, 1).flow(1.0)
    found = np.sort_complex(np.linalg.eigvals(flow.jacobian(0.0, np.zeros(2))))
    expected = -g * slope**2 + np.array([-1j, 1j]) * slope
    assert np.abs(found - expected).max() < 1e-14


@pytest.mark.parametrize("seed", range(5))
def test_two_gradients_have_their_closed_form(seed):
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(2, 3)) + np.array([[0.0], [seed - 2.0]])
    gap = g[1] - g[0]
    a = np.clip(gap @ g[1] / (gap @ gap), 0.0, 1.0)
    assert np.allclose(min_norm_weights(g @ g.T), [a, 1 - a], atol=1e-12)
    d = a * g[0] + (1 - a) * g[1]
    if 0 < a < 1:
        assert np.allclose(g @ d, d @ d, atol=1e-12)
    energies = [fl.Potential(f"({u})*x + ({v})*y + ({w})*z") for u, v, w in g.tolist()]
    flow = fl.learning.multi_objective(energies)
    assert np.allclose(flow.velocity(0.0, np.zeros(3)), -d, atol=1e-12)


def test_game_takes_batches_and_torch():
    torch = pytest.importorskip("torch")
    p = fl.problems.bilinear_game(x0=np.arange(6.0).reshape(3, 2))
    sol = fl.solve(p.flow, p.exact(0.0), p.t, fl.RK4(), dt=0.01)
    assert np.abs(sol.u[-1] - p.exact(2.0)).max() < 1e-7
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    flow = fl.problems.bilinear_game().flow
    sol = fl.solve(flow, start, (0, 2), fl.TRBDF2(), dt=0.01)
    assert isinstance(sol.u, torch.Tensor)
    assert abs(float(sol.u[-1, 0]) - math.cos(2.0)) < 1e-4
    assert sol.energy is None


def test_game_refuses_what_is_no_game():
    L = fl.Potential("x*y")
    with pytest.raises(ValueError, match="same players"):
        fl.learning.game({"x": L}, {"y": [0]})
    with pytest.raises(ValueError, match="exactly once"):
        fl.learning.game({"x": L, "y": -L}, {"x": [0, 1], "y": [1]})
    with pytest.raises(TypeError, match="must be an energy"):
        fl.learning.game({"x": "x*y"}, {"x": [0]})
    with pytest.raises(TypeError, match="`losses` must be a mapping"):
        fl.learning.game(L, -L)
    with pytest.raises(TypeError, match="`blocks` must be a mapping"):
        fl.learning.game({"x": L, "y": -L}, [[0], [1]])
    with pytest.raises(TypeError, match="Entropy"):
        fl.learning.game({"x": fl.Entropy(1.0)}, {"x": [0]})
    flow = fl.problems.bilinear_game().flow
    with pytest.raises(ValueError, match="the players have 2"):
        flow.velocity(0.0, np.zeros(3))
    with pytest.raises(ValueError, match="x0"):
        fl.problems.bilinear_game(x0=(1.0, 2.0, 3.0))


def test_least_norm_points_in_closed_form():
    triangle = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 3.0]])
    assert np.allclose(min_norm_weights(triangle @ triangle.T), [0.5, 0.5, 0.0])
    other = np.array([[1.0, 1.0], [-2.0, 1.5], [0.5, 3.0]])
    assert np.allclose(min_norm_weights(other @ other.T), [27 / 37, 10 / 37, 0.0])
    sizes = np.array([1.0, 2.0, 0.5, 3.0])
    found = min_norm_weights(np.diag(sizes**2))
    assert np.allclose(found, sizes**-2 / (sizes**-2).sum(), atol=1e-14)
    same = np.ones((3, 3))
    assert min_norm_weights(same).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(20))
def test_least_norm_points_satisfy_their_optimality_condition(seed):
    """min_i <g_i, u> = |u|^2, also for many vectors and for dependent ones."""
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 12), rng.integers(1, 8)
    g = rng.normal(size=(m, n)) + rng.normal(size=n)
    if m > 3:
        g[2] = 0.5 * (g[0] + g[1])
    a = min_norm_weights(g @ g.T)
    u = a @ g
    assert (a >= 0).all()
    assert a.sum() == pytest.approx(1.0, abs=1e-14)
    assert (g @ u).min() >= u @ u - 1e-10 * np.abs(g @ g.T).max()


def test_least_norm_refuses_what_is_no_gram_matrix():
    with pytest.raises(ValueError, match="shape"):
        min_norm_weights(np.ones((2, 3)))
    with pytest.raises(ValueError, match="symmetric"):
        min_norm_weights(np.array([[1.0, 2.0], [0.0, 1.0]]))


@pytest.mark.parametrize("x0", [(3.0, 2.0), (-1.0, -1.0), (0.5, 0.2)])
def test_equal_quadratics_go_straight_to_the_hull(x0):
    p = fl.problems.pareto_quadratics(x0=x0)
    sol = fl.solve(p.flow, p.exact(0.0), p.t, fl.RK4(), dt=0.01)
    error = max(radius(u - p.exact(t)) for t, u in zip(sol.t, sol.u, strict=True))
    assert error < 1e-8
    assert np.diff(sol.energy, axis=0).max() < 1e-12
    assert sol.energy.shape == (len(sol.t), 3)


def test_every_objective_falls_at_least_as_fast_as_the_square_of_the_speed():
    flow = fl.learning.multi_objective(
        [fl.quadratic([1.0, 5.0]), fl.Potential("(x - 1)**4 + (y - 1)**2")]
    )
    u = np.array([1.7, -0.6])
    v = flow.velocity(0.0, u)
    slopes = flow.gradients(0.0, u) @ v
    a = flow.weights(0.0, u)
    assert (slopes <= -(v @ v) + 1e-12).all()
    assert np.abs(slopes[a > 0] + v @ v).max() < 1e-12


def test_multi_objective_refuses_batches_and_nothing():
    with pytest.raises(ValueError, match="at least one"):
        fl.learning.multi_objective([])
    with pytest.raises(TypeError, match="must be an energy"):
        fl.learning.multi_objective(["x**2"])
    with pytest.raises(TypeError, match="Entropy"):
        fl.learning.multi_objective([fl.Entropy(1.0)])
    with pytest.raises(TypeError, match="sequence of energies"):
        fl.learning.multi_objective(fl.quadratic(1.0))
    flow = fl.problems.pareto_quadratics().flow
    with pytest.raises(ValueError, match="one point"):
        flow.velocity(0.0, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="shape"):
        fl.problems.pareto_quadratics(x0=(1.0, 2.0, 3.0))


class Fixed:
    """A stream whose uniform numbers are below or above every probability."""

    def __init__(self, moves):
        self.moves = np.asarray(moves, dtype=bool)

    def uniform(self, shape, like):
        return np.where(self.moves, 0.0, 1.0).reshape(shape)


@pytest.mark.parametrize(
    ("h", "p"), [(0.3, 0.4), (2.0 * 0.4 / 1.7, 0.4), (0.8 / 0.5, 0.8)]
)
def test_masked_steps_have_their_exact_moments_by_enumeration(h, p):
    """All 2^6 masks of three steps in two coordinates; hl = 2p is the threshold."""
    rates, start, k = np.array([1.7, 0.5]), np.array([1.0, -2.0]), 3
    flow = fl.learning.masked(fl.Euclidean().flow(fl.quadratic(rates)), p)
    mean, second = np.zeros(2), np.zeros(2)
    for moves in itertools.product((0, 1), repeat=2 * k):
        u = start
        for n in range(k):
            drawn = flow.draw(Fixed(moves[2 * n : 2 * n + 2]))
            u = fl.Euler().step(drawn, 0.0, u, h, None, ()).u
        chance = p ** sum(moves) * (1 - p) ** (2 * k - sum(moves))
        mean, second = mean + chance * u, second + chance * u * u
    assert np.allclose(mean, (1 - h * rates) ** k * start, atol=1e-14)
    factor = 1 - 2 * h * rates + h**2 * rates**2 / p
    assert np.allclose(second, factor**k * start**2, atol=1e-13)
    assert np.array_equal(factor < 1 - 1e-12, h * rates < 2 * p - 1e-12)


def test_masked_steps_have_their_exact_moments_in_a_sample():
    """n = 20000 coordinates, 3 steps: 4 standard errors of mean and second moment."""
    h, lam, p, k, n = 0.2, 1.0, 0.5, 3, 20000
    flow = fl.learning.masked(fl.Euclidean().flow(fl.quadratic(lam)), p)
    u = np.ones(n)
    path = fl.steps(flow, u, fl.Euler(), dt=h, rng=3)
    *_, (_, u) = itertools.islice(path, k)
    second = (1 - 2 * h * lam + h**2 * lam**2 / p) ** k
    mean = (1 - h * lam) ** k
    fourth = (p * (1 - h * lam / p) ** 4 + 1 - p) ** k
    assert abs(u.mean() - mean) < 4 * math.sqrt((second - mean**2) / n)
    assert abs((u**2).mean() - second) < 4 * math.sqrt((fourth - second**2) / n)
    assert len(np.unique(np.round(u, 12))) == k + 1


def test_masks_are_drawn_once_a_step_and_repeat_with_the_seed():
    flow = fl.learning.masked(fl.Euclidean().flow(fl.quadratic(1.0)), 0.5)
    sols = [
        fl.solve(flow, np.ones(50), (0, 1), fl.RK4(), dt=0.1, rng=seed)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(sols[0].u, sols[1].u)
    assert not np.array_equal(sols[0].u, sols[2].u)
    still = sols[0].u[1] == 1.0
    assert 5 < still.sum() < 45
    plain = fl.learning.masked(flow.inner_flow, 0.5, rescaled=False)
    assert np.allclose(plain.velocity(0.0, np.ones(3)), -0.5)
    with pytest.raises(ValueError, match="probability"):
        fl.learning.masked(flow, 1.5)
    with pytest.raises(TypeError, match="velocity"):
        fl.learning.masked("flow", 0.5)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.7])
@pytest.mark.parametrize("corrected", [False, True])
def test_exponential_average_of_descent_is_exact_also_at_resonance(beta, corrected):
    """r = 1 - h lam = 0.7; at beta = 0.7 both rates coincide."""
    h, r = 0.3, 0.7
    hook = fl.learning.ExponentialAverage(beta, corrected=corrected)
    flow = fl.Euclidean().flow(fl.quadratic(1.0))
    sol = fl.solve(flow, [2.0], (0, 6.0), fl.Euler(), dt=h, on_step=hook)
    k = np.arange(21)
    sums = np.array([sum(r**j * beta ** (i - j) for j in range(1, i + 1)) for i in k])
    exact = (1 - beta) * sums
    if corrected:
        exact = np.where(k > 0, exact / np.where(k > 0, 1 - beta**k, 1.0), 1.0)
    else:
        exact = exact + beta**k
        gap = (r**k - beta**k) / (r - beta) if r != beta else k * beta ** (k - 1.0)
        assert np.allclose(exact, beta**k + (1 - beta) * r * gap, atol=1e-14)
    found = sol.records["exponential_average"][:, 0]
    assert np.abs(found - 2 * exact).max() < 1e-14


def test_uniform_average_of_descent_is_a_geometric_sum():
    hook = fl.learning.Average()
    flow = fl.Euclidean().flow(fl.quadratic(1.0))
    sol = fl.solve(flow, [1.0], (0, 3.0), fl.Euler(), dt=0.3, on_step=hook)
    k = np.arange(11)
    exact = (1 - 0.7 ** (k + 1)) / (0.3 * (k + 1))
    assert np.abs(sol.records["average"][:, 0] - exact).max() < 1e-14


@pytest.mark.parametrize(
    "hook", [fl.learning.Average(), fl.learning.ExponentialAverage(0.8, corrected=True)]
)
def test_averages_survive_a_checkpoint(hook, tmp_path):
    flow = fl.Euclidean().flow(fl.quadratic(1.0))
    path = tmp_path / "run.npz"
    whole = fl.solve(flow, [1.0], (0, 2.0), fl.Euler(), dt=0.1, on_step=hook)
    name = next(iter(hook.values()))
    stop = fl.Checkpoint(path, every=7)

    def crash(t, u):
        if t > 1.5:
            raise RuntimeError("power cut")

    def calm(t, u):
        pass

    with pytest.raises(RuntimeError, match="power cut"):
        fl.solve(flow, [1.0], (0, 2.0), fl.Euler(), dt=0.1, on_step=[hook, stop, crash])
    sol = fl.resume(path, flow, fl.Euler(), on_step=[hook, stop, calm])
    assert np.array_equal(sol.records[name], whole.records[name])


def test_exponential_average_refuses_a_factor_outside_its_range():
    with pytest.raises(ValueError, match="beta"):
        fl.learning.ExponentialAverage(1.0)


def test_problem_needs_an_energy_or_a_flow():
    with pytest.raises(TypeError, match="energy"):
        fl.Problem("none", None, None, (0, 1), start=np.zeros(1))
