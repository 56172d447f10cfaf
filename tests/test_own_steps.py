"""Batches whose members have their own time, step and end."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scheme_toys import Pointwise

import flows as fl
from flows.checkpoint import Checkpoint
from flows.linear import NewtonFailure

torch = pytest.importorskip("torch")


class Members(Pointwise):
    """A flow with a norm of each member."""

    space = None

    def norm(self, e):
        if isinstance(e, np.ndarray):
            value = np.sqrt(np.mean(e * e, axis=-1))
            return float(value) if value.ndim == 0 else value
        return torch.sqrt(torch.mean(e * e, dim=-1))


# Members along the first axis relax at very different rates.
WELL = Members(lambda t, u: u - u**3, lambda t, u: 1 - 3 * u**2)
FORCED = Members(lambda t, u: -2.0 * t * u * u, lambda t, u: -4.0 * t * u)
DECAY = Members(lambda t, u: -u, lambda t, u: -1.0 + 0 * u)
STARTS = np.array([[0.01, 0.3], [1.5, -0.2], [40.0, 3.0], [1.0, 1.0], [-0.5, 0.4]])
ADAPTIVE = [
    fl.Heun(),
    fl.BogackiShampine(),
    fl.DormandPrince(),
    fl.Tsit5(),
    fl.DOP853(),
    fl.ImplicitEuler(),
    fl.TRBDF2(),
    fl.SDIRK3(),
    fl.BDF2(),
    fl.MinimizingMovement(),
]


def well_exact(t, u):
    return u / np.sqrt(u * u + (1.0 - u * u) * np.exp(-2.0 * t))


def alone(flow, u0, t, scheme, **options):
    return [fl.solve(flow, u[None], t, scheme, **options) for u in u0]


@pytest.mark.parametrize("scheme", ADAPTIVE, ids=repr)
@pytest.mark.parametrize("flow", [WELL, FORCED], ids=["well", "forced"])
def test_members_go_as_if_they_were_alone(scheme, flow):
    start = STARTS if flow is WELL else np.abs(STARTS)
    options = {"dt": fl.Adaptive(1e-4, 1e-7), "save_at": [0.5, 0.51, 2.0]}
    batch = fl.solve(flow, start, (0, 2), scheme, **options)
    singles = alone(flow, start, (0, 2), scheme, **options)
    assert batch.t.tolist() == [0.5, 0.51, 2.0]
    got = np.concatenate([s.u for s in singles], axis=1)
    np.testing.assert_allclose(batch.u, got, rtol=1e-12, atol=1e-14)
    counts = [s.stats["steps"] for s in singles]
    assert batch.stats["member_steps"] == counts
    assert batch.stats["steps"] == max(counts)
    assert len(set(counts)) > 2
    assert np.isnan(batch.stopped).all()


def test_members_take_the_steps_they_need_and_no_more():
    dt = fl.Adaptive(1e-8, 1e-11)
    own = fl.solve(WELL, STARTS, (0, 5), fl.Tsit5(), dt=dt, save_at=5.0)
    shared = fl.solve(WELL, STARTS, (0, 5), fl.Tsit5(), dt=dt)
    assert own.u[-1] == pytest.approx(well_exact(5.0, STARTS), abs=1e-7)
    assert shared.u[-1] == pytest.approx(own.u[-1], abs=1e-7)
    assert min(own.stats["member_steps"]) < 0.5 * shared.stats["steps"]
    assert shared.stopped is None


class Sizes(fl.Flow):
    """Decay that remembers the sizes of the batches it was asked for."""

    space = None

    def __init__(self):
        self.seen = []

    def velocity(self, t, u):
        self.seen.append(u.shape[0])
        return -(u**3)

    def norm(self, e):
        return np.sqrt(np.mean(e * e, axis=-1))


def test_the_work_shrinks_with_the_members_that_still_run():
    flow = Sizes()
    start = np.array([[1e-3]] * 99 + [[100.0]])
    sol = fl.solve(flow, start, (0, 1), fl.Tsit5(), dt=fl.Adaptive(), save_at=1.0)
    exact = start / np.sqrt(1 + 2 * start**2)
    assert sol.u[-1] == pytest.approx(exact, rel=1e-4)
    calls = len(flow.seen)
    assert np.mean(flow.seen) < 20
    assert calls > 6 * sol.stats["steps"]


class Swept(fl.Flow):
    """Each member has a rate of its own, so that no subset can be evaluated."""

    space = None
    rates = np.array([[1.0], [2.0], [50.0]])

    def velocity(self, t, u):
        return -self.rates * u

    def norm(self, e):
        return np.sqrt(np.mean(e * e, axis=-1))


def test_members_that_need_each_other_share_their_steps():
    sol = fl.solve(
        Swept(), np.ones((3, 2)), (0, 1), fl.Tsit5(), dt=fl.Adaptive(), save_at=1.0
    )
    assert sol.stopped is None
    assert sol.u[-1] == pytest.approx(np.exp(-Swept.rates) * np.ones(2), abs=1e-5)


@pytest.mark.parametrize("scheme", [fl.Tsit5(), fl.BDF2(), fl.SDIRK3()], ids=repr)
def test_tensors_give_what_arrays_give(scheme):
    options = {"dt": fl.Adaptive(1e-5), "save_at": 1.0}
    ours = fl.solve(WELL, STARTS, (0, 2), scheme, **options)
    theirs = fl.solve(WELL, torch.tensor(STARTS), (0, 2), scheme, **options)
    assert torch.is_tensor(theirs.u)
    assert theirs.stats["member_steps"] == ours.stats["member_steps"]
    np.testing.assert_allclose(theirs.u.numpy(), ours.u, rtol=1e-12)


def test_float32_stays_float32_and_lands_exactly():
    start = STARTS.astype(np.float32)
    dt = fl.Adaptive(1e-4)
    sol = fl.solve(WELL, start, (0, 2), fl.Tsit5(), dt=dt, save_at=0.3)
    assert sol.u.dtype == np.float32
    assert sol.u[-1] == pytest.approx(well_exact(2.0, STARTS), abs=2e-3)


@pytest.mark.parametrize("scheme", [fl.Tsit5(), fl.TRBDF2(), fl.BDF2()], ids=repr)
def test_every_member_ends_at_its_own_event(scheme):
    implicit = scheme.order == 2
    dt = fl.Adaptive(1e-7, 1e-10) if implicit else fl.Adaptive(1e-9, 1e-12)
    near = 2e-4 if implicit else 1e-7
    start = np.array([[1.0], [2.0], [0.4], [8.0]])
    sol = fl.solve(
        DECAY,
        start,
        (0, math.inf),
        scheme,
        dt=dt,
        save_at=[0.0, 1.0],
        until=lambda t, u: u[:, 0] - 0.25,
    )
    exact = np.log(start[:, 0] / 0.25)
    assert sol.stopped == pytest.approx(exact, abs=near)
    assert sol.u[-1, :, 0] == pytest.approx(0.25, abs=1e-12)
    assert sol.t == pytest.approx([0.0, 1.0, exact.max()], abs=near)
    # At t = 1 two members have been frozen.
    assert sol.u[1, :, 0] == pytest.approx(
        np.maximum(start[:, 0] * np.exp(-1), 0.25), abs=near
    )
    assert sorted(sol.event_members.tolist()) == [0, 1, 2, 3]
    assert (np.diff(sol.events) >= 0).all()
    assert sol.stats["event_steps"] > 0
    assert "until" in sol.message
    one = fl.solve(
        DECAY,
        start[0],
        (0, 9),
        scheme,
        dt=dt,
        save_at=[0.0, 1.0],
        until=lambda t, u: u[0] - 0.25,
    )
    assert one.t[-1] == pytest.approx(sol.stopped[0], abs=1e-11)


def test_members_that_do_not_stop_go_to_the_end(tmp_path):
    start = np.array([[1.0], [4.0]])
    sol = fl.solve(
        DECAY,
        start,
        (0, 2),
        fl.Tsit5(),
        dt=fl.Adaptive(1e-8),
        save_at=[2.0],
        until=lambda t, u: u[:, 0] < 0.5,
    )
    assert sol.stopped[0] == pytest.approx(math.log(2), abs=1e-6)
    assert math.isnan(sol.stopped[1])
    assert sol.u[-1, 0, 0] < 0.5
    assert sol.u[-1, 1, 0] == pytest.approx(4 * math.exp(-2), abs=1e-6)
    assert sol.message == "reached the end"
    assert "1 of 2 members stopped by `until`" in str(sol)
    back = fl.load(sol.save(tmp_path / "sol.npz"))
    assert np.array_equal(back.stopped, sol.stopped, equal_nan=True)
    assert back.events.tolist() == sol.events.tolist()
    assert back.event_members.tolist() == [0]
    assert back.failed.size == 0


def test_rules_see_the_times_of_the_members():
    def rule(t, u):
        assert np.ndim(t) == 0 or t.shape == (u.shape[0], 1)
        return u[:, 0] * np.ones(len(u)) - 0.5 * np.ravel(t)

    start = np.array([[1.0], [3.0]])
    sol = fl.solve(
        DECAY,
        start,
        (0, 9),
        fl.DOP853(),
        dt=fl.Adaptive(1e-10, 1e-13),
        save_at=[9.0],
        until=rule,
    )
    residual = start[:, 0] * np.exp(-sol.stopped) - 0.5 * sol.stopped
    assert residual == pytest.approx(0.0, abs=1e-9)


def test_a_rule_of_another_shape_is_an_error():
    def rule(t, u):
        return u[:, 0] if np.ndim(t) == 0 else u[:, 0] - t

    with pytest.raises(
        TypeError, match=r"one value for each of the 5 members.*\(5, 5\)"
    ):
        fl.solve(
            WELL, STARTS, (0, 1), fl.Tsit5(), dt=fl.Adaptive(), save_at=1.0, until=rule
        )
    with pytest.raises(TypeError, match=r"one float or bool.*\(5,\).*Adaptive"):
        fl.solve(
            WELL, STARTS, (0, 1), fl.Tsit5(), dt=0.1, until=lambda t, u: u[:, 0] - 1
        )


def test_a_rule_of_all_members_makes_them_share_their_steps():
    sol = fl.solve(
        DECAY,
        np.array([[1.0], [2.0]]),
        (0, 9),
        fl.Tsit5(),
        dt=fl.Adaptive(1e-9),
        save_at=[9.0],
        until=lambda t, u: u.max() - 0.5,
    )
    assert sol.t[-1] == pytest.approx(math.log(4), abs=1e-6)
    assert sol.stopped is None


def test_with_every_step_saved_members_share_steps_but_have_their_own_end():
    start = np.array([[1.0], [2.0], [0.4]])
    sol = fl.solve(
        DECAY,
        start,
        (0, math.inf),
        fl.Tsit5(),
        dt=fl.Adaptive(1e-9, 1e-12),
        until=lambda t, u: u[:, 0] - 0.25,
    )
    assert sol.stopped == pytest.approx(np.log(start[:, 0] / 0.25), abs=1e-7)
    assert len(sol.t) == sol.stats["steps"] + 1
    late = np.minimum(sol.t[:, None], sol.stopped)
    assert sol.u[:, :, 0] == pytest.approx(start[:, 0] * np.exp(-late), abs=1e-7)
    with pytest.raises(ValueError, match="members that stopped"):
        sol(0.1)


def test_a_rule_that_holds_at_the_start_stops_its_members_there():
    start = np.array([[0.2], [1.0]])
    sol = fl.solve(
        DECAY,
        start,
        (1, 9),
        fl.Tsit5(),
        dt=fl.Adaptive(1e-8),
        save_at=[9.0],
        until=lambda t, u: u[:, 0] < 0.5,
    )
    assert sol.stopped[0] == 1.0
    assert sol.u[-1, 0, 0] == 0.2
    assert sol.stopped[1] == pytest.approx(1 + math.log(2), abs=1e-6)


def test_steady_stops_members_one_by_one():
    sol = fl.solve(
        WELL,
        STARTS,
        (0, math.inf),
        fl.TRBDF2(),
        dt=fl.Adaptive(1e-6),
        save_at=[0.0],
        until=fl.Steady(1e-5),
    )
    assert np.isfinite(sol.stopped).all()
    assert sol.stopped[3] == 0.0
    assert len(np.unique(sol.stopped)) > 3
    assert np.abs(WELL.velocity(0.0, sol.u[-1])).max() < 2e-5


class Doomed(Members):
    """Members that start above 1 blow up at t = 1/u."""

    def velocity(self, t, u):
        return np.where(u > 1, u * u, -u)


def test_members_that_fail_freeze_and_are_named_at_the_end():
    flow = Doomed(None, None)
    start = np.array([[0.5], [2.0], [0.7], [4.0]])
    with pytest.raises(
        fl.SolveError, match=r"2 of 4 members failed.*1, 3.*Member 1: .*t\* = 0\.5"
    ) as caught:
        fl.solve(flow, start, (0, 2), fl.Tsit5(), dt=fl.Adaptive(), save_at=0.5)
    sol = caught.value.solution
    assert sol.failed.tolist() == [1, 3]
    assert sol.t.tolist() == [0, 0.5, 1.0, 1.5, 2.0]
    assert np.isfinite(sol.u).all()
    assert sol.u[-1, [0, 2], 0] == pytest.approx(
        start[[0, 2], 0] * math.exp(-2), rel=1e-5
    )
    assert np.array_equal(sol.u[2, [1, 3]], sol.u[-1, [1, 3]])


def test_members_that_share_their_steps_fail_by_themselves():
    flow = Doomed(None, None)
    start = np.array([[0.5], [2.0], [0.7]])
    with pytest.raises(fl.SolveError, match=r"1 of 3 members failed.*: 1\.") as caught:
        fl.solve(
            flow,
            start,
            (0, 1),
            fl.Tsit5(),
            dt=fl.Adaptive(),
            until=lambda t, u: u[:, 0] + 1.0,
        )
    sol = caught.value.solution
    assert sol.failed.tolist() == [1]
    assert sol.t[-1] == 1.0
    assert sol.u[-1, ::2, 0] == pytest.approx(start[::2, 0] * math.exp(-1), rel=1e-5)


class Stubborn(Members):
    """The implicit equation of members above 3 has no solution for h > 0.01."""

    limit = 0.01

    def resolvent(self, t, w, h, memory):
        if np.any((w > 3) & (np.asarray(h) > self.limit)):
            raise NewtonFailure("no luck", [1.0, 0.5])
        return super().resolvent(t, w, h, memory)


def test_one_failing_member_does_not_hold_up_the_others():
    stubborn = Stubborn(DECAY.f, DECAY.slope)
    start = np.array([[1.0], [5.0], [2.0], [0.1], [2.5]])
    options = {"dt": fl.Adaptive(1e-3, 1e-6), "save_at": [1.0]}
    sol = fl.solve(stubborn, start, (0, 1), fl.TRBDF2(), **options)
    easy = fl.solve(DECAY, start, (0, 1), fl.TRBDF2(), **options)
    keep = [0, 2, 3, 4]
    assert np.array_equal(sol.u[-1, keep], easy.u[-1, keep])
    assert sol.stats["member_steps"][1] > 2 * easy.stats["member_steps"][1]
    hopeless = Stubborn(DECAY.f, DECAY.slope)
    object.__setattr__(hopeless, "limit", 0.0)
    with pytest.raises(fl.SolveError, match=r"1 of 5 members.*: 1\..*residuals 1.00e"):
        fl.solve(hopeless, start, (0, 1), fl.TRBDF2(), **options)


def test_steps_are_limited_for_each_member():
    dt = fl.Adaptive(1e-10, 1e-13, max_steps=30)
    with pytest.raises(fl.SolveError, match=r"max_steps=30\) is used up at") as caught:
        fl.solve(WELL, STARTS, (0, 1), fl.Tsit5(), dt=dt, save_at=1.0)
    assert 0 < len(caught.value.solution.failed) < 5


def test_bdf2_grows_the_step_of_one_member_without_restarting_the_others():
    u = np.array([[0.5], [0.8], [0.3]])
    before, slope = well_exact(-0.1, u), WELL.velocity(0.0, u)
    memory = (before, np.full((3, 1), 0.1), slope, u)
    t, h = np.zeros((3, 1)), np.array([[0.1], [0.3], [0.15]])
    step = fl.BDF2().step(WELL, t, u, h, None, memory)
    for i in range(3):
        own = (before[i : i + 1], 0.1, slope[i : i + 1], u[i : i + 1])
        single = fl.BDF2().step(WELL, 0.0, u[i : i + 1], float(h[i, 0]), None, own)
        np.testing.assert_allclose(step.u[i], single.u[0], rtol=1e-14)
        np.testing.assert_allclose(step.error[i], single.error[0], rtol=1e-9)


def stopping_at(count):
    class Stop:
        def __init__(self):
            self.left = count

        def start(self, run):
            pass

        def round(self, run):
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("stop here")

    return Stop()


@pytest.mark.parametrize("scheme", [fl.Tsit5(), fl.BDF2(), fl.SDIRK3()], ids=repr)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_killed_batch_goes_on_bit_for_bit(scheme, library, tmp_path):
    path = tmp_path / "run.npz"
    start = STARTS if library == "numpy" else torch.tensor(STARTS)
    options = {
        "dt": fl.Adaptive(1e-4, controller=fl.PID()),
        "save_at": [1.0, 2.0, 4.0],
        "until": lambda t, u: u[:, 0] - 0.9,
    }
    whole = fl.solve(WELL, start, (0, 4), scheme, **options)
    hooks = [Checkpoint(path, every=7), stopping_at(25)]
    with pytest.raises(RuntimeError, match="stop here"):
        fl.solve(WELL, start, (0, 4), scheme, on_step=hooks, **options)
    rest = fl.resume(
        path,
        WELL,
        scheme,
        until=options["until"],
        on_step=[Checkpoint(path, every=7), stopping_at(10**9)],
    )
    k = len(rest.t)
    assert np.array_equal(np.asarray(rest.u), np.asarray(whole.u)[-k:])
    assert np.array_equal(rest.stopped, whole.stopped, equal_nan=True)
    assert rest.stats["member_steps"] == whole.stats["member_steps"]
    assert np.array_equal(rest.events, whole.events)


@pytest.mark.parametrize("scheme", [fl.Tsit5(), fl.BDF2()], ids=repr)
def test_two_runs_are_one_run(scheme):
    dt = fl.Adaptive(1e-5)
    whole = fl.solve(WELL, STARTS, (0, 2), scheme, dt=dt, save_at=1.0)
    half = fl.solve(WELL, STARTS, (0, 1), scheme, dt=dt, save_at=1.0)
    rest = fl.solve(WELL, half, (1, 2), scheme, dt=dt, save_at=1.0)
    assert np.array_equal(rest.u[-1], whole.u[-1])
    shared = fl.solve(WELL, half, (1, 2), scheme, dt=dt)
    assert shared.u[-1] == pytest.approx(whole.u[-1], abs=1e-2)


def test_an_interrupted_batch_goes_on_from_its_last_save_time():
    class Press:
        def start(self, run):
            pass

        def round(self, run):
            if run.t >= 1.0 and run.clock.max() > 1.2:
                raise KeyboardInterrupt

    dt = fl.Adaptive(1e-8)
    with pytest.raises(fl.Interrupted) as caught:
        fl.solve(WELL, STARTS, (0, 2), fl.Tsit5(), dt=dt, save_at=1.0, on_step=Press())
    half = caught.value.solution
    assert half.t.tolist() == [0.0, 1.0]
    rest = fl.solve(WELL, half, (1, 2), fl.Tsit5(), dt=dt, save_at=1.0)
    assert rest.u[-1] == pytest.approx(well_exact(2.0, STARTS), abs=1e-6)


def test_hooks_see_the_save_times_and_the_descent_of_every_round():
    seen = []
    flow = Rising()
    start = np.array([[0.1], [0.2]])
    options = {"dt": fl.Adaptive(1e-6), "save_at": 0.5}
    fl.solve(
        flow, start, (0, 1), fl.Tsit5(), on_step=lambda t, u: seen.append(t), **options
    )
    assert seen == [0.5, 1.0]
    with pytest.raises(fl.SolveError, match="energy of member 1 rose"):
        fl.solve(
            flow, start, (0, 1), fl.Tsit5(), on_step=fl.Check(descent=True), **options
        )


class Rising(fl.Flow):
    """A velocity along which the energy of the second member rises."""

    space = None

    def velocity(self, t, u):
        return np.where(u > 0.15, u, -u)

    def energy(self, t, u):
        return 0.5 * np.sum(u * u, axis=-1)

    def norm(self, e):
        return np.sqrt(np.mean(e * e, axis=-1))


class Fused(Sizes):
    """A compiled path for adaptive steps."""

    def advance(self, scheme, dt, t0, t1, u, rng):
        self.asked = (scheme, dt, t0, t1)
        return u / np.sqrt(1 + 2 * (t1 - t0) * u**2), {"steps": 7, "velocity_calls": 9}


def test_the_fused_path_is_offered_adaptive_steps():
    flow, dt = Fused(), fl.Adaptive(1e-7)
    start = np.array([[1.0], [3.0]])
    sol = fl.solve(flow, start, (0, 1), fl.Tsit5(), dt=dt, save_at=0.5)
    assert flow.asked == (fl.Tsit5(), dt, 0.5, 1.0)
    assert sol.u[-1] == pytest.approx(start / np.sqrt(1 + 2 * start**2), rel=1e-12)
    assert sol.stats["steps"] == 14
    assert sol.stats["velocity_calls"] == 18
    one = fl.solve(flow, start[0], (0, 1), fl.Tsit5(), dt=dt, save_at=[1.0])
    assert one.u[-1] == pytest.approx(sol.u[-1, 0])


PLANE = fl.Potential("(x**2 - 1)**2/4 + y**2*(1 + x**2)")


@pytest.mark.parametrize(
    "scheme",
    [fl.DOP853(), fl.SDIRK3(), fl.Radau(), fl.Rosenbrock(), fl.StepDoubling(fl.RK4())],
    ids=repr,
)
def test_points_of_the_plane_have_their_own_steps(scheme):
    flow = fl.Euclidean().flow(PLANE)
    start = np.random.default_rng(1).normal(size=(12, 2)) * 2
    options = {"dt": fl.Adaptive(1e-7, 1e-9), "save_at": 1.0}
    sol = fl.solve(flow, start, (0, 2), scheme, **options)
    assert len(set(sol.stats["member_steps"])) > 3
    for i in (0, 7):
        one = fl.solve(flow, start[i], (0, 2), scheme, **options)
        np.testing.assert_allclose(sol.u[:, i], one.u, rtol=1e-9, atol=1e-12)
    assert sol.energy.shape == (3, 12)
    assert sol.stats["energy_rises"] == 0


def test_points_within_bounds_reject_by_themselves():
    space = fl.Euclidean(bounds=fl.bounds.rejection(lower=0.0))
    flow = space.flow(fl.Potential("x - y**2/2"))
    start = np.array([[1.0, 0.1], [9.0, 0.1]])
    with pytest.raises(
        fl.SolveError, match=r"1 of 2 members.*outside rejection.*projection"
    ) as caught:
        fl.solve(flow, start, (0, 2), fl.Tsit5(), dt=fl.Adaptive(), save_at=2.0)
    sol = caught.value.solution
    assert sol.u[-1, 0, 0] == pytest.approx(0.0, abs=1e-6)
    assert sol.u[-1, 1] == pytest.approx([7.0, 0.1 * math.exp(2)], rel=1e-5)
