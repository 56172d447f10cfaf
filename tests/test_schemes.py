"""Orders, error estimates and memory of the schemes without noise."""

import pickle
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest
from scheme_toys import (
    DETERMINISTIC,
    ESTIMATING,
    FORCED,
    FSAL,
    IMPLICIT,
    PROBLEMS,
    START,
    WELL,
    Linear,
    Pointwise,
    final,
    observed,
    run,
    well_exact,
)

import flows.schemes as fs

SIZES = {1: (64, 96, 128, 192), 2: (32, 48, 64, 96), 3: (48, 64, 96, 128)}
SIZES |= {4: (32, 48, 64, 96), 5: (64, 96, 128, 192), 8: (12, 14, 16, 20)}
# Where the leading term of the error takes over only at smaller steps.
FINER = {(fs.Exponential(), "time dependent"): (128, 192, 256, 384)}
# Without an error in time there is no order; BDF passes through a zero of its error
# and comes down to order 5 from above and from below only beyond a thousand steps.
OTHERS = [(fs.Exponential(), "linear"), (fs.BDF(), "time dependent")]
INEXACT = [
    (scheme, name)
    for scheme in DETERMINISTIC
    for name in PROBLEMS
    if (scheme, name) not in OTHERS
]


@pytest.mark.parametrize(("scheme", "name"), INEXACT)
def test_observed_order(scheme, name):
    flow, u0, exact, end = PROBLEMS[name]
    counts = FINER.get((scheme, name), SIZES[scheme.order])
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


@pytest.mark.parametrize("scheme", IMPLICIT, ids=repr)
def test_infinitely_stiff_components_are_damped_at_once(scheme):
    """L-stability: R(z) = O(1/z); BDF2 after its second step."""
    flow = Pointwise(lambda t, u: -1e10 * u, lambda t, u: -1e10)
    u0 = np.array([1.0, -2.0])
    taken = run(scheme, flow, u0, [1.0, 1.0])
    assert np.linalg.norm(taken[0].u) < 1e-8
    assert np.linalg.norm(taken[1].u) < 1e-8
    assert np.isfinite(taken[1].error).all()


# On the time dependent problem the leading term of DOP853's fifth-order difference
# vanishes near t = 0.6, and its quotient of estimates has a clean slope only far away.
ESTIMATES = [
    (scheme, name)
    for scheme, name in INEXACT
    if scheme in ESTIMATING and (scheme, name) != (fs.DOP853(), "time dependent")
]


@pytest.mark.parametrize(("scheme", "name"), ESTIMATES)
def test_error_estimate_scales_with_its_order(scheme, name):
    """At t = 0.8, after one step with the same h that fills the histories."""
    flow, u0, exact, _ = PROBLEMS[name]
    base = {8: 0.15, 5: 0.05, 4: 0.02, 3: 0.02, 2: 0.01}[scheme.error_order]
    sizes = base * np.array([1.0, 0.75, 0.5, 0.375])
    errors = []
    for h in sizes:
        taken = run(scheme, flow, exact(0.8 - h, u0), [h, h], t=0.8 - h)
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


def test_dop853_estimate_has_the_norm_of_scipy():
    from scipy.integrate import DOP853

    h, u0 = 0.3, np.array([0.6, -0.2, 1.1])
    step = fs.DOP853().step(WELL, 0.0, u0, h, None, ())
    solver = DOP853(WELL.velocity, 0.0, u0, 1.0, first_step=h, rtol=1e-2)
    solver.step()
    np.testing.assert_allclose(step.u, solver.y, rtol=1e-15)
    expected = solver._estimate_error_norm(solver.K, h, np.ones(3))
    assert np.sqrt(np.mean(step.error**2)) == pytest.approx(expected, rel=1e-6)
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
    np.testing.assert_allclose(theirs.u.numpy(), ours.u, rtol=4e-15)
    if ours.error is not None:
        np.testing.assert_allclose(theirs.error.numpy(), ours.error, atol=1e-15)
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
    calls = {"velocity": 0, "resolvent": 0, "prox": 0, "jacobian": 0}

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
    assert repr(scheme).startswith(f"{kind.__name__}(")
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        scheme.order = 3


@pytest.mark.parametrize("scheme", [fs.ImplicitEuler(), fs.JKO()], ids=repr)
def test_implicit_steps_evaluate_at_the_end_of_the_step(scheme):
    """du/dt = t: order one alone would not tell t from t + h."""
    flow = Pointwise(lambda t, u: t + 0.0 * u, lambda t, u: 0.0)
    taken = run(scheme, flow, np.array([0.0]), [0.5, 0.25], t=1.0)
    np.testing.assert_allclose(taken[0].u, [0.5 * 1.5], rtol=1e-15)
    np.testing.assert_allclose(taken[1].u, [0.5 * 1.5 + 0.25 * 1.75], rtol=1e-15)
