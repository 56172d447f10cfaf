"""Every fault that a user or a machine can cause: the exception, and what it says.

One row a fault: a call that must raise, the type, and a pattern with the name of the
argument and the remedy.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import flows as fl

torch = pytest.importorskip("torch")

V = fl.Potential("x**2/2 + y**2/2")
PLANE = fl.Euclidean().flow(V)
LINE = fl.Euclidean().flow(fl.Potential("x**2/2"))
GRID = fl.Grid((-4, 4, 40))
HEAT = GRID.flow(fl.Entropy() + fl.Potential("x**2/2"))
X0 = np.array([1.0, 2.0])


def run(flow=PLANE, u0=X0, t=(0, 1), scheme=None, dt=0.1, **options):
    scheme = fl.RK4() if scheme is None else scheme
    return fl.solve(flow, u0, t, scheme, dt=dt, **options)


def custom(function, **options):
    return fl.Euclidean().flow(fl.Potential(function, **options))


def nan_value(x):
    return x[..., 0] * np.nan


def writes(x):
    x[..., 0] = 0.0
    return x


def array(*values, dtype=float):
    return np.array(values, dtype=dtype)


def grad_none(x):
    return None


def square(x):
    return (x**2).sum(-1) / 2


class Returns(fl.Flow):
    """A velocity that is always the same object."""

    def __init__(self, value):
        self.value = value

    def velocity(self, t, u):
        return self.value


class NoEnergy(fl.Flow):
    def velocity(self, t, u):
        return -u

    def energy(self, t, u):
        return None


ARGUMENTS = {
    "1 NaN in u0": (
        lambda: run(u0=array(1, np.nan)),
        ValueError,
        r"u0.*1 non-finite.*\(1,\)",
    ),
    "1 inf in u0": (
        lambda: run(u0=array(np.inf, np.nan)),
        ValueError,
        r"u0.*2 non-finite",
    ),
    "2 rank of particles": (
        lambda: run(fl.Particles(2).flow(V), array(1.0, 2.0)),
        ValueError,
        r"\(2,\).*\(n, d\).*x\[:, None\]",
    ),
    "2 rank of a vector": (lambda: run(u0=np.ones((2, 2, 2))), ValueError, r"\(n,\)"),
    "2 grid shape": (lambda: run(HEAT, np.ones(7)), ValueError, r"\(7,\).*\(40,\)"),
    "3 bool": (
        lambda: run(u0=array(True, False, dtype=bool)),
        TypeError,
        r"bool.*float64",
    ),
    "5 float16": (
        lambda: run(u0=X0.astype(np.float16)),
        TypeError,
        r"float16.*float32",
    ),
    "5 longdouble": (
        lambda: run(u0=X0.astype(np.longdouble)),
        TypeError,
        r"float128.*float64|longdouble.*float64",
    ),
    "5 complex": (lambda: run(u0=X0 + 0j), TypeError, r"complex128.*float64"),
    "5 object": (lambda: run(u0=np.array([None, 1])), TypeError, r"object.*float64"),
    "5 ragged": (lambda: run(u0=[[1.0], [1.0, 2.0]]), TypeError, "equal lengths"),
    "6 empty n": (lambda: run(u0=np.zeros(0)), ValueError, "empty"),
    "6 empty d": (
        lambda: run(fl.Particles(3).flow(V), np.zeros((3, 0))),
        ValueError,
        "empty",
    ),
    "8 NaN in t": (lambda: run(t=(0, math.nan)), ValueError, "`t`.*finite"),
    "8 backwards": (lambda: run(t=(1, 0)), ValueError, "ill-posed backwards"),
    "8 infinite": (lambda: run(t=(0, math.inf)), ValueError, "until"),
    "8 not a pair": (lambda: run(t=3.0), TypeError, r"`t`.*pair \(t0, t1\)"),
    "10 dt negative": (
        lambda: run(dt=-0.1),
        ValueError,
        "`dt` must be a positive finite number, got -0.1",
    ),
    "10 dt zero": (lambda: run(dt=0.0), ValueError, "`dt`.*positive"),
    "10 dt NaN": (lambda: run(dt=math.nan), ValueError, "`dt`.*finite"),
    "10 dt text": (lambda: run(dt="0.1"), TypeError, "`dt`.*number"),
    "11 rtol negative": (
        lambda: fl.Adaptive(rtol=-1),
        ValueError,
        "`rtol`.*non-negative",
    ),
    "11 atol NaN": (lambda: fl.Adaptive(atol=math.nan), ValueError, "`atol`.*finite"),
    "11 both zero": (lambda: fl.Adaptive(rtol=0, atol=0), ValueError, "both be 0"),
    "12 save_at unsorted": (
        lambda: run(save_at=[0.5, 0.2]),
        ValueError,
        r"save_at\[1\]",
    ),
    "12 save_at outside": (
        lambda: run(save_at=[0.5, 1.2]),
        ValueError,
        r"save_at\[1\].*outside",
    ),
    "13 misspelt keyword": (lambda: run(savat=0.1), TypeError, "savat"),
    "14 unknown boundary": (
        lambda: fl.Grid((0, 1, 9), boundary="neumann"),
        ValueError,
        "no-flux.*periodic",
    ),
    "14 unknown dtype": (
        lambda: fl.Quantiles(9, dtype="float16"),
        ValueError,
        "float32, float64",
    ),
    "14 unknown name in a formula": (
        lambda: fl.Potential("lam*x"),
        ValueError,
        "lam.*parameters",
    ),
    "15 max_steps zero": (
        lambda: fl.Adaptive(max_steps=0),
        ValueError,
        "max_steps.*at least 1",
    ),
    "15 max_steps float": (
        lambda: fl.Adaptive(max_steps=1e3),
        TypeError,
        "max_steps.*integer",
    ),
    "16 weights negative": (
        lambda: fl.Empirical(array(0, 1), array(1.5, -0.5)),
        ValueError,
        "weights",
    ),
    "16 weights length": (
        lambda: fl.Empirical(array(0, 1), array(1)),
        ValueError,
        "weights",
    ),
    "16 weights sum": (
        lambda: fl.Empirical(array(0, 1), array(0.5, 0.6)),
        ValueError,
        r"weights.*1\.1",
    ),
    "16 weights NaN": (
        lambda: fl.Empirical(array(0, 1), array(math.nan, 1)),
        ValueError,
        "weights",
    ),
    "17 density negative": (
        lambda: run(HEAT, np.linspace(-1, 1, 40), scheme=fl.ImplicitEuler()),
        ValueError,
        "negative|minimum",
    ),
    "18 reversed bounds": (lambda: fl.Grid((4, -4, 40)), ValueError, r"4.*-4"),
    "18 one cell": (lambda: fl.Grid((0, 1, 1)), ValueError, "cell"),
    "20 not callable": (lambda: fl.Potential([1, 2]), TypeError, "V"),
    "20 wrong arity": (lambda: run(custom(lambda: 0.0)), TypeError, "argument"),
    "21 value None": (
        lambda: run(custom(grad_none)),
        TypeError,
        "returned None; did you forget `return`",
    ),
    "21 gradient None": (
        lambda: run(custom(square, gradient=grad_none)),
        TypeError,
        "gradient.*returned None; did you forget `return`",
    ),
    "21 gradient shape": (
        lambda: run(custom(square, gradient=lambda x: x[..., :1])),
        ValueError,
        r"gradient.*\(1,\).*\(2,\)",
    ),
    "21 value shape": (lambda: run(custom(lambda x: x)), ValueError, r"V.*\(2,\)"),
    "21 gradient scalar": (
        lambda: run(custom(square, gradient=lambda x: 1.0)),
        (TypeError, ValueError),
        "gradient",
    ),
    "21 gradient dtype": (
        lambda: run(custom(square, gradient=lambda x: x.astype(np.float32))),
        TypeError,
        "gradient.*float32",
    ),
    "22 writes into its argument": (
        lambda: run(custom(square, gradient=writes)),
        ValueError,
        "writes? into its argument|read-only",
    ),
    "23 tensor against a NumPy gradient": (
        lambda: run(
            custom(square, gradient=lambda x: np.ones(2)), torch.ones(2).double()
        ),
        TypeError,
        "tensor",
    ),
    "23 dtype against the space": (
        lambda: run(fl.Euclidean(dtype="float64").flow(V), X0.astype(np.float32)),
        TypeError,
        "float32.*float64",
    ),
    "23 array against a torch space": (
        lambda: run(fl.Euclidean(device="cpu").flow(V), X0),
        TypeError,
        "NumPy.*torch",
    ),
    "24 no such device": (lambda: fl.Particles(3, device="gpu"), ValueError, "device"),
    "26 code": (
        lambda: fl.Potential("__import__('os').system('id')"),
        ValueError,
        "V|expression|allowed",
    ),
    "26 attribute": (
        lambda: fl.Potential("x.real"),
        ValueError,
        "x.real|attribute|allowed",
    ),
    "26 tower": (lambda: fl.Potential("9**9**9**9*x"), ValueError, "exponent|power"),
    "26 overflow": (lambda: fl.Potential("1e999*x"), ValueError, "infinity"),
    "26 long": (
        lambda: fl.Potential("x+" * 5_000_000 + "x"),
        ValueError,
        "long|characters",
    ),
    "26 deep": (
        lambda: fl.Potential("(" * 900 + "x" + ")" * 900),
        ValueError,
        "deep|nest",
    ),
    "27 NaN velocity at t0": (
        lambda: run(custom(square, gradient=lambda x: x * np.nan)),
        ValueError,
        "velocity at t0|non-finite",
    ),
    "29 NaN in one term": (
        lambda: run(
            fl.Euclidean().flow(V + fl.Potential(nan_value, gradient=lambda x: 0 * x))
        ),
        ValueError,
        r"^Potential\(nan_value\) is NaN at t = 0",
    ),
    "33 explicit step above the bound": (
        lambda: run(
            fl.Euclidean().flow(fl.quadratic([1.0, 1e4])), dt=1e-3, scheme=fl.Euler()
        ),
        ValueError,
        "stability bound 0.0002.*implicit",
    ),
    "33 on a grid": (
        lambda: run(HEAT, fl.Gaussian(0, 1), dt=0.5),
        ValueError,
        "stability bound",
    ),
    "random run without rng": (
        lambda: run(
            fl.LangevinParticles(5).flow(V + fl.Entropy()),
            fl.Gaussian([0, 0], 1.0),
            scheme=fl.EulerMaruyama(),
        ),
        ValueError,
        "rng",
    ),
    "adaptive with noise": (
        lambda: run(
            fl.LangevinParticles(5).flow(V + fl.Entropy()),
            fl.Gaussian([0, 0], 1.0),
            scheme=fl.EulerMaruyama(),
            dt=fl.Adaptive(),
            rng=0,
        ),
        ValueError,
        "noise",
    ),
    "no estimate": (
        lambda: run(dt=fl.Adaptive()),
        ValueError,
        "RK4.*no error estimate",
    ),
    "scheme class": (lambda: run(scheme=fl.RK4), TypeError, r"write `RK4\(\)`"),
    "energy instead of a flow": (lambda: run(flow=V), TypeError, "choose a space"),
    "needs": (
        lambda: run(
            fl.LangevinParticles(5).flow(V + fl.Entropy()),
            np.zeros((5, 2)),
            scheme=fl.JKO(),
            rng=0,
        ),
        TypeError,
        "prox",
    ),
    "refused term": (
        lambda: fl.Particles(5).flow(fl.Entropy()),
        TypeError,
        "Entropy.*LangevinParticles",
    ),
    "adjoint": (lambda: run(adjoint=1), TypeError, "adjoint"),
    "until": (lambda: run(until=3), TypeError, "until"),
    "until None": (lambda: run(until=lambda t, u: None), TypeError, "until.*return"),
    "seed": (lambda: run(rng="a"), TypeError, "rng"),
    "until class": (
        lambda: run(until=fl.Steady),
        TypeError,
        r"`until`.*write `Steady\(\)`",
    ),
    "hook class": (
        lambda: run(on_step=fl.Progress),
        TypeError,
        r"`on_step`.*write `Progress",
    ),
    "hook number": (lambda: run(on_step=3), TypeError, "`on_step` takes callables"),
    "descent negative": (
        lambda: run(on_step=fl.Check(descent=-1.0)),
        ValueError,
        "`descent`.*non-negative",
    ),
    "8 span overflows": (
        lambda: run(t=(-1.7e308, 1.7e308)),
        ValueError,
        "`t`.*more than a float",
    ),
    "10 dt under the spacing of t": (
        lambda: run(t=(1e6, 1e6 + 1e-9), dt=1e-11),
        ValueError,
        "`dt` = 1e-11.*spacing.*larger.*shift",
    ),
    "10 dt subnormal": (
        lambda: run(dt=1e-320, save_at=1.0),
        ValueError,
        "`dt`.*spacing",
    ),
    "12 spacing under that of t": (
        lambda: run(t=(1e6, 1e6 + 1e-9), save_at=1e-11),
        ValueError,
        "`save_at`.*spacing.*larger",
    ),
    "12 too many save times": (lambda: run(save_at=1e-12), ValueError, "GB.*`save_at`"),
    "12 save_at words": (lambda: run(save_at=["a"]), TypeError, "`save_at`.*times"),
    "12 save_at empty": (lambda: run(save_at=[]), ValueError, "`save_at`.*non-empty"),
    "12 save_at NaN": (
        lambda: run(save_at=[math.nan]),
        ValueError,
        r"save_at\[0\].*nan.*outside",
    ),
    "12 spacing without end": (
        lambda: run(t=(0, math.inf), until=lambda t, u: False, save_at=0.1),
        ValueError,
        "`save_at` must be an array",
    ),
    "21 energy None": (lambda: run(NoEnergy()), TypeError, "`energy` returned None"),
    "21 velocity None": (
        lambda: run(Returns(None)),
        TypeError,
        "`velocity` returned None",
    ),
    "21 velocity list": (
        lambda: run(Returns([1.0, 2.0])),
        TypeError,
        "NumPy array, got list",
    ),
    "21 velocity shape": (
        lambda: run(Returns(np.ones(3))),
        ValueError,
        r"\(3,\).*\(2,\)",
    ),
    "21 velocity dtype": (
        lambda: run(Returns(np.ones(2, np.float32))),
        TypeError,
        "float32.*float64",
    ),
    "not a flow": (lambda: run(3), TypeError, r"space\.flow\(energy\)"),
    "not a scheme": (lambda: run(scheme="RK4"), TypeError, "scheme"),
    "no dt": (lambda: run(dt=None), ValueError, r"`dt` is needed with RK4\(\)"),
    "steps that do not fit": (
        lambda: run(u0=np.ones((1000, 2)), t=(0, 1e9), dt=1e-3),
        ValueError,
        "save_at",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments_raise_at_the_door(name):
    call, kind, pattern = ARGUMENTS[name]
    with pytest.raises(kind, match=f"(?s){pattern}"):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_names_the_installed_torch():
    with pytest.raises(ValueError, match=torch.__version__.split("+")[0]):
        fl.Particles(3, device="cuda")


def test_integers_become_float64():
    sol = run(u0=np.array([1, 2]))
    assert sol.u.dtype == np.float64


@pytest.mark.parametrize("make", [lambda x: x, torch.as_tensor], ids=["numpy", "torch"])
def test_float32_stays_float32(make):
    sol = run(u0=make(X0.astype(np.float32)))
    assert str(sol.u.dtype).endswith("float32")


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x[::-1, ::-1][::-1, ::-1],
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: np.broadcast_to(x, x.shape),
    ],
    ids=["big-endian", "fortran", "negative strides", "strided", "read-only"],
)
def test_memory_layout_of_the_start_does_not_matter(layout):
    x = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(run(u0=layout(x)).u, run(u0=x).u)


def test_start_is_copied():
    x = X0.copy()
    sol = run(u0=x)
    x[:] = 7.0
    assert sol.u[0].tolist() == X0.tolist()


def test_equal_times_return_the_start():
    sol = run(t=(2, 2))
    assert sol.t.tolist() == [2.0]
    assert np.array_equal(sol.u[0], X0)


def test_dt_longer_than_the_span_is_clipped():
    sol = run(dt=50.0, t=(0, 0.5))
    assert sol.t.tolist() == [0.0, 0.5]


def test_a_tensor_that_requires_grad_is_detached():
    sol = run(u0=torch.tensor(X0, requires_grad=True))
    assert not sol.u.requires_grad


def test_a_tensor_written_by_the_gradient_is_noticed():
    flow = custom(square, gradient=writes)
    with pytest.raises(ValueError, match="into its argument"):
        run(flow, torch.tensor(X0))


STIFF = [fl.BDF(), fl.Radau(), fl.Rosenbrock(), fl.Exponential()]
STEPS = {"fixed": 0.01, "adaptive": fl.Adaptive(1e-7)}
FORCED = fl.Euclidean().flow(fl.Potential("5*(x - sin(3*t))**2"))
DOUBLE_WELL = fl.Euclidean().flow(fl.Potential("(x**2 - 1)**2/4"))
MEMBERS = array(0.1, 1e-4, 3.0, 0.9)[:, None]


def follow(t, u0=0.2):
    """Solution of u' = -10 (u - sin 3 t)."""
    a, b = 100 / 109, -30 / 109
    return a * np.sin(3 * t) + b * np.cos(3 * t) + (u0 - b) * np.exp(-10 * t)


def fall(t, u0=MEMBERS):
    """Solution of u' = u - u^3."""
    return u0 / np.sqrt(u0**2 + (1 - u0**2) * np.exp(-2 * t))


def cliff(value):
    """The gradient of |x|^2/2, which is ``value`` where a coordinate is below 1/2."""
    return custom(square, gradient=lambda x: np.where(x < 0.5, value, x))


def stops_at_the_cliff(scheme, dt):
    for value in (np.nan, -np.inf):
        with pytest.raises(fl.SolveError, match="finite") as caught:
            run(cliff(value), array(1.0, 2.0), (0, 5), scheme, dt)
        sol = caught.value.solution
        # The gradient is seen beyond the cliff from half a step before it.
        assert np.log(2.0) - 0.02 < sol.t[-1] <= np.log(2.0) + 1e-6
        assert np.isfinite(sol.u).all()
        assert not sol.ok


def follows_a_force(scheme, dt):
    sol = run(FORCED, array(0.2), (0, 2), scheme, dt)
    assert sol.t[-1] == 2.0
    assert sol.u[:, 0] == pytest.approx(follow(sol.t), abs=1e-6)


def saves_between_steps(scheme, dt):
    times = [0.1, 0.333, 0.3331, 1.7]
    sol = run(FORCED, array(0.2), (0, 2), scheme, dt, save_at=times)
    assert sol.t.tolist() == times
    assert sol.u[:, 0] == pytest.approx(follow(sol.t), abs=1e-6)


def has_states_between_steps(scheme, dt):
    sol, t = run(FORCED, array(0.2), (0, 2), scheme, dt), np.linspace(0, 2, 37)
    assert sol(t)[:, 0] == pytest.approx(follow(t), abs=1e-6)


def returns_the_start_of_an_empty_span(scheme, dt):
    sol = run(FORCED, array(0.2), (1, 1), scheme, dt)
    assert (sol.t.tolist(), sol.u.tolist()) == ([1.0], [[0.2]])


def refuses_to_run_backwards(scheme, dt):
    with pytest.raises(ValueError, match="ill-posed backwards"):
        run(FORCED, array(0.2), (1, 0), scheme, dt)


def keeps_float32(scheme, dt):
    dt = dt if isinstance(dt, float) else fl.Adaptive(1e-4)
    for start in (array(0.2, dtype=np.float32), torch.tensor([0.2])):
        sol = run(FORCED, start, (0, 2), scheme, dt, until=lambda t, u: u[0] + 0.1)
        assert str(sol.u.dtype).endswith("float32")
        states = np.asarray(sol.u[:, 0])
        assert states == pytest.approx(follow(sol.t), abs=2e-4)
        assert states[-1] == pytest.approx(-0.1, abs=1e-6)


def ends_where_it_should(scheme, dt):
    for t1 in (0.7, 0.1 + 1e-9, 1 / 3):
        assert run(FORCED, array(0.2), (0.1, t1), scheme, dt).t[-1] == t1


def finds_events(scheme, dt):
    flow = fl.Euclidean().flow(fl.quadratic([1.0, 3.0]))
    for rule in (lambda t, u: u[0] - 0.3, lambda t, u: bool(u[0] < 0.3)):
        sol = run(flow, array(1.0, 1.0), (0, math.inf), scheme, dt, until=rule)
        assert sol.t[-1] == pytest.approx(np.log(1 / 0.3), abs=1e-8)


def fires_many_times_in_a_step(scheme, dt):
    ramp = fl.Euclidean().flow(fl.Potential("-x"))
    fire = fl.Event(lambda t, u: u[0] - 0.1, jump=lambda t, u: 0 * u)
    dt = 0.35 if isinstance(dt, float) else dt
    sol = run(ramp, array(0.0), (0, 1.05), scheme, dt, until=fire)
    assert sol.events == pytest.approx(np.arange(1, 11) / 10, abs=1e-12)
    assert sol.u[-1] == pytest.approx([0.05], abs=1e-12)


def runs_batches(scheme, dt):
    sol = run(DOUBLE_WELL, MEMBERS, (0, 6), scheme, dt, save_at=[1.5, 6.0])
    assert sol.u[0] == pytest.approx(fall(1.5), abs=2e-6)
    assert sol.u[1] == pytest.approx(fall(6.0), abs=2e-6)


def ends_each_member_by_its_own(scheme, dt):
    def near(t, u):
        return np.abs(u[:, 0] - 1) - 0.05

    if isinstance(dt, float):
        with pytest.raises(TypeError, match=r"each member.*Adaptive"):
            run(DOUBLE_WELL, MEMBERS, (0, 20), scheme, dt, until=near, save_at=5.0)
        return
    sol = run(DOUBLE_WELL, MEMBERS, (0, 20), scheme, dt, until=near, save_at=5.0)
    ends = np.array([fall(t, u) for t, u in zip(sol.stopped, MEMBERS, strict=True)])
    assert np.abs(ends - 1.0) == pytest.approx(0.05, abs=2e-6)
    assert np.ptp(sol.stopped) > 9


def blows_up_with_a_word(scheme, dt):
    flow = fl.Euclidean().flow(fl.Potential("-x**3/3"))
    with pytest.raises(fl.SolveError, match=r"blow|not solved") as caught:
        run(flow, array(1.0), (0, 3), scheme, dt)
    assert np.isfinite(caught.value.solution.u).all()
    if not isinstance(dt, float):
        assert "t* = " in str(caught.value)
        assert caught.value.solution.t[-1] == pytest.approx(1.0, abs=1e-5)


FAULTS = [
    stops_at_the_cliff,
    follows_a_force,
    saves_between_steps,
    has_states_between_steps,
    returns_the_start_of_an_empty_span,
    refuses_to_run_backwards,
    keeps_float32,
    ends_where_it_should,
    finds_events,
    fires_many_times_in_a_step,
    runs_batches,
    ends_each_member_by_its_own,
    blows_up_with_a_word,
]


@pytest.mark.parametrize("dt", STEPS)
@pytest.mark.parametrize("scheme", STIFF, ids=repr)
@pytest.mark.parametrize("does", FAULTS, ids=lambda f: f.__name__)
def test_a_stiff_scheme(does, scheme, dt):
    does(scheme, STEPS[dt])
