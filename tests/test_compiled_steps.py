"""Compiled steps of points under formulas against the plain path of the loop."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import flows as fl
from flows.spaces.compiled_source import LANES
from flows.spaces.compiled_steps import FEWEST, compiled_steps, obstacle
from flows.symbolic import compiled

pytest.importorskip("numba")

POTENTIALS = {
    "formula": (fl.Potential("(1 - x)**2 + k*(y - x**2)**2", {"k": 20.0}), 2),
    "separable": (fl.separable("log(cosh(x)) + x**2/8"), 3),
    "time": (fl.Potential("(x - sin(t))**2/2 + x**4/4"), 1),
    "kink": (0.5 * fl.Potential("sqrt(1 + r**2)") + fl.Potential(3.0), 4),
}
POTENTIALS["sum"] = (
    fl.quadratic([[2.0, 0.5], [0.5, 1.0]], b=[1.0, -1.0]) + fl.Potential("r**4/4"),
    2,
)


def cloud(b, n, size=0.5):
    return size * np.random.default_rng(0).normal(size=(b, n))


def plain(energy, scheme, dt, t0, t1, u):
    """The loop itself, without the compiled path."""
    flow = fl.Euclidean().flow(energy)
    return fl.solve(flow, u, (t0, t1), scheme, dt=dt).u[-1]


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("formula", fl.RK4()),
        ("sum", fl.DormandPrince()),
        ("separable", fl.Euler()),
        ("time", fl.RK4()),
        ("kink", fl.DormandPrince()),
    ],
)
def test_fixed_steps_equal_the_plain_path_to_rounding(name, scheme):
    energy, n = POTENTIALS[name]
    u = cloud(FEWEST + 7, n, 0.2)
    out, stats = compiled_steps(energy, scheme, 0.01, 0.5, 0.8, u)
    expected = plain(energy, scheme, 0.01, 0.5, 0.8, u)
    assert np.abs(out - expected).max() <= 4e-15
    assert stats["velocity_calls"] >= 30


@pytest.mark.parametrize("scheme", [fl.Heun(), fl.Tsit5()], ids=repr)
def test_every_point_takes_the_steps_it_would_take_alone(scheme):
    energy, n = POTENTIALS["formula"]
    control = fl.Adaptive(rtol=1e-5, atol=1e-8)
    u = cloud(FEWEST + LANES // 2, n)
    out, stats = compiled_steps(energy, scheme, control, 0.0, 1.0, u)
    flow = fl.Euclidean().flow(energy)
    for i in [0, 1, 77, FEWEST + 3]:
        alone = fl.solve(flow, u[i], (0, 1), scheme, dt=control)
        assert np.abs(out[i] - alone.u[-1]).max() <= 1e-13
        assert stats["steps"][i] == alone.stats["steps"]
        assert stats["rejected"][i] == alone.stats["rejected"]


def test_adaptive_steps_keep_the_tolerance():
    energy, n = POTENTIALS["time"]
    u = cloud(FEWEST, n, 1.5)
    out, _ = compiled_steps(energy, fl.Tsit5(), fl.Adaptive(rtol=1e-9), 0.0, 3.0, u)
    flow = fl.Euclidean().flow(energy)
    for i in range(0, FEWEST, 100):
        exact = solve_ivp(flow.velocity, (0, 3), u[i], rtol=1e-12, atol=1e-13)
        assert np.abs(out[i] - exact.y[:, -1]).max() < 1e-7


@pytest.mark.parametrize(
    ("scheme", "dt", "change", "text"),
    [
        (fl.RK4(), fl.Adaptive(), lambda u: u, r"RK4\(\) has none with adaptive steps"),
        (fl.DOP853(), fl.Adaptive(), lambda u: u, "DOP853.. has none with adaptive"),
        (fl.ImplicitEuler(), 0.1, lambda u: u, r"take Rosenbrock\(\) or Tsit5\(\)"),
        (fl.RK4(), 0.1, lambda u: u.astype("f4"), "NumPy arrays of float64"),
        (
            fl.RK4(),
            0.1,
            lambda u: np.zeros((3, 17)),
            "up to 16 coordinates under formulas, not 17",
        ),
        (
            fl.Tsit5(),
            fl.Adaptive(controller=fl.PID()),
            lambda u: u,
            r"controlled by PI\(\), not by PID",
        ),
    ],
)
def test_it_steps_aside_where_it_has_no_code(scheme, dt, change, text):
    energy, n = POTENTIALS["formula"]
    u = change(cloud(FEWEST, n))
    assert re.search(text, obstacle(energy, scheme, dt, 0.0, u))
    flow = fl.Euclidean(compiled=True).flow(energy)
    with pytest.raises(TypeError, match=text):
        flow.advance(scheme, dt, 0.0, 1.0, u, None)
    many = np.resize(u, (FEWEST, u.shape[1]))
    plain_flow = fl.Euclidean().flow(energy)
    assert plain_flow.advance(scheme, dt, 0.0, 1.0, many, None) is None


def test_functions_without_a_gradient_are_no_formulas():
    square = fl.Potential(lambda x: (x**2).sum(-1))
    flow = fl.Euclidean(compiled=True).flow(square)
    with pytest.raises(TypeError, match="or a function with `gradient=`"):
        fl.solve(flow, [1.0], (0, 1), fl.Tsit5(), save_at=[1.0])


def test_whether_steps_are_compiled_is_the_users_to_say():
    energy = fl.Potential("x**2/2 + x**4/4")
    with pytest.raises(
        TypeError, match="`compiled` must be True, False or None, got 1"
    ):
        fl.Euclidean(compiled=1)
    assert repr(fl.Euclidean(compiled=True)) == "Euclidean(compiled=True)"
    many, one = np.ones((FEWEST, 1)), np.ones(1)
    for choice, u, expected in (
        (None, one, False),
        (None, many, True),
        (True, one, True),
        (False, many, False),
    ):
        flow = fl.Euclidean(compiled=choice).flow(energy)
        found = flow.advance(fl.RK4(), 0.1, 0.0, 1.0, u, None)
        assert (found is not None) == expected
    sol = fl.solve(fl.Euclidean(compiled=True).flow(energy), one, (0, 1), save_at=[1])
    assert sol.stats["scheme"] == "Rosenbrock()"


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("b", [None, 5])
def test_rosenbrock_steps_equal_the_plain_path(name, b):
    energy, n = POTENTIALS[name]
    u = cloud(5, n, 0.8)[0 if b is None else slice(None)]
    for dt in (0.05, fl.Adaptive(rtol=1e-5)):
        out, stats = compiled_steps(energy, fl.Rosenbrock(), dt, 0.5, 1.5, u)
        if b is None:
            flow = fl.Euclidean(compiled=False).flow(energy)
            sol = fl.solve(flow, u, (0.5, 1.5), fl.Rosenbrock(), dt=dt, save_at=[1.5])
            for key in ("jacobian_calls", *(() if dt == 0.05 else ("steps",))):
                assert stats[key] == sol.stats[key]
            expected = sol.u[-1]
        else:
            runs = [compiled_steps(energy, fl.Rosenbrock(), dt, 0.5, 1.5, v) for v in u]
            expected = np.array([v for v, _ in runs])
        assert np.abs(out - expected).max() <= 1e-13


def test_rosenbrock_of_a_stiff_valley_in_a_rotated_frame_keeps_its_tolerance():
    n = 6
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))
    A = (Q * 10.0 ** np.arange(n)) @ Q.T
    energy = fl.quadratic(A) + fl.Potential("r**4/4") + fl.Potential("cos(3*x1) + 0*x6")
    control = fl.Adaptive(rtol=1e-7, atol=1e-10)
    flow = fl.Euclidean(compiled=True).flow(energy)
    sol = fl.solve(flow, np.ones(n), (0, 2), dt=control, save_at=[2.0])
    exact = solve_ivp(
        flow.velocity, (0, 2), np.ones(n), "Radau", rtol=1e-11, atol=1e-13
    )
    assert np.abs(sol.u[-1] - exact.y[:, -1]).max() < 1e-7
    assert sol.stats["steps"] < 1000


def test_a_point_that_fails_leaves_the_failure_to_the_plain_path():
    energy, n = fl.Potential("-x**4/4"), 1
    u = np.full((FEWEST, n), 0.1)
    u[3] = 10.0
    assert compiled_steps(energy, fl.RK4(), 0.1, 0.0, 5.0, u) is None
    assert compiled_steps(energy, fl.Tsit5(), fl.Adaptive(), 0.0, 5.0, u) is None
    few = fl.Adaptive(max_steps=3)
    assert compiled_steps(energy, fl.Tsit5(), few, 0.0, 1.0, np.ones_like(u)) is None


def test_parameters_are_arguments_of_the_code(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    u = cloud(FEWEST, 1)
    for k in (1.0, 2.0, 3.0):
        energy = fl.Potential("k*x**2/2 + cos(x)", {"k": k})
        out, _ = compiled_steps(energy, fl.RK4(), 0.1, 0.0, 0.3, u)
        expected = plain(energy, fl.RK4(), 0.1, 0.0, 0.3, u)
        assert np.abs(out - expected).max() < 1e-14
    assert len(list((tmp_path / "flows").glob("flows_*.py"))) == 1


def test_the_folder_of_generated_code_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compiled.cache_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert compiled.cache_folder() is None
    folder.rmdir()
    folder.write_text("a file is in the way")
    assert compiled.cache_folder() is None
    module = compiled.generated_module("answer = 42\n")
    assert (module.answer, module.CACHE) == (42, False)


def test_a_damaged_source_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "answer = 43\n"
    module = compiled.generated_module(text)
    (path,) = (tmp_path / "flows").glob("flows_*.py")
    path.write_text("CACHE = True\nanswer = 'wrong'\n")
    compiled.generated_module.cache_clear()
    assert compiled.generated_module(text).answer == module.answer == 43


def test_old_sources_are_swept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiled, "MOST_FILES", 3)
    for i in range(6):
        compiled.generated_module(f"swept = {i}\n")
    assert len(list((tmp_path / "flows").glob("flows_*.py"))) == 3


def test_without_a_home_the_code_is_compiled_in_memory():
    code = (
        "import numpy as np, flows as fl\n"
        "from flows.spaces.compiled_steps import compiled_steps\n"
        "u = np.ones((600, 1))\n"
        "F = fl.Potential('x**2/2 + x**4')\n"
        "print(compiled_steps(F, fl.Euler(), 0.1, 0.0, 0.1, u)[0][5, 0])\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": "/nonexistent", "HOME": "/dev/null"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert float(done.stdout) == pytest.approx(0.5), done.stderr


def test_solve_takes_the_compiled_path_between_save_times():
    energy, n = POTENTIALS["time"]
    flow = fl.Euclidean().flow(energy)
    u = cloud(FEWEST, n)
    times = [0.0, 0.5, 1.0]
    for dt in (0.01, fl.Adaptive(rtol=1e-9, atol=1e-12)):
        sol = fl.solve(flow, u, (0, 1), fl.Tsit5(), dt=dt, save_at=times)
        few = fl.solve(flow, u[:5], (0, 1), fl.Tsit5(), dt=dt, save_at=times)
        assert np.abs(sol.u[:, :5] - few.u).max() < 1e-8
        assert sol.stats["steps"] > 1
        assert sol.stats["velocity_calls"] > 6


def test_metrics_bounds_and_drifts_are_left_to_the_plain_path():
    u = np.ones((FEWEST, 1))
    energy = fl.Potential("x**2/2 + 0.1*x**4")
    for space in (
        fl.Euclidean(metric=2.0),
        fl.Euclidean(bounds=fl.bounds.projection(0.5, 2.0)),
    ):
        flow = space.flow(energy)
        advance = getattr(flow, "advance", None)
        assert advance is None or advance(fl.RK4(), 0.1, 0.0, 1.0, u, None) is None
    assert not hasattr(fl.Euclidean().flow(energy, drift=lambda x: x), "advance")
