"""Splittings into parts, the exact flow map, and the check of what a flow offers."""

import pickle
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from scheme_toys import PROBLEMS, WELL, Linear, final, observed, run
from scipy.linalg import expm
from test_schemes_random import Impulses

import flows.schemes as fs
from flows.flow import Flow
from flows.random import Stream

A = np.array([[-1.0, 0.8], [0.3, -0.4]])
B = np.array([[-0.2, -0.5], [0.9, -1.1]])
START = np.array([1.0, -0.6])


@dataclass(frozen=True, eq=False)
class Matrix(Flow):
    """du/dt = matrix u by the exponential."""

    matrix: np.ndarray

    def velocity(self, t, u):
        return self.matrix @ u

    def exact(self, t, u, h, rng):
        return expm(h * self.matrix) @ u


@dataclass(frozen=True, eq=False)
class Slopes(Flow):
    """du/dt = matrix u, known by its velocity alone."""

    matrix: np.ndarray

    def velocity(self, t, u):
        return self.matrix @ u


@dataclass(frozen=True, eq=False)
class Sum(Flow):
    """Parts by name."""

    named: dict

    def parts(self):
        return self.named


SOLVED = Sum({"A": Matrix(A), "B": Matrix(B)})
UNSOLVED = Sum({"A": Slopes(A), "B": Slopes(B)})
MIXED = Sum({"transport": Matrix(A), "reaction": Slopes(B)})


@pytest.mark.parametrize(
    ("scheme", "flow", "order"),
    [
        (fs.Splitting("AB"), SOLVED, 1),
        (fs.Splitting("BA"), SOLVED, 1),
        (fs.Splitting("ABA"), SOLVED, 2),
        (fs.Splitting("ABABA"), SOLVED, 2),
        (fs.Splitting("AABB"), SOLVED, 1),
        (fs.Splitting("ABA", inner=fs.RK4()), UNSOLVED, 2),
        (fs.Splitting("ABA", inner=fs.Heun()), UNSOLVED, 2),
        (fs.Splitting("ABA", inner=fs.Euler()), UNSOLVED, 1),
        (fs.Splitting("ABA", inner={"A": fs.Heun(), "B": fs.Euler()}), UNSOLVED, 1),
        (
            fs.Splitting("transport reaction transport", inner=fs.BogackiShampine()),
            MIXED,
            2,
        ),
        (fs.Splitting("reaction transport", inner={"reaction": fs.RK4()}), MIXED, 1),
    ],
    ids=repr,
)
def test_splitting_has_the_order_it_says(scheme, flow, order):
    assert scheme.order == order
    exact = expm(2.0 * (A + B)) @ START
    counts = (20, 30, 40, 60)
    errors = [
        np.linalg.norm(final(scheme, flow, START, 2.0, n) - exact) for n in counts
    ]
    assert order - 0.1 <= observed(2.0 / np.array(counts), errors) <= order + 0.2


def test_one_step_is_the_product_of_exponentials():
    h = 0.7
    step = fs.Splitting("ABA").step(SOLVED, 0.0, START, h, None, ())
    expected = expm(h / 2 * A) @ expm(h * B) @ expm(h / 2 * A) @ START
    np.testing.assert_allclose(step.u, expected, rtol=1e-14)
    assert step.memory == ()
    assert step.error is None
    assert step.stats == {"exact_calls": 3}


def test_a_part_with_a_flow_map_uses_it_unless_a_mapping_names_it():
    h = 0.7
    lie = fs.Splitting("AB", inner=fs.Euler())
    u = lie.step(SOLVED, 0.0, START, h, None, ()).u
    np.testing.assert_allclose(u, expm(h * B) @ expm(h * A) @ START, rtol=1e-14)
    named = fs.Splitting("AB", inner={"B": fs.Euler()})
    u = named.step(SOLVED, 0.0, START, h, None, ()).u
    np.testing.assert_allclose(u, (np.eye(2) + h * B) @ expm(h * A) @ START, rtol=1e-14)


def test_repeat_steps_a_part_several_times_with_its_full_substep():
    """Alternating descent with five critic steps."""
    h = 0.1
    scheme = fs.Splitting("DG", inner=fs.Euler(), repeat={"D": 5})
    flow = Sum({"G": Slopes(A), "D": Slopes(B)})
    step = scheme.step(flow, 0.0, START, h, None, ())
    u = START
    for _ in range(5):
        u = u + h * (B @ u)
    u = u + h * (A @ u)
    np.testing.assert_allclose(step.u, u, rtol=1e-15)
    assert step.stats == {"velocity_calls": 6}


def test_time_of_a_part_runs_through_its_own_substeps():
    times = {"A": [], "B": []}

    def part(name):
        def velocity(t, u):
            times[name].append(t)
            return u

        return SimpleNamespace(space=None, velocity=velocity)

    flow = Sum({name: part(name) for name in times})
    scheme = fs.Splitting("ABABA", inner=fs.Euler(), repeat={"B": 2})
    scheme.step(flow, 1.0, START, 0.6, None, ())
    np.testing.assert_allclose(times["A"], [1.0, 1.2, 1.4])
    np.testing.assert_allclose(times["B"], [1.0, 1.3, 1.6, 1.9])


def test_time_dependent_parts_keep_order_two():
    """du/dt = -u + (u + 2t) splits a flow with the solution u = u0 + t^2."""
    decay = Matrix(-np.eye(2))
    growth = SimpleNamespace(space=None, velocity=lambda t, u: u + 2.0 * t)
    flow = Sum({"A": decay, "B": growth})
    scheme = fs.Splitting("ABA", inner=fs.Heun())
    counts = (20, 30, 40, 60)
    errors = [
        np.linalg.norm(final(scheme, flow, START, 1.0, n) - START - 1.0) for n in counts
    ]
    assert 1.9 <= observed(1.0 / np.array(counts), errors) <= 2.2


STIFFNESS, FRICTION = 1.7, 0.9


def kinetic():
    """A, B, O of kinetic Langevin at temperature 1; rows of a state are (q, p)."""

    def ornstein(t, u, h, rng):
        decay = np.exp(-FRICTION * h)
        kick = np.sqrt(1.0 - decay**2) * rng.normal(u[:, 1].shape, like=u)
        return np.stack([u[:, 0], decay * u[:, 1] + kick], axis=1)

    def drift(t, u, h, rng):
        return np.stack([u[:, 0] + h * u[:, 1], u[:, 1]], axis=1)

    def kick(t, u, h, rng):
        return np.stack([u[:, 0], u[:, 1] - h * STIFFNESS * u[:, 0]], axis=1)

    return Sum(
        {
            "A": SimpleNamespace(space=None, exact=drift),
            "B": SimpleNamespace(space=None, exact=kick),
            "O": SimpleNamespace(space=None, exact=ornstein, noise=lambda t, u: 1.0),
        }
    )


@pytest.mark.parametrize(
    ("word", "position", "momentum"),
    [
        ("BAOAB", lambda e: 1.0, lambda e: e),
        ("ABOBA", lambda e: 1.0, lambda e: 1.0 / e),
        ("OBABO", lambda e: 1.0 / e, lambda e: 1.0),
        ("OABAO", lambda e: e, lambda e: 1.0),
    ],
)
def test_langevin_splittings_have_their_exact_stationary_laws(word, position, momentum):
    """On a Gaussian, with e = 1 - h^2 l/4: (l Var q, Var p) for any friction."""
    h, steps = 0.8, 160
    log, scheme = [], fs.Splitting(word)
    u = np.zeros((word.count("O") * steps, 2))
    for k in range(steps):
        u = scheme.step(kinetic(), k * h, u, h, Impulses(log), ()).u
    e = 1.0 - h * h * STIFFNESS / 4.0
    variance = (u**2).sum(axis=0)
    assert STIFFNESS * variance[0] == pytest.approx(position(e), rel=1e-10)
    assert variance[1] == pytest.approx(momentum(e), rel=1e-10)


def test_every_substep_has_its_own_draw():
    log = []
    u = np.zeros((4, 2))
    fs.Splitting("OABAO").step(kinetic(), 0.0, u, 0.1, Impulses(log), ())
    assert len(log) == len(set(log)) == 2
    inner = fs.Splitting("xy", inner=fs.EulerMaruyama(), repeat={"y": 3})
    noisy = SimpleNamespace(
        space=None, velocity=lambda t, u: -u, noise=lambda t, u: 1.0
    )
    nested = Sum({"P": Sum({"x": noisy, "y": noisy}), "Q": noisy})
    outer = fs.Splitting("PQP", inner={"P": inner, "Q": fs.EulerMaruyama()})
    assert (inner.draws, outer.draws) == (4, 9)
    log = []
    outer.step(nested, 0.0, np.zeros(9), 0.1, Impulses(log), ())
    assert log == list(range(9))
    outer.step(nested, 0.0, np.zeros(9), 0.1, Stream(1, "noise"), ())


def test_noise_of_the_parts_is_noticed():
    assert fs.Splitting("BAOAB").draws_noise(kinetic())
    assert not fs.Splitting("AB").draws_noise(SOLVED)
    assert fs.Exact().draws_noise(kinetic().parts()["O"])
    assert not fs.Exact().draws_noise(Matrix(A))
    assert fs.EulerMaruyama().draws_noise(None)
    assert not fs.RK4().draws_noise(None)


def test_exact_scheme_makes_no_error_in_time():
    flow, u0, exact, end = PROBLEMS["linear"]
    u = run(fs.Exact(), flow, u0, [end / 7] * 7)[-1].u
    np.testing.assert_allclose(u, exact(end, u0), rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"word": ""}, ValueError, "`word` is empty"),
        ({"word": 3}, TypeError, "`word` must be a string"),
        ({"word": "AB", "inner": {"C": fs.RK4()}}, ValueError, "`inner` names 'C'"),
        ({"word": "AB", "inner": fs.RK4}, TypeError, "`inner` must be a scheme"),
        ({"word": "AB", "inner": {"A": None}}, TypeError, "`inner` must be a scheme"),
        ({"word": "AB", "inner": fs.BDF2()}, ValueError, "history of earlier steps"),
        (
            {"word": "AB", "inner": {"A": fs.LeimkuhlerMatthews()}},
            ValueError,
            "history of earlier steps",
        ),
        ({"word": "AB", "repeat": {"C": 2}}, ValueError, "`repeat` names 'C'"),
        ({"word": "AB", "repeat": {"A": 0}}, ValueError, "positive integer, got 0"),
        ({"word": "AB", "repeat": {"A": True}}, ValueError, "positive integer, got T"),
        ({"word": "AB", "repeat": 5}, TypeError, "`repeat` must map names"),
    ],
)
def test_wrong_arguments_of_a_splitting_are_refused(arguments, kind, text):
    with pytest.raises(kind, match=text):
        fs.Splitting(**arguments)


@pytest.mark.parametrize(
    ("scheme", "flow", "kind", "text"),
    [
        (fs.Splitting("ABC"), SOLVED, ValueError, r"names 'C', but .* are 'A', 'B'"),
        (fs.Splitting("A"), SOLVED, ValueError, "leaves out 'B'"),
        (
            fs.Splitting("AB"),
            UNSOLVED,
            TypeError,
            r"no scheme for the part 'A'.*inner=",
        ),
        (
            fs.Splitting("AB", inner=fs.TRBDF2()),
            UNSOLVED,
            TypeError,
            r"In the part 'A': `TRBDF2\(\)` needs `resolvent`",
        ),
        (fs.Splitting("AB"), WELL, TypeError, "needs `parts`"),
        (fs.TRBDF2(), Matrix(A), TypeError, "needs `resolvent`, which this Matrix"),
        (fs.Exact(), Slopes(A), TypeError, "needs `exact`"),
        (fs.JKO(), Slopes(A), TypeError, "needs `prox`"),
        (fs.EulerMaruyama(), Slopes(A), TypeError, "needs `noise`"),
        (fs.RK4, WELL, TypeError, r"is the class RK4; write `RK4\(\)`"),
        ("Tsit5", WELL, TypeError, r"such as Tsit5\(\), got 'Tsit5'"),
        (None, WELL, TypeError, r"must be a scheme such as RK4\(\)"),
    ],
)
def test_a_flow_that_lacks_something_is_refused(scheme, flow, kind, text):
    with pytest.raises(kind, match=text):
        fs.require(scheme, flow)


def test_the_refusal_lists_what_works():
    with pytest.raises(TypeError, match=r"work here: Euler\(\), .*DOP853\(\), "):
        fs.require(fs.TRBDF2(), Slopes(A))
    with pytest.raises(TypeError, match=r"work here: Exact\(\)\.$"):
        fs.require(fs.RK4(), SimpleNamespace(space=None, exact=print))
    with pytest.raises(TypeError, match=r"work here: Splitting\('AB'\)\.$"):
        fs.require(fs.RK4(), SOLVED)
    with pytest.raises(TypeError, match=r"'transport reaction', inner=\.\.\.\)"):
        fs.require(fs.RK4(), MIXED)
    with pytest.raises(TypeError, match="work here: none of this library"):
        fs.require(fs.RK4(), SimpleNamespace(space=None))


def test_deterministic_schemes_do_not_leave_out_noise():
    noisy = SimpleNamespace(
        space=None, velocity=lambda t, u: -u, noise=lambda t, u: 1.0
    )
    with pytest.raises(
        TypeError, match=r"leave out the noise.*here: EulerMaruyama\(\)"
    ):
        fs.require(fs.RK4(), noisy)
    fs.require(fs.LeimkuhlerMatthews(), noisy)
    fs.require(fs.Exact(), kinetic().parts()["O"])
    fs.require(fs.Splitting("BAOAB"), kinetic())


class Reasoned(Flow):
    """A flow whose missing capability says why, in a named space."""

    space = "Line(4)"
    functional = "Potential('x')"

    def velocity(self, t, u):
        return -u

    @property
    def resolvent(self):
        raise TypeError("the potential has no second derivative.")


def test_the_refusal_gives_the_reason_of_the_flow():
    text = (
        r"the flow of .*Potential.* in .*Line\(4\).* does not offer "
        r"\(the potential has no second derivative\)\. Schemes that work"
    )
    with pytest.raises(TypeError, match=text):
        fs.require(fs.ImplicitEuler(), Reasoned())
    fs.require(fs.RK4(), Reasoned())


def test_every_scheme_is_found_by_its_name():
    for name in fs.SCHEMES:
        if name != "Splitting":
            assert type(fs.scheme_named(name)) is getattr(fs, name)
    assert fs.JKO is fs.MinimizingMovement
    with pytest.raises(ValueError, match="no scheme named 'RK5'; the names are Euler"):
        fs.scheme_named("RK5")
    with pytest.raises(ValueError, match="needs its word"):
        fs.scheme_named("Splitting")


def test_a_splitting_is_a_value_with_a_typable_repr():
    scheme = fs.Splitting("DG", inner={"D": fs.Euler()}, repeat={"D": 5})
    text = "Splitting('DG', inner={'D': Euler()}, repeat={'D': 5})"
    assert repr(scheme) == text
    assert repr(fs.Splitting("BAOAB")) == "Splitting('BAOAB')"
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    counts = {"D": 5}
    held = fs.Splitting("DG", repeat=counts)
    counts["D"] = 7
    assert held.repeat == {"D": 5}


def test_one_long_name_is_one_part():
    flow = Sum({"transport": Linear()})
    scheme = fs.Splitting("transport")
    fs.require(scheme, flow)
    u = scheme.step(flow, 0.0, START, 0.5, None, ()).u
    np.testing.assert_allclose(u, Linear().exact(0.0, START, 0.5, None))


def test_an_unfinished_scheme_says_so():
    with pytest.raises(NotImplementedError):
        fs.Scheme().step(WELL, 0.0, START, 0.1, None, ())
