"""Orders, stability functions, error estimates and memory of the schemes."""

import math
import pickle
from dataclasses import FrozenInstanceError, dataclass
from types import SimpleNamespace

import numpy as np
import pytest

import flows.schemes as fs
from flows.flow import Flow
from flows.schemes import tableaus

EXPLICIT = [
    fs.Euler(),
    fs.Heun(),
    fs.RK4(),
    fs.BogackiShampine(),
    fs.DormandPrince(),
    fs.Tsit5(),
    fs.DOP853(),
]
IMPLICIT = [
    fs.ImplicitEuler(),
    fs.TRBDF2(),
    fs.BDF2(),
    fs.SDIRK3(),
    fs.MinimizingMovement(),
]
DETERMINISTIC = EXPLICIT + IMPLICIT
ESTIMATING = [scheme for scheme in DETERMINISTIC if scheme.error_order is not None]
FSAL = [fs.BogackiShampine(), fs.DormandPrince(), fs.Tsit5()]


@dataclass(frozen=True, eq=False)
class Pointwise(Flow):
    """du/dt = f(t, u) in every component, resolvent by Newton to rounding."""

    f: object
    slope: object

    def velocity(self, t, u):
        return self.f(t, u)

    def resolvent(self, t, w, h, memory):
        v = memory[0]
        for _ in range(12):
            v = v - (v - w - h * self.f(t, v)) / (1.0 - h * self.slope(t, v))
        return v, (v,)

    def prox(self, t, u, h, memory):
        return self.resolvent(t, u, h, memory or (u,))


@dataclass(frozen=True, eq=False)
class Linear(Flow):
    """du/dt = A u in the plane, A with eigenvalues ``rates`` along (3, 4) and (-4, 3).

    Written out so that it also works in extended precision.
    """

    rates: tuple = (-0.4, -1.2)

    def along(self, f, u):
        """The function f of the matrix, applied to u."""
        p, q = (0.6 * u[0] + 0.8 * u[1], -0.8 * u[0] + 0.6 * u[1])
        p, q = f(self.rates[0]) * p, f(self.rates[1]) * q
        return np.stack([0.6 * p - 0.8 * q, 0.8 * p + 0.6 * q])

    def velocity(self, t, u):
        return self.along(lambda rate: rate, u)

    def resolvent(self, t, w, h, memory):
        v = self.along(lambda rate: 1.0 / (1.0 - h * rate), w)
        return v, (v,)

    def prox(self, t, u, h, memory):
        return self.resolvent(t, u, h, memory)

    def exact(self, t, u, h, rng):
        return self.along(lambda rate: np.exp(h * rate), u)


WELL = Pointwise(lambda t, u: u - u * u * u, lambda t, u: 1.0 - 3.0 * u * u)
FORCED = Pointwise(lambda t, u: -2.0 * t * u * u, lambda t, u: -4.0 * t * u)
START = np.array([1.0, -0.6], dtype=np.longdouble)


def well_exact(t, u):
    return u / np.sqrt(u * u + (1.0 - u * u) * np.exp(-2.0 * t))


# Flow, initial state, exact solution and final time.
PROBLEMS = {
    "linear": (Linear(), START, lambda t, u: Linear().exact(0.0, u, t, None), 3.0),
    "double well": (WELL, START * 0.75, well_exact, 3.0),
    "time dependent": (FORCED, START**2, lambda t, u: u / (1.0 + u * t * t), 1.5),
}


def run(scheme, flow, u, steps, t=0.0, memory=()):
    """Every step; the arrays handed over are read-only, as in a real run."""
    taken = []
    for h in steps:
        for array in (u, *memory):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        step = scheme.step(flow, t, u, h, None, memory)
        u, memory, t = step.u, step.memory, t + h
        taken.append(step)
    return taken


def final(scheme, flow, u, end, n):
    return run(scheme, flow, u, [end / n] * n)[-1].u


def observed(sizes, errors):
    """Least-squares slope of log error over log size."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def matrix_of(table, row=None):
    """Full A and b of a tableau that is stored without its zeros."""
    s = len(table.stages) + 1
    a, b = np.zeros((s, s)), np.zeros(s)
    for i, (_, entries) in enumerate(table.stages, 1):
        for j, value in entries:
            a[i, j] = value
    for j, value in table.weights if row is None else row:
        b[j] = value
    return a, b


def graft(tree):
    """All rooted trees with one leaf more."""
    yield tuple(sorted((*tree, ())))
    for i, branch in enumerate(tree):
        for grown in graft(branch):
            yield tuple(sorted((*tree[:i], grown, *tree[i + 1 :])))


def trees_up_to(order):
    """Rooted trees as sorted tuples of their branches, by number of vertices."""
    levels = [{()}]
    for _ in range(order - 1):
        levels.append({grown for tree in levels[-1] for grown in graft(tree)})
    return levels


def vertices(tree):
    return 1 + sum(vertices(branch) for branch in tree)


def density(tree):
    return vertices(tree) * math.prod(density(branch) for branch in tree)


def weight(tree, a):
    """Elementary weights of the stages (the condition is b . weight = 1/density)."""
    value = np.ones(len(a))
    for branch in tree:
        value = value * (a @ weight(branch, a))
    return value


def residual(order, a, b, right=1.0):
    """Largest violated condition of this order, relative to the size of its sum."""
    return max(
        abs(b @ weight(tree, a) - right / density(tree))
        / max(1.0, abs(b) @ weight(tree, abs(a)))
        for tree in trees_up_to(order)[-1]
    )


def test_numbers_of_rooted_trees():
    assert [len(level) for level in trees_up_to(8)] == [1, 1, 2, 4, 9, 20, 48, 115]


@pytest.mark.parametrize("scheme", EXPLICIT, ids=repr)
def test_order_conditions_of_all_rooted_trees(scheme):
    a, b = matrix_of(scheme.tableau)
    for order in range(1, scheme.order + 1):
        assert residual(order, a, b) < 1e-14
    assert residual(scheme.order + 1, a, b) > 1e-7


@pytest.mark.parametrize("scheme", EXPLICIT, ids=repr)
def test_nodes_are_row_sums_and_end_exactly(scheme):
    a, _ = matrix_of(scheme.tableau)
    nodes = np.array([c for c, _ in scheme.tableau.stages])
    np.testing.assert_allclose(nodes, a[1:].sum(axis=1), atol=2e-14)
    assert not scheme.tableau.fsal or nodes[-1] == 1.0


@pytest.mark.parametrize(
    ("table", "row", "order"),
    [
        (tableaus.HEUN, tableaus.HEUN.error, 1),
        (tableaus.BOGACKI_SHAMPINE, tableaus.BOGACKI_SHAMPINE.error, 2),
        (tableaus.DORMAND_PRINCE, tableaus.DORMAND_PRINCE.error, 4),
        (tableaus.TSITOURAS, tableaus.TSITOURAS.error, 4),
        (tableaus.DOP853, tableaus.DOP853.error, 5),
        (tableaus.DOP853, tableaus.DOP853_THIRD, 3),
    ],
)
def test_embedded_methods_have_their_order(table, row, order):
    a, e = matrix_of(table, row)
    for p in range(1, order + 1):
        assert residual(p, a, e, right=0.0) < 1e-14
    assert residual(order + 1, a, e, right=0.0) > 1e-6


def test_dop853_has_the_coefficients_of_scipy():
    oracle = pytest.importorskip("scipy.integrate._ivp.dop853_coefficients")
    a, b = matrix_of(tableaus.DOP853)
    np.testing.assert_array_equal(a, oracle.A[:12, :12])
    np.testing.assert_array_equal(b, oracle.B)
    np.testing.assert_array_equal(
        [c for c, _ in tableaus.DOP853.stages], oracle.C[1:12]
    )
    np.testing.assert_array_equal(
        matrix_of(tableaus.DOP853, tableaus.DOP853.error)[1], oracle.E5[:12]
    )
    third = matrix_of(tableaus.DOP853, tableaus.DOP853_THIRD)[1]
    np.testing.assert_allclose(third, oracle.E3[:12], atol=1e-15)


@pytest.mark.parametrize("scheme", EXPLICIT, ids=repr)
def test_real_stability_interval_is_where_the_polynomial_leaves_one(scheme):
    a, b = matrix_of(scheme.tableau)

    def gain(x):
        return abs(
            1.0 - x * (b @ np.linalg.solve(np.eye(len(b)) + x * a, np.ones(len(b))))
        )

    bound = scheme.stability
    assert all(gain(x) <= 1.0 + 1e-12 for x in np.linspace(0.0, bound, 400))
    assert gain(bound) == pytest.approx(1.0, abs=1e-11)
    assert gain(bound + 1e-6) > 1.0


SIZES = {1: (64, 96, 128, 192), 2: (32, 48, 64, 96), 3: (48, 64, 96, 128)}
SIZES |= {4: (32, 48, 64, 96), 5: (64, 96, 128, 192), 8: (12, 14, 16, 20)}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_observed_order(scheme, name):
    flow, u0, exact, end = PROBLEMS[name]
    counts = SIZES[scheme.order]
    errors = [
        float(np.linalg.norm(final(scheme, flow, u0, end, n) - exact(end, u0)))
        for n in counts
    ]
    slope = observed(end / np.array(counts), errors)
    assert scheme.order - 0.1 <= slope <= scheme.order + 0.2, (slope, errors)


def test_bdf2_keeps_order_two_when_steps_alternate():
    flow, u0, exact, end = PROBLEMS["double well"]
    errors, counts = [], (16, 24, 32, 48)
    for n in counts:
        h = end / (2.5 * n)
        u = run(fs.BDF2(), flow, u0, [h, 1.5 * h] * n)[-1].u
        errors.append(float(np.linalg.norm(u - exact(end, u0))))
    assert 1.9 <= observed(1.0 / np.array(counts), errors) <= 2.2


def test_bdf2_restarts_where_its_formula_is_unstable():
    """Steps that grow threefold would amplify rounding by much more than 1e-3."""
    flow = Linear()
    steps = [1e-12 * 3.0**k for k in range(26)]
    taken = run(fs.BDF2(), flow, START, steps)
    assert all(step.stats["resolvent_calls"] == 2 for step in taken)
    exact = flow.exact(0.0, START, sum(steps), None)
    assert np.linalg.norm(taken[-1].u - exact) < 0.02
    doubled = run(fs.BDF2(), flow, START, [0.01, 0.02, 0.04])
    assert [step.stats["resolvent_calls"] for step in doubled] == [2, 1, 1]


WEIGHT, CORNER = np.sqrt(2.0) / 4.0, 1.0 - np.sqrt(2.0) / 2.0
ALEXANDER = 0.4358665215084590
TABLES = {
    "ImplicitEuler": ([[1.0]], [1.0]),
    "TRBDF2": (
        [[0.0, 0.0, 0.0], [CORNER, CORNER, 0.0], [WEIGHT, WEIGHT, CORNER]],
        [(1.0 - WEIGHT) / 3.0, (3.0 * WEIGHT + 1.0) / 3.0, CORNER / 3.0],
    ),
    "SDIRK3": (
        [
            [ALEXANDER, 0.0, 0.0],
            [(1.0 - ALEXANDER) / 2.0, ALEXANDER, 0.0],
            [1.2084966491760101, -0.6443631706844691, ALEXANDER],
        ],
        [
            1.2084966491760101 - ALEXANDER / 2.0,
            -0.6443631706844691 + ALEXANDER,
            ALEXANDER / 2.0,
        ],
    ),
}
"""A (its last row is b) and embedded weights, as in the papers."""


def stability(a, b, z):
    """R(z) = 1 + z b (I - z A)^-1 1."""
    ones = np.ones(len(b))
    return 1.0 + z * (b @ np.linalg.solve(np.eye(len(b)) - z * a, ones))


@pytest.mark.parametrize("name", TABLES)
def test_implicit_tables_have_their_order_and_are_l_stable(name):
    a, embedded = (np.array(x) for x in TABLES[name])
    scheme = fs.scheme_named(name)
    for order in range(1, scheme.order + 1):
        assert residual(order, a, a[-1]) < 1e-14
    assert residual(scheme.order + 1, a, a[-1]) > 1e-3
    line = 1j * np.logspace(-3, 4, 300)
    assert all(abs(stability(a, a[-1], z)) <= 1.0 + 1e-12 for z in line)
    assert abs(stability(a, a[-1], -1e9)) < 1e-8
    for order in range(1, scheme.error_order if name != "ImplicitEuler" else 1):
        assert residual(order, a, embedded) < 1e-14


@pytest.mark.parametrize("scheme", [*EXPLICIT, *map(fs.scheme_named, TABLES)], ids=repr)
def test_iterates_on_a_quadratic_are_powers_of_the_stability_function(scheme):
    name = type(scheme).__name__
    if name in TABLES:
        a = np.array(TABLES[name][0])
        b = a[-1]
    else:
        a, b = matrix_of(scheme.tableau)
    flow, u0, h = Linear(), np.array([1.0, -0.6]), 0.8
    gains = {rate: stability(a, b, h * rate) for rate in flow.rates}
    for k, step in enumerate(run(scheme, flow, u0, [h] * 12), 1):
        expected = flow.along(lambda rate, k=k: gains[rate] ** k, u0)
        np.testing.assert_allclose(step.u, expected, rtol=1e-12, atol=1e-14)


def test_bdf2_iterates_follow_its_recursion():
    """(3/2 - h l) u_k = 2 u_{k-1} - u_{k-2}/2 from one TR-BDF2 step."""
    flow, u0, h = Linear(), np.array([1.0, -0.6]), 0.8
    table = np.array(TABLES["TRBDF2"][0])
    gains = {}
    for rate in flow.rates:
        g = [1.0, stability(table, table[-1], h * rate)]
        for _ in range(11):
            g.append((2.0 * g[-1] - 0.5 * g[-2]) / (1.5 - h * rate))
        gains[rate] = g
    for k, step in enumerate(run(fs.BDF2(), flow, u0, [h] * 12), 1):
        expected = flow.along(lambda rate, k=k: gains[rate][k], u0)
        np.testing.assert_allclose(step.u, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("scheme", IMPLICIT, ids=repr)
def test_infinitely_stiff_components_are_damped_at_once(scheme):
    """L-stability: R(z) = O(1/z); BDF2 after its second step."""
    flow = Pointwise(lambda t, u: -1e10 * u, lambda t, u: -1e10)
    u0 = np.array([1.0, -2.0])
    taken = run(scheme, flow, u0, [1.0, 1.0])
    assert np.linalg.norm(taken[0].u) < 1e-8
    assert np.linalg.norm(taken[1].u) < 1e-8
    assert np.isfinite(taken[1].error).all()


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("scheme", ESTIMATING, ids=repr)
def test_error_estimate_scales_with_its_order(scheme, name):
    """At t = 0.4, after one step with the same h that fills the histories."""
    flow, u0, exact, _ = PROBLEMS[name]
    base = {8: 0.3, 5: 0.05, 3: 0.02, 2: 0.01}[scheme.error_order]
    sizes = base * np.array([1.0, 0.75, 0.5, 0.375])
    errors = []
    for h in sizes:
        taken = run(scheme, flow, exact(0.4 - h, u0), [h, h], t=0.4 - h)
        errors.append(float(np.linalg.norm(taken[-1].error)))
    slope = observed(sizes, errors)
    assert scheme.error_order - 0.1 <= slope <= scheme.error_order + 0.2, errors


@pytest.mark.parametrize(
    "scheme",
    [fs.ImplicitEuler(), fs.MinimizingMovement(), fs.TRBDF2(), fs.BDF2()],
    ids=repr,
)
@pytest.mark.parametrize("r", [0.6, 1.0, 1.7])
def test_error_estimate_is_the_local_error_to_leading_order(scheme, r):
    flow, u0, h = WELL, np.array([0.6, -0.4]), 2e-3
    before = well_exact(-h / r, u0)
    slope = flow.velocity(0.0, u0)
    memory = (before, h / r, slope, u0) if scheme == fs.BDF2() else (slope, u0)
    step = scheme.step(flow, 0.0, u0, h, None, memory)
    np.testing.assert_allclose(step.error, step.u - well_exact(h, u0), rtol=0.02)


def test_dop853_estimate_is_that_of_scipy_for_one_component():
    from scipy.integrate import DOP853

    h, u0 = 0.3, np.array([0.6])
    step = fs.DOP853().step(WELL, 0.0, u0, h, None, ())
    solver = DOP853(WELL.velocity, 0.0, u0, 1.0, first_step=h, rtol=1e-2)
    solver.step()
    np.testing.assert_allclose(step.u, solver.y, rtol=1e-15)
    expected = solver._estimate_error_norm(solver.K, h, np.ones(1))
    np.testing.assert_allclose(abs(step.error), expected, rtol=1e-6)
    rest = fs.DOP853().step(WELL, 0.0, np.array([0.0, 1.0]), h, None, ())
    np.testing.assert_array_equal(rest.error, [0.0, 0.0])


def test_first_error_without_a_velocity_is_the_increment():
    bare = SimpleNamespace(
        space=None,
        resolvent=lambda t, w, h, memory: (w / (1.0 + h), (w / (1.0 + h),)),
        prox=lambda t, u, h, memory: (u / (1.0 + h), ()),
    )
    for scheme in (fs.ImplicitEuler(), fs.MinimizingMovement()):
        first, second = run(scheme, bare, np.array([1.0]), [0.5, 0.5])
        np.testing.assert_allclose(first.error, [-1.0 / 3.0])
        # The slopes are -2/3 and -4/9: half of h times the change.
        np.testing.assert_allclose(second.error, [0.25 * (2.0 / 3.0 - 4.0 / 9.0)])


@pytest.mark.parametrize("scheme", FSAL, ids=repr)
def test_reused_last_stage_gives_the_same_bits(scheme):
    u0 = np.array([0.3, -0.8])
    kept = run(scheme, FORCED, u0, [0.25, 0.125, 0.25])
    u, t = u0, 0.0
    for step, h in zip(kept, [0.25, 0.125, 0.25], strict=True):
        u = scheme.step(FORCED, t, u, h, None, ()).u
        t += h
        np.testing.assert_array_equal(u, step.u)


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_memory_is_arrays_and_numbers_and_restarts_bit_for_bit(scheme):
    u0, steps = np.array([0.3, -0.8]), [0.1, 0.15, 0.1, 0.12, 0.2]
    whole = run(scheme, FORCED, u0, steps)
    half = whole[1]
    assert isinstance(half.memory, tuple)
    assert all(isinstance(entry, (np.ndarray, float)) for entry in half.memory)
    u, memory = pickle.loads(pickle.dumps((half.u, half.memory)))
    again = run(scheme, FORCED, u, steps[2:], t=0.1 + 0.15, memory=memory)
    np.testing.assert_array_equal(again[-1].u, whole[-1].u)
    np.testing.assert_array_equal(again[-1].error, whole[-1].error)


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_members_of_a_batch_have_their_own_time_and_step(scheme):
    u0 = np.array([[0.3, -0.8], [0.9, 0.1], [1.1, 0.5]])
    t0 = np.array([[0.0], [0.3], [0.7]])
    steps = [np.array([[0.1], [0.05], [0.02]]), np.array([[0.1], [0.06], [0.03]])]
    batch = run(scheme, FORCED, u0, steps, t=t0)
    for i in range(3):
        own = [float(h[i, 0]) for h in steps]
        alone = run(scheme, FORCED, u0[i], own, t=float(t0[i, 0]))
        for one, all_of_them in zip(alone, batch, strict=True):
            np.testing.assert_allclose(all_of_them.u[i], one.u, rtol=4e-16)
            if one.error is not None:
                np.testing.assert_allclose(all_of_them.error[i], one.error, atol=1e-15)


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_torch_and_numpy_agree(scheme):
    torch = pytest.importorskip("torch")
    u0 = np.array([[0.3, -0.8], [0.9, 0.1]])
    steps = [0.1, 0.15, 0.12]
    ours = run(scheme, FORCED, u0, steps)[-1]
    theirs = run(scheme, FORCED, torch.from_numpy(u0.copy()), steps)[-1]
    assert isinstance(theirs.u, torch.Tensor)
    np.testing.assert_allclose(theirs.u.numpy(), ours.u, rtol=1e-15)
    if ours.error is not None:
        np.testing.assert_allclose(theirs.error.numpy(), ours.error, atol=1e-16)
    single = run(scheme, FORCED, torch.from_numpy(u0.copy()).float(), steps)[-1]
    assert single.u.dtype == torch.float32


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_float32_stays_float32(scheme):
    u0 = np.array([0.3, -0.8], dtype=np.float32)
    for step in run(scheme, FORCED, u0, [0.1, 0.15, 0.12]):
        arrays = [step.u, step.error, *step.memory]
        assert {x.dtype for x in arrays if isinstance(x, np.ndarray)} == {u0.dtype}


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_stats_count_the_calls(scheme):
    calls = {"velocity": 0, "resolvent": 0, "prox": 0}

    def counted(name):
        def call(*arguments):
            calls[name] += 1
            return getattr(WELL, name)(*arguments)

        return call

    flow = SimpleNamespace(space=None, **{name: counted(name) for name in calls})
    taken = run(scheme, flow, np.array([0.5]), [0.1, 0.1, 0.1])
    for name, number in calls.items():
        counted_by = sum(step.stats.get(f"{name}_calls", 0) for step in taken)
        assert counted_by == number
    if scheme in FSAL:
        stages = len(scheme.tableau.stages)
        assert [s.stats["velocity_calls"] for s in taken] == [
            stages + 1,
            stages,
            stages,
        ]


def test_equilibria_stay_to_the_last_bit():
    u0 = np.array([1.0, -1.0, 0.0])
    for scheme in DETERMINISTIC:
        np.testing.assert_array_equal(run(scheme, WELL, u0, [0.1] * 5)[-1].u, u0)


def test_proximal_steps_on_a_kink_are_the_flow():
    """|x|: k steps of the soft threshold are the exact flow at time k h."""

    def prox(t, u, h, memory):
        return np.sign(u) * np.maximum(np.abs(u) - h, 0.0), ()

    flow = SimpleNamespace(space=None, prox=prox)
    u0 = np.array([2.0, -0.75, 0.1])
    for k, step in enumerate(run(fs.JKO(), flow, u0, [0.125] * 8), 1):
        expected = np.sign(u0) * np.maximum(np.abs(u0) - 0.125 * k, 0.0)
        np.testing.assert_allclose(step.u, expected, atol=1e-15)


@pytest.mark.parametrize("scheme", DETERMINISTIC, ids=repr)
def test_schemes_are_frozen_values(scheme):
    kind = type(scheme)
    assert pickle.loads(pickle.dumps(scheme)) == scheme == kind()
    assert hash(scheme) == hash(kind())
    assert repr(scheme) == f"{kind.__name__}()"
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        scheme.order = 3
