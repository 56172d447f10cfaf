"""Checkpoints: bit for bit after a kill, and every way a file can be bad."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import flows as fl
from flows.checkpoint import previous

WELL = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2 / 4 + y**2"))
START = [0.2, 1.0]


def flow_of(kind):
    if kind == "langevin":
        return fl.LangevinParticles(40).flow(fl.kl("x**2/2 + y**2"))
    if kind == "grid":
        return fl.Grid((-4, 4, 50)).flow(fl.kl("x**2/2"))
    return WELL


STIFF = [fl.BDF(), fl.Radau(), fl.Rosenbrock(), fl.Exponential()]
RATES = np.linspace(1.0, 200.0, 40)

CASES = {
    "fixed": ("vector", START, fl.RK4(), 0.0625, None),
    "adaptive": ("vector", START, fl.Tsit5(), fl.Adaptive(1e-7), None),
    "multistep": ("vector", START, fl.BDF2(), fl.Adaptive(1e-5), None),
    "saved": ("vector", START, fl.SDIRK3(), 0.07, [0.33, 1.2, 1.9]),
    "grid": ("grid", fl.Gaussian(1.0, 0.5), fl.TRBDF2(), 0.05, 0.5),
    "langevin": ("langevin", fl.Gaussian([0, 0], 1.0), fl.EulerMaruyama(), 0.05, 0.5),
    "memory": (
        "langevin",
        fl.Gaussian([0, 0], 1.0),
        fl.LeimkuhlerMatthews(),
        0.05,
        0.5,
    ),
}


def stopping_at(step):
    seen = []

    def stop(t, u):
        seen.append(t)
        if len(seen) == step:
            raise RuntimeError("stop here")

    return stop


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_run_goes_on_bit_for_bit(name, tmp_path):
    kind, start, scheme, dt, save_at = CASES[name]
    flow, path = flow_of(kind), tmp_path / "run.npz"
    options = {"dt": dt, "save_at": save_at, "rng": 3}
    whole = fl.solve(flow, start, (0, 2), scheme, **options)
    hooks = [fl.Checkpoint(path, every=3), stopping_at(8)]
    with pytest.raises(RuntimeError, match="stop here"):
        fl.solve(flow, start, (0, 2), scheme, on_step=hooks, **options)
    rest = fl.resume(
        path, flow, scheme, on_step=[fl.Checkpoint(path, every=3), stopping_at(10**9)]
    )
    k = len(rest.t)
    common = np.isin(rest.t, whole.t)
    assert common[1:].all() or common.all()
    assert np.array_equal(rest.t[common], whole.t[-common.sum() :])
    assert np.array_equal(rest.u[common], whole.u[-common.sum() :])
    assert k >= 1
    assert rest.stats["steps"] == whole.stats["steps"]


class Pressed:
    """A user's gradient, in which Ctrl-C is pressed at some call."""

    def __init__(self, slope):
        self.slope, self.left = slope, -1

    def __call__(self, x, t):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.slope(x, t)


def quartic(x, t):
    return (RATES * x * x).sum(-1) / 2 + (x * x).sum(-1) ** 2 / 4


def quartic_slope(x, t):
    return RATES * x + (x * x).sum(-1)[..., None] * x


def forced(x, t):
    return 20 * (x[..., 0] - np.sin(3 * t)) ** 2 + x[..., 1] ** 4 / 4


def forced_slope(x, t):
    return np.stack([40 * (x[..., 0] - np.sin(3 * t)), x[..., 1] ** 3], axis=-1)


# From 32 numbers on BDF keeps a matrix from step to step.
LARGE = quartic, quartic_slope, np.linspace(-1, 1, 40)
STIFF_CASES = {
    "matrix": (*LARGE, [0.33, 1.0]),
    "every step": (*LARGE, None),
    "batch": (forced, forced_slope, np.array([START, [1e-3, 4.0]]), [0.33, 1.0]),
}


@pytest.mark.parametrize("dt", [0.05, fl.Adaptive(1e-4)], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("name", STIFF_CASES)
@pytest.mark.parametrize("scheme", STIFF, ids=repr)
def test_ctrl_c_inside_a_stiff_step_leaves_a_run_that_goes_on_bit_for_bit(
    scheme, name, dt, tmp_path
):
    value, slope, start, save_at = STIFF_CASES[name]
    gradient, path = Pressed(slope), tmp_path / "run.npz"
    energy = fl.Potential(value, gradient=gradient, time_dependent=True)
    flow, options = fl.Euclidean().flow(energy), {"dt": dt, "save_at": save_at}
    whole = fl.solve(flow, start, (0, 1), scheme, **options)
    gradient.left = -gradient.left * 3 // 5
    hook = fl.Checkpoint(path, every=10**6)
    with pytest.raises(fl.Interrupted) as caught:
        fl.solve(flow, start, (0, 1), scheme, on_step=hook, **options)
    assert np.isfinite(caught.value.solution.u).all()
    rest = fl.resume(path, flow, scheme, on_step=hook)
    assert rest.t[-1] == 1.0
    assert rest.stats["steps"] == whole.stats["steps"]
    assert rest.u[-1].tobytes() == whole.u[-1].tobytes()


KILLED = """
import os, signal, sys
import numpy as np
import flows as fl
folder, mode = sys.argv[1:]
flow = fl.Euclidean().flow(fl.quadratic(np.linspace(1, 200, 40)) + fl.Potential("r**4"))

def die(t, u):
    if t > 0.6 and mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

for scheme in (fl.BDF(), fl.Radau(), fl.Rosenbrock(), fl.Exponential()):
    hooks = [fl.Checkpoint(f"{folder}/{scheme}.npz", every=3), die]
    if mode == "resume":
        sol = fl.resume(hooks[0].path, flow, scheme, on_step=hooks)
        print(sol.t[0] > 0.1, sol.stats["steps"], sol.u[-1].tobytes().hex())
    elif os.fork() == 0:
        fl.solve(flow, np.linspace(-1, 1, 40), (0, 1), scheme, dt=fl.Adaptive(1e-3),
                 on_step=hooks)
    else:
        print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_stiff_runs_that_were_killed_go_on_bit_for_bit_in_a_new_process(tmp_path):
    def lines(mode):
        command = [sys.executable, "-c", KILLED, str(tmp_path), mode]
        return subprocess.check_output(command, text=True).splitlines()

    assert lines("kill") == ["-9"] * len(STIFF)
    energy = fl.quadratic(RATES) + fl.Potential("r**4")
    flow, start = fl.Euclidean().flow(energy), np.linspace(-1, 1, 40)
    for scheme, line in zip(STIFF, lines("resume"), strict=True):
        whole = fl.solve(flow, start, (0, 1), scheme, dt=fl.Adaptive(1e-3))
        bits = whole.u[-1].tobytes().hex()
        assert line.split() == ["True", str(whole.stats["steps"]), bits], scheme


def test_hooks_with_state_go_on_too(tmp_path):
    path = tmp_path / "run.npz"

    def hooks(step):
        record = fl.Record(first=lambda t, u: u[0])
        return [record, fl.Checkpoint(path, every=5), stopping_at(step)]

    whole = fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.05, on_step=hooks(10**9))
    with pytest.raises(RuntimeError, match="stop"):
        fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.05, on_step=hooks(13))
    rest = fl.resume(path, WELL, fl.RK4(), on_step=hooks(10**9))
    for name in ("t", "first"):
        assert np.array_equal(rest.records[name], whole.records[name])
    with pytest.raises(ValueError, match=r"had the hooks .*Record.*in this order"):
        fl.resume(path, WELL, fl.RK4())


def test_a_stopping_rule_goes_on_too(tmp_path):
    path = tmp_path / "run.npz"

    def rule(t, u):
        return u[1] - 0.3

    def hooks(step):
        return [fl.Checkpoint(path, every=2), stopping_at(step)]

    options = {"dt": fl.Adaptive(1e-6), "until": rule}
    whole = fl.solve(WELL, START, (0, 9), fl.BDF2(), **options)
    with pytest.raises(RuntimeError, match="stop"):
        fl.solve(WELL, START, (0, 9), fl.BDF2(), on_step=hooks(9), **options)
    with pytest.raises(ValueError, match="had an `until`; give it again"):
        fl.resume(path, WELL, fl.BDF2(), on_step=hooks(10**9))
    rest = fl.resume(path, WELL, fl.BDF2(), until=rule, on_step=hooks(10**9))
    assert rest.t[-1] == whole.t[-1]
    assert np.array_equal(rest.u[-1], whole.u[-1])
    assert "until" in rest.message


@pytest.mark.parametrize("part", ["t1", "scalars", "hooks", "u", "stops"])
def test_a_checkpoint_that_lacks_a_part_is_damaged(written, part):
    import json

    with np.load(written) as data:
        arrays = dict(data)
    meta = json.loads(str(arrays["meta"]))
    meta.pop(part, None)
    arrays.pop(part, None)
    arrays["meta"] = np.array(json.dumps(meta))
    np.savez(written, **arrays)
    with pytest.raises(ValueError, match=f"damaged: it lacks {part}"):
        go_on(written)


def test_ctrl_c_flushes_the_checkpoint(tmp_path):
    path = tmp_path / "run.npz"

    def press(t, u):
        if t > 0.5:
            raise KeyboardInterrupt

    hooks = [fl.Checkpoint(path, every=10**6), press]
    with pytest.raises(fl.Interrupted) as caught:
        fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.1, on_step=hooks)
    rest = fl.resume(
        path, WELL, fl.RK4(), on_step=[fl.Checkpoint(path), lambda t, u: None]
    )
    assert rest.t[0] == caught.value.solution.t[-1]


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "run.npz"
    hook = fl.Checkpoint(path, every=4)
    fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.05, on_step=hook)
    return path


def go_on(path, flow=WELL, scheme=None):
    scheme = fl.RK4() if scheme is None else scheme
    return fl.resume(path, flow, scheme, on_step=fl.Checkpoint(path, every=4))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(written):
    end = fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.05).u[-1]
    data = bytearray(written.read_bytes())
    written.write_bytes(data[: len(data) // 2])
    sol = go_on(written)
    assert "damaged" in sol.counters["remark"]
    assert np.array_equal(sol.u[-1], end)


def test_every_flipped_bit_is_noticed_or_harmless(written):
    end = go_on(written).u[-1]
    data = written.read_bytes()
    previous(written).unlink()
    rng = random.Random(0)
    noticed = 0
    for _ in range(150):
        bad = bytearray(data)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        written.write_bytes(bytes(bad))
        try:
            sol = fl.resume(written, WELL, fl.RK4(), on_step=fl.Progress())
        except ValueError as error:
            noticed += "damaged" in str(error) or "hooks" in str(error)
        else:
            assert np.array_equal(sol.u[-1], end)
    assert noticed > 100


def test_a_checkpoint_of_another_problem_is_refused(written):
    other = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2 / 4 + 2*y**2"))
    with pytest.raises(ValueError, match="checkpoint of the flow"):
        go_on(written, other)
    with pytest.raises(ValueError, match=r"checkpoint of the scheme RK4\(\)"):
        go_on(written, scheme=fl.Heun())


def slope_a(x):
    return x


def test_equal_names_with_another_velocity_are_refused(tmp_path):
    def flow(scale):
        def V(x):
            return scale * (x**2).sum(-1) / 2

        def gradient(x):
            return scale * x

        return fl.Euclidean().flow(fl.Potential(V, gradient=gradient))

    path = tmp_path / "run.npz"
    fl.solve(flow(1.0), START, (0, 1), fl.RK4(), dt=0.1, on_step=fl.Checkpoint(path))
    with pytest.raises(ValueError, match=r"another problem|of the flow"):
        go_on(path, flow(2.0))


def test_another_version_is_named(written):
    import json

    with np.load(written) as data:
        arrays = dict(data)
    meta = json.loads(str(arrays["meta"]))
    meta["schema"] = 99
    arrays["meta"] = np.array(json.dumps(meta))
    previous(written).unlink()
    np.savez(written, **arrays)
    with pytest.raises(ValueError, match="format 99; this version reads 1"):
        go_on(written)


def test_a_hostile_pickle_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    path = tmp_path / "run.npz"
    np.savez(path, meta=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="damaged or not a file of flows"):
        go_on(path)
    assert not (tmp_path / "executed").exists()


def test_a_solution_file_is_not_a_checkpoint(tmp_path):
    sol = fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.1)
    path = sol.save(tmp_path / "sol.npz")
    with pytest.raises(ValueError, match="is a flows solution, not a flows checkpoint"):
        go_on(path)


def test_missing_files_and_folders_are_errors_before_the_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        go_on(tmp_path / "absent.npz")
    hook = fl.Checkpoint(tmp_path / "no" / "run.npz")
    with pytest.raises(FileNotFoundError, match="does not exist; create it"):
        fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.1, on_step=hook)
    with pytest.raises(ValueError, match="at least 1"):
        fl.Checkpoint("run.npz", every=0)
    with pytest.raises(TypeError, match="number of steps"):
        fl.Checkpoint("run.npz", every=0.5)


def test_a_folder_that_cannot_be_written_is_an_error_before_the_run(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    hook = fl.Checkpoint(tmp_path / "run.npz")
    with pytest.raises(PermissionError, match="read-only"):
        fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.1, on_step=hook)


def test_a_full_disk_keeps_the_old_checkpoint(written, monkeypatch):
    before = written.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(fl.SolveError, match="No space left on device"):
        fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.05, on_step=fl.Checkpoint(written))
    assert written.read_bytes() == before
    assert not list(written.parent.glob(".*.tmp"))


def test_stale_temporary_files_are_swept(written):
    stale = written.parent / f".{written.name}.abc.tmp"
    stale.write_bytes(b"half")
    fl.solve(WELL, START, (0, 1), fl.RK4(), dt=0.05, on_step=fl.Checkpoint(written))
    assert not stale.exists()


JOB = """
import sys
import numpy as np
import flows as fl
path, out, mode = sys.argv[1:]
flow = fl.LangevinParticles(60).flow(fl.kl("x**2/2 + y**4/4"))
scheme, hook = fl.LeimkuhlerMatthews(), fl.Checkpoint(path, every=50)
if mode == "start":
    sol = fl.solve(flow, fl.Gaussian([0.0, 0.0], 1.0), (0, 200), scheme, dt=0.01,
                   save_at=200.0, rng=5, on_step=hook)
else:
    sol = fl.resume(path, flow, scheme, on_step=hook)
np.save(out, sol.u[-1])
"""


def job(tmp_path, mode):
    files = [str(tmp_path / "run.npz"), str(tmp_path / "end.npy"), mode]
    return subprocess.Popen([sys.executable, "-c", JOB, *files])


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_no_trace(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    assert job(whole, "start").wait(240) == 0
    expected = np.load(whole / "end.npy")
    rng = random.Random(1)
    checkpoint = tmp_path / "run.npz"
    process = job(tmp_path, "start")
    while not checkpoint.exists():
        time.sleep(0.01)
        assert process.poll() is None
    kills = 0
    while kills < 20:
        began = checkpoint.stat().st_mtime_ns
        limit = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < limit:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != began:
                break
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        if process.poll() is not None:
            process = job(tmp_path, "resume")
            continue
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = job(tmp_path, "resume")
    assert process.wait(240) == 0
    assert np.array_equal(np.load(tmp_path / "end.npy"), expected)
