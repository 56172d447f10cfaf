"""Compiled steps under gradients written in NumPy against the plain path."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import flows as fl
from flows.spaces import compiled_functions
from flows.spaces.compiled_steps import compiled_steps

pytest.importorskip("numba")


def chain_value(x):
    a = x[..., 1:] - x[..., :-1] ** 2
    return ((1 - x[..., :-1]) ** 2 + 20 * a * a).sum(-1)


def chain_gradient(x):
    a = x[..., 1:] - x[..., :-1] ** 2
    g = np.zeros_like(x)
    g[..., :-1] = -2 * (1 - x[..., :-1]) - 80 * x[..., :-1] * a
    g[..., 1:] += 40 * a
    return g


def beam_gradient(x):
    """Of |x'' + 1|^2/2 + x^4/4, with five diagonals in its Hessian."""
    bend = x[..., :-2] - 2 * x[..., 1:-1] + x[..., 2:] + 1.0
    g = x**3
    g[..., :-2] += bend
    g[..., 1:-1] -= 2 * bend
    g[..., 2:] += bend
    return g


def beam_value(x):
    bend = x[..., :-2] - 2 * x[..., 1:-1] + x[..., 2:] + 1.0
    return 0.5 * (bend**2).sum(-1) + 0.25 * (x**4).sum(-1)


def pulled_gradient(x, t):
    return x**3 - np.sin(3 * t)


def pulled_value(x, t):
    return (x**4).sum(-1) / 4 - np.sin(3 * t) * x.sum(-1)


CHAIN = fl.Potential(chain_value, gradient=chain_gradient)
BEAM = fl.Potential(beam_value, gradient=beam_gradient)
PULLED = fl.Potential(pulled_value, gradient=pulled_gradient, time_dependent=True)
SUM = 0.5 * CHAIN + 2.0 * PULLED + fl.Potential(1.0)

CASES = [
    (CHAIN, fl.Banded(1, 1)),
    (CHAIN, None),
    (BEAM, fl.Banded(2, 2)),
    (BEAM, fl.Dense()),
    (PULLED, fl.Banded(0, 0)),
    (SUM, fl.Banded(1, 0)),
]


def start(n, seed=0):
    return np.random.default_rng(seed).uniform(-1.2, 1.2, n)


def spaces(structure):
    return [fl.Euclidean(jacobian=structure, compiled=c) for c in (True, False)]


@pytest.mark.parametrize("scheme", [fl.Euler(), fl.RK4(), fl.Tsit5()], ids=repr)
@pytest.mark.parametrize("energy", [CHAIN, SUM, PULLED])
def test_equal_explicit_steps_are_those_of_the_plain_path(energy, scheme):
    u = start(40)
    ours, plain = (
        fl.solve(s.flow(energy), u, (0.5, 0.8), scheme, dt=0.003, save_at=[0.7, 0.8])
        for s in spaces(None)
    )
    assert np.abs(ours.u - plain.u).max() < 1e-13
    # The slope at a save time is found again.
    more = ours.stats["velocity_calls"] - plain.stats["velocity_calls"]
    assert more == (1 if scheme == fl.Tsit5() else 0)


@pytest.mark.parametrize(("energy", "structure"), CASES)
def test_adaptive_steps_are_those_of_the_plain_path(energy, structure):
    u, control = start(30), fl.Adaptive(rtol=1e-5, atol=1e-7)
    for scheme in (fl.DormandPrince(), fl.Rosenbrock()):
        ours, plain = (
            fl.solve(s.flow(energy), u, (0.5, 1.5), scheme, dt=control, save_at=[1.5])
            for s in spaces(structure)
        )
        # Differences for Hess V have other steps, and errors of 1e-8.
        assert np.abs(ours.u - plain.u).max() < 1e-7
        for key in ("steps", "rejected"):
            assert ours.stats[key] == plain.stats[key]


def test_the_default_keeps_its_tolerance_on_a_stiff_chain():
    n, control = 200, fl.Adaptive(rtol=1e-6, atol=1e-9)
    flow = fl.Euclidean(jacobian=fl.Banded(1, 1), compiled=True).flow(CHAIN)
    sol = fl.solve(flow, start(n), (0, 5), dt=control, save_at=[5.0])
    exact = solve_ivp(
        lambda t, x: -chain_gradient(x), (0, 5), start(n), rtol=1e-11, atol=1e-13
    ).y[:, -1]
    assert sol.scheme == fl.Rosenbrock()
    assert np.abs(sol.u[-1] - exact).max() < 1e-5


def test_equal_rosenbrock_steps_have_order_four():
    energy, u = PULLED, np.array([0.3, -0.2, 1.5])
    flow = fl.Euclidean(compiled=True).flow(energy)
    exact = solve_ivp(flow.velocity, (0, 1), u, rtol=1e-12, atol=1e-13).y[:, -1]
    errors = [
        np.abs(compiled_steps(energy, fl.Rosenbrock(), h, 0.0, 1.0, u)[0] - exact).max()
        for h in (0.1, 0.05, 0.025)
    ]
    orders = -np.diff(np.log2(errors))
    assert (np.abs(orders - 4) < 0.4).all(), orders


def test_a_step_beyond_the_pole_of_a_direction_of_growth_is_shortened():
    energy = fl.Potential(
        lambda x: (x**4 / 4 - 50 * x**2).sum(-1), gradient=lambda x: x**3 - 100 * x
    )
    u = np.array([1e-6, -0.5, 3.0])
    control = fl.Adaptive(rtol=1e-6, first=0.5)
    flow = fl.Euclidean(compiled=True).flow(energy)
    sol = fl.solve(flow, u, (0, 1), fl.Rosenbrock(), dt=control, save_at=[1.0])
    # 1/x^2 - 1/100 decays with rate 200.
    exact = np.sign(u) / np.sqrt(0.01 + (u**-2.0 - 0.01) * np.exp(-200.0))
    assert np.abs(sol.u[-1] / exact - 1).max() < 1e-5
    assert sol.stats["rejected"] >= 1


def test_the_points_of_a_batch_take_their_own_steps():
    control = fl.Adaptive(rtol=1e-6)
    u = np.stack([start(6, seed) * (1 + seed) for seed in range(3)])
    flow = fl.Euclidean(compiled=True).flow(CHAIN)
    sol = fl.solve(flow, u, (0, 1), fl.Tsit5(), dt=control, save_at=[1.0])
    alone = [
        fl.solve(flow, v, (0, 1), fl.Tsit5(), dt=control, save_at=[1.0]) for v in u
    ]
    assert (sol.u[-1] == [a.u[-1] for a in alone]).all()
    assert sol.stats["member_steps"] == [a.stats["steps"] for a in alone]
    assert len(set(sol.stats["member_steps"])) == 3


def test_functions_are_compiled_only_where_the_user_asks(monkeypatch):
    def refuse(functional):
        raise AssertionError("compiled without being asked to")

    monkeypatch.setattr(compiled_functions, "compiled_gradient", refuse)
    u = np.ones((600, 2))
    sol = fl.solve(fl.Euclidean().flow(CHAIN), u, (0, 0.1), fl.RK4(), dt=0.1)
    assert sol.ok


def test_one_source_serves_all_gradients(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    u = start(7)
    for scale in (1.0, 2.0):
        one = fl.Potential(
            lambda x, a=scale: a * (x**2).sum(-1), gradient=lambda x, a=scale: 2 * a * x
        )
        out, _ = compiled_steps(one, fl.Euler(), 0.1, 0.0, 0.1, u)
        assert np.abs(out - (1 - 0.2 * scale) * u).max() < 1e-15
    assert len(list((tmp_path / "flows").glob("flows_*.py"))) == 1


def solve_compiled(energy, u, scheme=None):
    flow = fl.Euclidean(compiled=True).flow(energy)
    return fl.solve(flow, u, (0, 1), scheme or fl.RK4(), dt=0.1, save_at=[1.0])


def test_numbers_that_change_outside_the_gradient_are_noticed():
    A = np.array([1.0, 2.0])
    energy = fl.Potential(lambda x: (A * x * x).sum(-1) / 2, gradient=lambda x: A * x)
    solve_compiled(energy, np.ones(2))
    A *= 3.0
    with pytest.raises(TypeError, match="make a new Potential after changing them"):
        solve_compiled(energy, np.ones(2))


def test_a_gradient_that_numba_cannot_compile_is_said_so():
    from scipy.special import expit

    energy = fl.Potential(
        lambda x: np.log1p(np.exp(x)).sum(-1), gradient=lambda x: expit(x)
    )
    with pytest.raises(TypeError, match="numba cannot compile `gradient`"):
        solve_compiled(energy, np.ones(2))


def test_formulas_and_functions_do_not_mix():
    with pytest.raises(TypeError, match="may all be formulas, or all functions"):
        solve_compiled(CHAIN + fl.Potential("x**2/2"), np.ones(1))


def test_large_systems_without_a_structure_are_sent_to_one():
    with pytest.raises(TypeError, match=r"give jacobian=fl.Banded\(k, k\)"):
        solve_compiled(CHAIN, start(600), fl.Rosenbrock())


def checked_gradient(x):
    if x[0] < 0.5:
        raise ValueError("outside of the domain")
    return 1.0 * x


def test_an_error_of_the_gradient_reaches_the_user():
    energy = fl.Potential(lambda x: (x**2).sum(-1) / 2, gradient=checked_gradient)
    with pytest.raises(ValueError, match="outside of the domain"):
        solve_compiled(energy, np.ones(2))
