"""The verb: times, saving, stopping, observing, continuing, repeating."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading

import numpy as np
import pytest

import flows as fl

DECAY = fl.Euclidean().flow(fl.quadratic([1.0, 3.0]))
WELL = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2 / 4"))
X0 = np.array([1.0, -2.0])
EXACT = X0 * np.exp(-np.array([1.0, 3.0]))


def test_every_step_is_saved_by_default():
    sol = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1)
    assert sol.t == pytest.approx(np.linspace(0, 1, 11), abs=1e-15)
    assert sol.t[-1] == 1.0
    assert sol.u.shape == (11, 2)
    assert sol.u[-1] == pytest.approx(EXACT, abs=3e-5)
    assert sol.stats["steps"] == 10
    assert sol.ok


def test_fixed_steps_are_equal_and_at_most_dt():
    sol = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.3)
    assert len(sol.t) == 5
    assert np.diff(sol.t) == pytest.approx(0.25)


def test_a_spacing_saves_the_start_its_multiples_and_the_end():
    sol = fl.solve(DECAY, X0, (1, 2), fl.RK4(), dt=0.1, save_at=0.3)
    assert sol.t == pytest.approx([1.0, 1.3, 1.6, 1.9, 2.0])


@pytest.mark.parametrize("dt", [0.07, fl.Adaptive(rtol=1e-8)])
def test_an_array_saves_exactly_these_times(dt):
    times = [0.25, 0.3, 0.9]
    sol = fl.solve(DECAY, X0, (0, 1), fl.Tsit5(), dt=dt, save_at=times)
    assert sol.t.tolist() == times
    exact = X0 * np.exp(-np.outer(times, [1.0, 3.0]))
    assert sol.u == pytest.approx(exact, abs=1e-6)
    assert sol.final.t == 1.0


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(
    "scheme",
    [fl.Heun(), fl.BogackiShampine(), fl.DormandPrince(), fl.Tsit5(), fl.DOP853()],
    ids=repr,
)
def test_adaptive_steps_keep_their_tolerance(scheme, rtol):
    dt = fl.Adaptive(rtol=rtol, atol=rtol * 1e-3)
    sol = fl.solve(WELL, [0.1], (0, 8), scheme, dt=dt)
    exact = 0.1 / np.sqrt(0.01 + 0.99 * np.exp(-2 * sol.t))
    assert np.abs(sol.u[:, 0] - exact).max() < 100 * rtol


@pytest.mark.parametrize(
    "scheme", [fl.ImplicitEuler(), fl.TRBDF2(), fl.BDF2(), fl.SDIRK3()], ids=repr
)
def test_adaptive_implicit_steps_are_not_held_back_by_stiffness(scheme):
    stiff = fl.Euclidean().flow(fl.quadratic([1.0, 1e6]))
    sol = fl.solve(stiff, [1.0, 1.0], (0, 10), scheme, dt=fl.Adaptive(1e-4, 1e-7))
    assert sol.stats["steps"] < 3000
    assert sol.u[-1, 0] == pytest.approx(math.exp(-10), abs=1e-3)


def test_default_scheme_and_step_are_named_in_the_statistics():
    sol = fl.solve(DECAY, X0, (0, 1))
    assert "TRBDF2" in sol.stats["chosen"]
    assert sol.u[-1] == pytest.approx(EXACT, abs=1e-5)


def test_until_refines_a_sign_change():
    sol = fl.solve(
        DECAY, X0, (0, 5), fl.DormandPrince(), dt=0.25, until=lambda t, u: u[0] - 0.5
    )
    assert sol.t[-1] == pytest.approx(math.log(2), abs=1e-6)
    assert sol.u[-1, 0] == pytest.approx(0.5, abs=1e-12)
    assert "until" in sol.message


def test_until_bisects_a_bool():
    sol = fl.solve(
        DECAY, X0, (0, math.inf), fl.RK4(), dt=0.1, until=lambda t, u: bool(u[0] < 0.5)
    )
    assert sol.t[-1] == pytest.approx(math.log(2), abs=1e-5)
    assert sol.u[-1, 0] < 0.5


def test_until_that_holds_at_the_start_takes_no_step():
    sol = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1, until=lambda t, u: True)
    assert len(sol.t) == 1


def test_a_run_can_go_on_after_an_event():
    first = fl.solve(DECAY, X0, (0, 5), fl.RK4(), dt=0.1, until=lambda t, u: u[0] - 0.5)
    second = fl.solve(DECAY, first, (first.t[-1], 1.0), fl.RK4(), dt=0.1)
    assert second.u[-1] == pytest.approx(EXACT, abs=1e-4)


def test_steady_stops_where_the_velocity_vanishes():
    sol = fl.solve(
        WELL, [0.3], (0, math.inf), fl.DormandPrince(), dt=0.1, until=fl.Steady(1e-6)
    )
    assert abs(sol.flow.velocity(0.0, sol.u[-1])[0]) <= 1e-6
    assert sol.u[-1, 0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.DormandPrince(), fl.BDF2()], ids=repr)
def test_dense_output_has_order_at_least_three(scheme):
    def error(h):
        sol = fl.solve(WELL, [0.4], (0, 2), fl.DOP853(), dt=h)
        t = np.linspace(0, 2, 77)
        exact = 0.4 / np.sqrt(0.16 + 0.84 * np.exp(-2 * t))
        return float(np.abs(sol(t)[:, 0] - exact).max())

    assert fl.convergence(error, [0.4, 0.2, 0.1, 0.05]).order[-1] > 2.9


def test_dense_output_needs_every_step_and_the_interval():
    sol = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1, save_at=0.5)
    with pytest.raises(ValueError, match="save_at=None"):
        sol(0.2)
    sol = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1)
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        sol(1.2)
    assert sol(0.5).shape == (2,)
    assert sol([0.0, 0.5]).shape == (2, 2)


@pytest.mark.parametrize("scheme", [fl.RK4(), fl.BDF2(), fl.Tsit5()], ids=repr)
def test_two_runs_are_one_run(scheme):
    whole = fl.solve(WELL, [0.4], (0, 2), scheme, dt=0.125, save_at=1.0)
    half = fl.solve(WELL, [0.4], (0, 1), scheme, dt=0.125)
    rest = fl.solve(WELL, half, (1, 2), scheme, dt=0.125)
    assert np.array_equal(rest.u[-1], whole.u[-1])
    with pytest.raises(ValueError, match="ends at t = 1"):
        fl.solve(WELL, half, (0, 2), scheme, dt=0.1)


def test_a_random_run_goes_on_with_its_stream():
    flow = fl.LangevinParticles(50).flow(fl.kl("x**2/2"))
    start = fl.Gaussian(0.0, 1.0)
    em = fl.EulerMaruyama()
    whole = fl.solve(flow, start, (0, 2), em, dt=0.125, save_at=1.0, rng=7)
    half = fl.solve(flow, start, (0, 1), em, dt=0.125, rng=7)
    rest = fl.solve(flow, half, (1, 2), em, dt=0.125)
    assert np.array_equal(rest.u[-1], whole.u[-1])
    assert rest.stats["seed"] == 7


def test_a_generator_gives_one_key_that_repeats_the_run():
    flow = fl.LangevinParticles(50).flow(fl.kl("x**2/2"))

    def run(rng):
        return fl.solve(
            flow, fl.Gaussian(0.0, 1.0), (0, 1), fl.EulerMaruyama(), dt=0.1, rng=rng
        )

    first = run(np.random.default_rng(3))
    assert np.array_equal(run(first.stats["seed"]).u, first.u)
    assert not np.array_equal(run(1).u, first.u)


def test_hooks_see_every_step():
    seen = []
    record = fl.Record(norm=lambda t, u: np.linalg.norm(u))
    sol = fl.solve(
        DECAY,
        X0,
        (0, 1),
        fl.RK4(),
        dt=0.25,
        save_at=1.0,
        on_step=[lambda t, u: seen.append(t), record],
    )
    assert seen == [0.25, 0.5, 0.75, 1.0]
    assert sol.records["t"].tolist() == [0.0, *seen]
    assert sol.records["norm"][0] == pytest.approx(math.sqrt(5))


def test_hooks_do_not_change_the_path():
    plain = fl.solve(WELL, [0.3], (0, 2), fl.Tsit5())
    check = fl.Check(descent=True)
    seen = fl.solve(WELL, [0.3], (0, 2), fl.Tsit5(), on_step=[check, fl.Progress()])
    assert np.array_equal(plain.u, seen.u)


def test_progress_draws_a_bar_only_where_it_is_read():
    silent, loud = io.StringIO(), io.StringIO()
    for stream, always in ((silent, False), (loud, True)):
        bar = fl.Progress(stream, always=always, interval=0.0)
        fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1, on_step=bar)
    assert silent.getvalue() == ""
    assert "100%" in loud.getvalue()
    assert "10 steps" in loud.getvalue()


def test_ctrl_c_carries_the_partial_solution():
    def press(t, u):
        if t > 0.45:
            raise KeyboardInterrupt

    with pytest.raises(fl.Interrupted, match=r"Interrupted at t = 0.5") as caught:
        fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1, save_at=1.0, on_step=press)
    assert caught.value.solution.t[-1] == pytest.approx(0.5)
    assert isinstance(caught.value, KeyboardInterrupt)


def test_an_error_of_the_user_says_where_it_happened():
    def fail(t, u):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as caught:
        fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1, on_step=fail)
    assert "t = 0.1" in caught.value.__notes__[0]


def test_a_solution_pickles_copies_and_prints(tmp_path):
    sol = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1)
    for twin in (pickle.loads(pickle.dumps(sol)), copy.deepcopy(sol)):
        assert np.array_equal(twin.u, sol.u)
        assert twin.energy == pytest.approx(sol.energy)
    text = str(sol)
    assert "RK4()" in text
    assert "never rose" in text
    assert "10" in text


def test_saved_solutions_load_without_pickle(tmp_path):
    grid = fl.Grid((-4, 4, 30))
    flow = grid.flow(fl.kl("x**2/2"))
    sol = fl.solve(flow, fl.Gaussian(1.0, 0.5), (0, 1), fl.TRBDF2(), dt=0.1)
    path = sol.save(tmp_path / "run.npz")
    back = fl.load(path)
    assert np.array_equal(back.u, sol.u)
    assert back.energy == pytest.approx(sol.energy)
    assert back.measure(-1).mean == pytest.approx(sol.measure(-1).mean)
    assert fl.load(path, flow)(0.55) == pytest.approx(sol(0.55))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="damaged"):
        fl.load(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        fl.load(tmp_path / "absent.npz")


def test_threads_give_what_one_thread_gives():
    def job(out, i):
        sol = fl.solve(WELL, [0.1 + 0.1 * i], (0, 2), fl.TRBDF2(), dt=0.05)
        out[i] = sol.u[-1]

    alone: dict[int, np.ndarray] = {}
    for i in range(6):
        job(alone, i)
    shared: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=job, args=(shared, i)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(alone[i], shared[i]) for i in range(6))


def test_steps_is_endless_and_agrees_with_solve():
    sol = fl.solve(WELL, [0.3], (0, 1), fl.RK4(), dt=0.125)
    stream = fl.steps(WELL, [0.3], fl.RK4(), dt=0.125)
    got = [next(stream) for _ in range(8)]
    assert [t for t, _ in got] == sol.t[1:].tolist()
    assert np.array_equal(np.array([u for _, u in got]), sol.u[1:])


def test_time_dependent_potentials_are_compared_at_one_time():
    flow = fl.Euclidean().flow(fl.Potential("(x - sin(t))**2/2"))
    sol = fl.solve(flow, [0.0], (0, 3), fl.ImplicitEuler(), dt=0.05)
    exact = 0.5 * (np.sin(3) - np.cos(3) + np.exp(-3))
    assert sol.u[-1, 0] == pytest.approx(exact, abs=0.03)
    assert sol.stats["energy_rises"] == 0
    assert (np.diff(sol.energy) > 0).any()


def test_energies_are_listed_term_by_term():
    energy = fl.Entropy(0.5) + fl.Potential("x**2/2")
    flow = fl.Grid((-4, 4, 50)).flow(energy)
    sol = fl.solve(flow, fl.Gaussian(0.5, 0.5), (0, 1), fl.ImplicitEuler(), dt=0.1)
    assert set(sol.energies) == {repr(term) for term in energy.terms}
    assert sum(sol.energies.values()) == pytest.approx(sol.energy)


class Chart(fl.Flow):
    """u' = -u on u > 0, stepped in z = log u, where it is z' = -1."""

    def encode(self, u):
        return np.log(u)

    def decode(self, z):
        return np.exp(z)

    def velocity(self, t, z):
        return -np.ones_like(z)


def test_a_chart_is_stepped_inside_and_hidden_outside():
    sol = fl.solve(Chart(), [1.0, 2.0], (0, 3), fl.Euler(), dt=1.0)
    assert sol.u == pytest.approx(np.exp(-sol.t)[:, None] * [1.0, 2.0])


class Circle(fl.Flow):
    """Rotation on the unit circle with a retraction."""

    def velocity(self, t, u):
        return np.array([-u[1], u[0]])

    def retract(self, u):
        return u / np.linalg.norm(u)


def test_a_retraction_keeps_the_manifold():
    sol = fl.solve(Circle(), [1.0, 0.0], (0, 6), fl.DormandPrince(), dt=0.5)
    assert np.linalg.norm(sol.u, axis=1) == pytest.approx(1.0, abs=1e-15)
    assert sol.u[-1] == pytest.approx([math.cos(6), math.sin(6)], abs=1e-3)


class Masked(fl.Flow):
    """Decay of one coordinate drawn at random in each step."""

    def draw(self, rng):
        self.seen.append(rng.step)
        return Decay(int(rng.uniform((1,))[0] < 0.5))

    seen: list[int] = []


class Decay(fl.Flow):
    def __init__(self, i):
        self.i = i

    def velocity(self, t, u):
        mask = np.zeros(2)
        mask[self.i] = 1.0
        return -u * mask


Masked.velocity = lambda self, t, u: -u


def test_random_coefficients_are_drawn_once_a_step():
    Masked.seen.clear()
    a = fl.solve(Masked(), [1.0, 1.0], (0, 1), fl.RK4(), dt=0.1, rng=1)
    assert Masked.seen == list(range(10))
    b = fl.solve(Masked(), [1.0, 1.0], (0, 1), fl.RK4(), dt=0.1, rng=1)
    assert np.array_equal(a.u, b.u)
    assert a.u[-1].prod() == pytest.approx(math.exp(-1.0), abs=1e-6)


class Fused(fl.Flow):
    calls: list[tuple[float, float]] = []

    def velocity(self, t, u):
        return -u

    def advance(self, scheme, dt, t0, t1, u, rng):
        self.calls.append((t0, t1))
        return u * np.exp(t0 - t1), {"velocity_calls": 5}


def test_the_fused_path_is_taken_when_no_hook_wants_every_step():
    Fused.calls.clear()
    sol = fl.solve(Fused(), [1.0], (0, 1), fl.Euler(), dt=0.1, save_at=0.5)
    assert Fused.calls == [(0.0, 0.5), (0.5, 1.0)]
    assert sol.u[-1, 0] == pytest.approx(math.exp(-1))
    assert sol.stats["steps"] == 10
    Fused.calls.clear()
    fl.solve(
        Fused(), [1.0], (0, 1), fl.Euler(), dt=0.1, save_at=0.5, on_step=fl.Progress()
    )
    assert Fused.calls == []


def test_newton_iterations_are_counted():
    stiff = fl.Euclidean().flow(fl.Potential("x**4/4 + 50*x**2"))
    sol = fl.solve(stiff, [1.0], (0, 1), fl.ImplicitEuler(), dt=0.1)
    assert 10 <= sol.stats["newton_iterations"] <= 100
    medium = fl.Grid((-3, 3, 40)).flow(fl.porous_medium(2))
    for flow, scheme in [
        (medium, fl.ImplicitEuler()),
        (fl.Quantiles(30).flow(fl.kl("x**4/4")), fl.JKO()),
    ]:
        sol = fl.solve(flow, fl.Gaussian(0.0, 0.5), (0, 0.5), scheme, dt=0.1)
        assert sol.stats["newton_iterations"] >= 5
    assert "newton_iterations" in str(sol)
    assert (
        "newton_iterations" not in fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.1).stats
    )
