"""Whole runs under stress: batches, precision, times near rounding, continuations."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import flows as fl

torch = pytest.importorskip("torch")

DECAY = fl.Euclidean().flow(fl.quadratic([1.0, 3.0]))
WELL = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4 + y**2"))
X0 = np.array([1.0, 2.0])
GRID = fl.Grid((-4, 4, 40))
HEAT = GRID.flow(fl.kl("x**2/2"))
BATCH = np.array([[1.0, 2.0], [0.3, -1.0], [-0.5, 0.1]])


def test_a_batch_has_energies_of_every_member():
    sol = fl.solve(WELL, BATCH, (0, 1), fl.Tsit5(), on_step=fl.Check(descent=True))
    assert sol.energy.shape == (len(sol.t), 3)
    assert sum(sol.energies.values()) == pytest.approx(sol.energy)
    assert sol.stats["energy_rises"] == 0
    assert "mean of 3" in str(sol)
    assert "never rose" in str(sol)


def test_a_rise_in_a_batch_names_the_member():
    rising = fl.Euclidean().flow(fl.Potential("cos(5*x)"))
    start = np.array([[math.pi / 5], [0.1]])
    sol = fl.solve(rising, start, (0, 2), fl.Euler(), dt=0.4)
    assert sol.stats["energy_rises"] > 0
    with pytest.raises(fl.SolveError, match="energy of member 1 rose"):
        fl.solve(
            rising, start, (0, 2), fl.Euler(), dt=0.4, on_step=fl.Check(descent=True)
        )


@pytest.mark.parametrize("check", [(), fl.Check(descent=True)], ids=["stats", "hook"])
def test_rounding_in_float32_is_no_rise_of_the_energy(check):
    flow = fl.Quantiles(30, dtype="float32").flow(fl.kl("x**2/2"))
    sol = fl.solve(
        flow, fl.Gaussian(0, 1.0), (0, 1), fl.TRBDF2(), dt=0.005, on_step=check
    )
    assert str(sol.u.dtype) == "float32"
    assert (np.diff(sol.energy) > 0).any()
    assert sol.stats["energy_rises"] == 0


def test_a_tolerance_below_the_rounding_of_float32_is_warned_of():
    with pytest.warns(UserWarning, match=r"`rtol`.*float32.*float64"):
        fl.solve(WELL, X0.astype(np.float32), (0, 1), fl.Tsit5(), dt=fl.Adaptive(1e-7))


TORCH = {
    "vector": (fl.Euclidean(device="cpu").flow(WELL.functional), torch.tensor(X0)),
    "grid": (
        fl.Grid((-4, 4, 40), device="cpu").flow(fl.kl("x**2/2")),
        fl.Gaussian(0, 1.5),
    ),
    "quantiles": (
        fl.Quantiles(20, device="cpu").flow(fl.kl("x**2/2")),
        fl.Gaussian(0, 1.5),
    ),
    "particles": (
        fl.Particles(9, device="cpu").flow(fl.Interaction("r**2/2")),
        fl.Gaussian([0, 0], 1.0),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_tensors_go_through_everything(name, tmp_path):
    flow, start = TORCH[name]
    dt, scheme = fl.Adaptive(1e-4), fl.BDF2()
    sol = fl.solve(flow, start, (0, 1), scheme, dt=dt, rng=0)
    assert torch.is_tensor(sol([0.1, 0.7]))
    back = fl.load(sol.save(tmp_path / "sol.npz"), flow)
    assert torch.is_tensor(fl.solve(flow, back, (1, 1.5), scheme, dt=dt).u)

    def stop(t, u):
        if t > 0.5:
            raise RuntimeError("stop here")

    path = tmp_path / "run.npz"
    with pytest.raises(RuntimeError, match="stop here"):
        fl.solve(
            flow,
            start,
            (0, 1),
            scheme,
            dt=dt,
            rng=0,
            on_step=[fl.Checkpoint(path, every=2), stop],
        )
    hooks = [fl.Checkpoint(path), lambda t, u: None]
    rest = fl.resume(path, flow, scheme, on_step=hooks)
    assert torch.equal(rest.u[-1], sol.u[-1])


def test_a_hook_that_writes_into_a_state_is_an_error():
    def writes(t, u):
        u *= 2

    with pytest.raises(ValueError, match="read-only"):
        fl.solve(WELL, X0, (0, 1), fl.RK4(), dt=0.1, on_step=writes)
    with pytest.raises(ValueError, match=r"hook .*writes into the state.*clone"):
        fl.solve(WELL, torch.tensor(X0), (0, 1), fl.RK4(), dt=0.1, on_step=writes)


NEXT = float(np.nextafter(0.5, 1.0))


@pytest.mark.parametrize("dt", [0.1, fl.Adaptive(1e-6)], ids=["fixed", "adaptive"])
def test_save_times_one_rounding_apart_are_both_kept(dt):
    sol = fl.solve(DECAY, X0, (0, 1), fl.BDF2(), dt=dt, save_at=[0.5, NEXT])
    assert sol.t.tolist() == [0.5, NEXT]
    assert sol.u[1] == pytest.approx(sol.u[0], rel=1e-14)


def test_the_controller_keeps_its_step_across_save_times():
    def count(times):
        sol = fl.solve(
            DECAY, X0, (0, 10), fl.Tsit5(), dt=fl.Adaptive(1e-6), save_at=times
        )
        return sol.stats["steps"]

    free = count([10.0])
    # One more step each, and none to grow again afterwards.
    assert count([0.0, 1e-17, 10.0]) <= free + 2
    near = [s for k in range(1, 10) for s in (float(k), k + 1e-9)]
    assert count([*near, 10.0]) <= free + 2 * len(near)


def test_a_first_step_under_the_spacing_of_t_is_raised_to_it():
    t0 = 1e12
    sol = fl.solve(DECAY, X0, (t0, t0 + 1), fl.Tsit5(), dt=fl.Adaptive(1e-3))
    assert sol.u[-1] == pytest.approx(X0 * np.exp([-1.0, -3.0]), rel=1e-2)


def test_times_too_large_for_the_steps_are_not_called_a_blow_up():
    with pytest.raises(fl.SolveError, match=r"spacing.*Shift the time towards 0"):
        fl.solve(DECAY, X0, (1e16, 1e16 + 8), fl.Tsit5(), dt=fl.Adaptive(1e-9))


def test_late_and_negative_times_run_like_others():
    first = fl.solve(DECAY, X0, (0, 1), fl.RK4(), dt=0.125)
    for t0 in (-3.0, 1e6):
        later = fl.solve(DECAY, X0, (t0, t0 + 1), fl.RK4(), dt=0.125)
        assert np.array_equal(later.u, first.u)


@pytest.mark.parametrize("scheme", [fl.Tsit5(), fl.TRBDF2(), fl.BDF2()], ids=repr)
def test_a_stationary_start_stays_and_takes_few_steps(scheme):
    sol = fl.solve(DECAY, [0.0, 0.0], (0, 1e4), scheme, dt=fl.Adaptive())
    assert not sol.u.any()
    assert sol.stats["steps"] < 40


def test_a_dirac_mass_diffuses_by_minimizing_movements():
    flow = fl.Quantiles(40).flow(fl.kl("x**2/2"))
    sol = fl.solve(flow, fl.Dirac(0.0), (0, 1), fl.JKO(), dt=0.02)
    assert sol.energy[0] == math.inf
    # Variance 1 - exp(-2 t) of the exact law, first order in dt and in 1/n.
    assert sol.u[-1].var() == pytest.approx(1 - math.exp(-2), rel=0.1)
    assert np.isfinite(sol(0.01)).all()
    for scheme, dt in [(fl.RK4(), 1e-5), (fl.JKO(), fl.Adaptive())]:
        with pytest.raises(ValueError, match="velocity at t0"):
            fl.solve(flow, fl.Dirac(0.0), (0, 1), scheme, dt=dt)


class Redrawn(fl.Flow):
    """The same flow, drawn anew in every step."""

    def __init__(self, flow):
        self.flow = flow
        self.velocity, self.noise = flow.velocity, flow.noise

    def draw(self, rng):
        return self.flow


def test_redrawn_coefficients_do_not_empty_the_memory_of_the_noise():
    flow = fl.LangevinParticles(100).flow(fl.kl("x**2/2"))
    x = np.linspace(-1, 1, 100)[:, None]
    scheme = fl.LeimkuhlerMatthews()
    plain, drawn = (
        fl.solve(f, x, (0, 5), scheme, dt=0.5, rng=0).u for f in (flow, Redrawn(flow))
    )
    assert np.array_equal(plain, drawn)


class Chart(fl.Flow):
    """u' = -u on u > 0, stepped in z = log u, where it is z' = -1; energy u."""

    def encode(self, u):
        return np.log(u)

    def decode(self, z):
        return np.exp(z)

    def velocity(self, t, z):
        assert (z < 0).all()
        return -np.ones_like(z)


def test_velocities_see_the_chart_at_the_door_and_in_dense_output():
    sol = fl.solve(Chart(), [0.5], (0, 2), fl.Euler(), dt=0.5)
    assert sol(0.3) == pytest.approx(0.5 * np.exp(-0.3), rel=1e-14)
    more = fl.solve(Chart(), sol, (2, 3), fl.RK4(), dt=0.5)
    assert more.u[-1] == pytest.approx(0.5 * np.exp(-3.0))


def test_until_stops_random_runs_at_the_end_of_a_step():
    flow = fl.LangevinParticles(10).flow(fl.kl("x**2/2"))
    sol = fl.solve(
        flow,
        np.zeros((10, 1)),
        (0, 5),
        fl.EulerMaruyama(),
        dt=0.25,
        rng=0,
        until=lambda t, u: t - 0.6,
    )
    assert sol.t[-1] == 0.75


@pytest.mark.parametrize("scheme", [fl.BDF2(), fl.TRBDF2(), fl.Tsit5()], ids=repr)
def test_until_with_adaptive_steps_can_be_continued(scheme):
    dt = fl.Adaptive(1e-8, 1e-11)
    sol = fl.solve(DECAY, X0, (0, 5), scheme, dt=dt, until=lambda t, u: u[0] - 0.5)
    assert sol.t[-1] == pytest.approx(math.log(2), abs=1e-6)
    rest = fl.solve(DECAY, sol, (sol.t[-1], 2.0), scheme, dt=dt)
    assert rest.u[-1] == pytest.approx(X0 * np.exp([-2.0, -6.0]), abs=1e-6)


def test_steady_stops_on_a_grid_and_on_a_batch():
    sol = fl.solve(
        HEAT, fl.Gaussian(1, 0.5), (0, math.inf), fl.TRBDF2(), until=fl.Steady(1e-8)
    )
    assert np.abs(HEAT.velocity(0.0, sol.u[-1])).max() < 1e-7
    sol = fl.solve(WELL, BATCH, (0, math.inf), fl.TRBDF2(), until=fl.Steady(1e-6))
    assert np.abs(sol.u[-1, :, 0]) == pytest.approx(1.0, abs=1e-5)


def test_another_flow_does_not_inherit_slopes():
    first = fl.solve(WELL, X0, (0, 1), fl.Tsit5(), dt=0.1)
    a = fl.solve(DECAY, first, (1, 2), fl.Tsit5(), dt=0.1)
    b = fl.solve(DECAY, first.u[-1], (1, 2), fl.Tsit5(), dt=0.1)
    assert np.array_equal(a.u, b.u)


def test_an_equal_flow_inherits_the_history():
    twin = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4 + y**2"))
    first = fl.solve(WELL, X0, (0, 1), fl.BDF2(), dt=0.125)
    a, b = (fl.solve(f, first, (1, 2), fl.BDF2(), dt=0.125).u for f in (WELL, twin))
    assert np.array_equal(a, b)


def test_a_solution_of_another_space_is_refused():
    sol = fl.solve(HEAT, fl.Gaussian(0, 1.0), (0, 1), fl.TRBDF2(), dt=0.1)
    wide = fl.Grid((-8, 8, 40)).flow(fl.kl("x**2/2"))
    with pytest.raises(TypeError, match=r"lives in Grid.*sol.measure\(\)"):
        fl.solve(wide, sol, (1, 2), fl.TRBDF2(), dt=0.1)


def test_an_interrupted_run_goes_on_from_its_solution():
    def press(t, u):
        if t > 0.45:
            raise KeyboardInterrupt

    with pytest.raises(fl.Interrupted) as caught:
        fl.solve(DECAY, X0, (0, 1), fl.BDF2(), dt=0.125, on_step=press)
    half = pickle.loads(pickle.dumps(caught.value)).solution
    rest = fl.solve(DECAY, half, (half.t[-1], 1), fl.BDF2(), dt=0.125)
    whole = fl.solve(DECAY, X0, (0, 1), fl.BDF2(), dt=0.125)
    assert np.array_equal(rest.u[-1], whole.u[-1])


def test_a_failed_run_pickles_with_its_solution():
    with pytest.raises(fl.SolveError) as caught:
        fl.solve(WELL, X0, (0, 10), fl.Tsit5(), dt=fl.Adaptive(1e-10, max_steps=5))
    twin = pickle.loads(pickle.dumps(caught.value))
    assert str(twin) == str(caught.value)
    assert np.array_equal(twin.solution.u, caught.value.solution.u)


def test_a_loaded_random_run_does_not_repeat_its_noise(tmp_path):
    flow = fl.LangevinParticles(10).flow(fl.kl("x**2/2"))
    em = fl.EulerMaruyama()
    sol = fl.solve(flow, np.zeros((10, 1)), (0, 1), em, dt=0.125, rng=3)
    back = fl.load(sol.save(tmp_path / "sol.npz"), flow)
    kept, loaded = (fl.solve(flow, s, (1, 2), em, dt=0.125).u for s in (sol, back))
    assert np.array_equal(kept, loaded)


class Hungry(fl.Flow):
    def velocity(self, t, u):
        if t > 0.5:
            raise MemoryError("Unable to allocate 7 TiB")
        return -u


class HungryTorch(fl.Flow):
    def velocity(self, t, u):
        if t > 0.5:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return -u


@pytest.mark.parametrize("kind", [Hungry, HungryTorch])
def test_out_of_memory_keeps_the_states(kind):
    with pytest.raises(
        fl.SolveError, match=r"Out of memory at t = 0\.6.*allocate"
    ) as e:
        fl.solve(kind(), X0, (0, 1), fl.Euler(), dt=0.1)
    assert e.value.solution.t[-1] == pytest.approx(0.6)


def late_nan(x):
    return np.where(x[..., 0] < 0.5, np.nan, x[..., 0] ** 2 / 2)


def identity(x):
    return x


def test_a_solution_with_a_nan_energy_prints_and_saves(tmp_path):
    flow = fl.Euclidean().flow(fl.Potential(late_nan, gradient=identity))
    sol = fl.solve(flow, [1.0], (0, 2), fl.RK4(), dt=0.1)
    assert "late_nan) is NaN at t = 0.7" in str(sol)
    with pytest.raises(ValueError, match=r"is NaN at t = 0\.7"):
        _ = sol.energy
    assert np.array_equal(fl.load(sol.save(tmp_path / "sol.npz")).u, sol.u)


def test_threads_may_share_one_grid_flow():
    flow = fl.Grid((-4, 4, 200)).flow(fl.kl("x**2/2"))

    def job(out, i):
        start, dt = fl.Gaussian(0.1 * i, 1.0), 0.02 * (i + 1)
        sol = fl.solve(flow, start, (0, 1), fl.SDIRK3(), dt=dt, save_at=[1.0])
        out[i] = sol.u[-1]

    alone: dict[int, np.ndarray] = {}
    shared: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=job, args=(shared, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        job(alone, i)
        assert np.array_equal(alone[i], shared[i])


WHOLE = """
import numpy as np
import flows as fl
flow = fl.LangevinParticles(20000).flow(fl.kl("x**2/2"))
fl.solve(flow, fl.Gaussian(0.0, 1.0), (0, 0.1), fl.EulerMaruyama(), dt=0.05, rng=0)
well = fl.Euclidean().flow(fl.Potential("-x**4"))
try:
    fl.solve(well, [1e3], (0, 1), fl.Tsit5(), dt=fl.Adaptive())
except fl.SolveError as error:
    print("blow up" in str(error))
"""


@pytest.mark.slow
def test_a_run_needs_no_home_and_no_writable_cache(tmp_path):
    keep = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {k: os.environ[k] for k in keep if k in os.environ}
    environment["NUMBA_CACHE_DIR"] = "/proc/absent"
    done = subprocess.run(
        [sys.executable, "-O", "-W", "error", "-c", WHOLE],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
