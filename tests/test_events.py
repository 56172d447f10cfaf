"""Events: found inside the step, with jumps, directions, limits; bounds of states."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scheme_toys import Pointwise

import flows as fl

DECAY = fl.Euclidean().flow(fl.quadratic([1.0, 3.0]))


class Ball(fl.Flow):
    """Height and speed of a ball: no gradient flow, but it bounces."""

    space = None

    def velocity(self, t, u):
        return np.stack([u[..., 1], -np.ones_like(u[..., 1])], axis=-1)


class Ramp(fl.Flow):
    """u' = rate: integrate and fire."""

    space = None

    def __init__(self, rate=1.0):
        self.rate = rate

    def velocity(self, t, u):
        return self.rate + 0.0 * u


def bounce(t, u):
    return np.stack([0.0 * u[..., 0], -0.5 * u[..., 1]], axis=-1)


def height(t, u):
    return u[..., 0]


# From height 1/2 at rest: impact at t = 1 with speed 1, then flights of 2 (1/2)^k.
IMPACTS = 1.0 + np.cumsum([0.0, 1.0, 0.5, 0.25])


@pytest.mark.parametrize("dt", [0.13, fl.Adaptive(1e-9)], ids=["fixed", "adaptive"])
@pytest.mark.parametrize(
    "scheme", [fl.RK4(), fl.DormandPrince(), fl.DOP853()], ids=repr
)
def test_a_ball_bounces_at_the_exact_times(scheme, dt):
    if isinstance(dt, fl.Adaptive) and scheme.error_order is None:
        scheme = fl.StepDoubling(scheme)
    event = fl.Event(height, jump=bounce, direction=-1, limit=4)
    sol = fl.solve(Ball(), [0.5, 0.0], (0, math.inf), scheme, dt=dt, until=event)
    assert sol.events == pytest.approx(IMPACTS, abs=1e-9)
    assert sol.t[-1] == sol.events[-1]
    assert sol.event_members.tolist() == [-1] * 4
    assert "until" in sol.message
    for t in sol.events[:-1]:
        before, after = sol.u[sol.t == t]
        assert before[0] == pytest.approx(0.0, abs=1e-12)
        assert after.tolist() == [0.0, -0.5 * before[1]]


def test_the_direction_is_found_without_being_told():
    event = fl.Event(height, jump=bounce, limit=4)
    sol = fl.solve(Ball(), [0.5, 0.0], (0, 9), fl.RK4(), dt=0.13, until=event)
    assert sol.events == pytest.approx(IMPACTS, abs=1e-9)


def test_flights_shorter_than_a_step_are_not_missed():
    event = fl.Event(height, jump=bounce, direction=-1, limit=12)
    sol = fl.solve(Ball(), [0.5, 0.0], (0, 9), fl.RK4(), dt=0.5, until=event)
    exact = 1.0 + 2.0 * (1.0 - 0.5 ** np.arange(12.0))
    assert sol.events == pytest.approx(exact, abs=1e-9)


def test_a_state_may_pass_through_its_event():
    """Light that slows down in a medium below the height 0."""

    def slower(t, u):
        return np.stack([u[..., 0], 0.5 * u[..., 1]], axis=-1)

    class Ray(Ball):
        def velocity(self, t, u):
            return np.stack([u[..., 1], 0.0 * u[..., 1]], axis=-1)

    event = fl.Event(height, jump=slower)
    sol = fl.solve(Ray(), [1.0, -3.0], (0, 1), fl.RK4(), dt=0.07, until=event)
    assert sol.events == pytest.approx([1 / 3], abs=1e-12)
    assert sol.u[-1] == pytest.approx([-1.0, -1.5], abs=1e-12)


def test_dense_output_has_both_sides_of_a_jump():
    event = fl.Event(height, jump=bounce, limit=2)
    sol = fl.solve(Ball(), [0.5, 0.0], (0, 9), fl.RK4(), dt=0.13, until=event)
    t = np.array([0.3, 0.99, 1.2, 1.9])
    flight = np.where(t < 1, 0.5 - t**2 / 2, 0.5 * (t - 1) - (t - 1) ** 2 / 2)
    assert sol(t)[:, 0] == pytest.approx(flight, abs=1e-12)
    speed = np.where(t < 1, -t, 0.5 - (t - 1))
    assert sol(t)[:, 1] == pytest.approx(speed, abs=1e-12)


@pytest.mark.parametrize("save_at", [0.75, [0.4, 1.0, 2.5]])
def test_events_between_save_times_do_not_move_them(save_at):
    event = fl.Event(lambda t, u: u[0] - 1.0, jump=lambda t, u: 0 * u)
    sol = fl.solve(
        Ramp(), [0.25], (0, 3), fl.RK4(), dt=0.1, save_at=save_at, until=event
    )
    assert sol.events == pytest.approx([0.75, 1.75, 2.75], abs=1e-10)
    inside = sol.t % 1 != 0.75
    assert sol.u[inside, 0] == pytest.approx((sol.t[inside] + 0.25) % 1, abs=1e-10)
    expected = np.append(np.arange(4) * 0.75, 3.0)[:5] if save_at == 0.75 else save_at
    assert sol.t == pytest.approx(expected)


def test_a_jump_may_write_into_its_argument():
    def jump(t, u):
        u[1] = -0.5 * u[1]
        return u

    event = fl.Event(height, jump=jump, direction=-1, limit=3)
    sol = fl.solve(Ball(), [0.5, 0.0], (0, 9), fl.RK4(), dt=0.1, until=event)
    assert sol.events == pytest.approx(IMPACTS[:3], abs=1e-9)


class Wave(fl.Flow):
    space = None

    def velocity(self, t, u):
        return np.cos(t) + 0.0 * u


@pytest.mark.parametrize(
    ("direction", "times"),
    [(0, [1, 2, 3, 4]), (1, [2, 4]), (-1, [1, 3])],
)
def test_events_without_end_are_listed(direction, times):
    event = fl.Event(lambda t, u: u[0], direction=direction, limit=math.inf)
    options = {"dt": fl.Adaptive(1e-10, 1e-12)}
    t = (0.5, 13.0)
    sol = fl.solve(Wave(), [math.sin(0.5)], t, fl.DOP853(), until=event, **options)
    assert sol.events == pytest.approx(math.pi * np.array(times), abs=1e-8)
    free = fl.solve(Wave(), [math.sin(0.5)], t, fl.DOP853(), **options)
    assert np.array_equal(sol.u, free.u)
    third = fl.Event(lambda t, u: u[0], limit=3)
    ended = fl.solve(Wave(), [math.sin(0.5)], t, fl.DOP853(), until=third, **options)
    assert ended.t[-1] == pytest.approx(3 * math.pi, abs=1e-8)


def test_a_bool_that_becomes_true_is_an_event():
    event = fl.Event(lambda t, u: bool(u[0] >= 1), jump=lambda t, u: u - 1)
    sol = fl.solve(Ramp(), [0.0], (0, 3.5), fl.RK4(), dt=0.3, until=event)
    assert sol.events == pytest.approx([1, 2, 3], abs=1e-10)


@pytest.mark.parametrize(
    "scheme", [fl.Tsit5(), fl.TRBDF2(), fl.BDF2(), fl.RK4()], ids=repr
)
def test_the_scheme_starts_anew_after_a_jump(scheme):
    """Decay from 1 that is put back to 1 at 1/2: a period of log 2."""
    flow = Pointwise(lambda t, u: -u, lambda t, u: -1.0)
    dt = 0.01 if scheme.error_order is None else fl.Adaptive(1e-9, 1e-12)
    event = fl.Event(lambda t, u: u[0] - 0.5, jump=lambda t, u: 0 * u + 1.0)
    object.__setattr__(flow, "space", None)
    sol = fl.solve(flow, [1.0], (0, 3), scheme, dt=dt, until=event)
    exact = math.log(2) * np.arange(1, 5)
    assert sol.events == pytest.approx(exact, abs=2e-5)
    assert sol.u[-1, 0] == pytest.approx(math.exp(-(3 - exact[-1])), abs=2e-5)
    assert sol.stats["event_steps"] >= 4


def test_refinement_is_counted_with_the_scheme():
    plain = fl.solve(DECAY, [1.0, 0.1], (0, 0.5), fl.RK4(), dt=0.5)
    sol = fl.solve(
        DECAY, [1.0, 0.1], (0, 5), fl.RK4(), dt=0.5, until=lambda t, u: u[0] - 0.8
    )
    assert sol.stats["steps"] == plain.stats["steps"] == 1
    partial = sol.stats["event_steps"]
    assert 2 <= partial <= 12
    assert sol.stats["velocity_calls"] == 4 * (1 + partial)


class Ramps(Ramp):
    def norm(self, e):
        return np.sqrt(np.mean(e * e, axis=-1))

    def velocity(self, t, u):
        return 1.0 + 0.0 * u


def test_members_jump_by_themselves():
    start = np.array([[0.0], [0.5], [0.9]])
    event = fl.Event(lambda t, u: u[:, 0] - 1.0, jump=lambda t, u: 0.25 + 0 * u)
    sol = fl.solve(
        Ramps(),
        start,
        (0, 2),
        fl.Tsit5(),
        dt=fl.Adaptive(1e-6),
        save_at=[2.0],
        until=event,
    )
    expected = {0: [1.0, 1.75], 1: [0.5, 1.25, 2.0], 2: [0.1, 0.85, 1.6]}
    for i, times in expected.items():
        got = sol.events[sol.event_members == i]
        assert got == pytest.approx(times[: len(got)], abs=1e-9)
        assert len(got) >= len(times) - 1
    assert sol.u[-1, [0, 2], 0] == pytest.approx([0.5, 0.65], abs=1e-9)
    assert np.isnan(sol.stopped).all()
    ends = fl.Event(event.when, event.jump, limit=2)
    sol = fl.solve(
        Ramps(),
        start,
        (0, math.inf),
        fl.Tsit5(),
        dt=fl.Adaptive(1e-6),
        save_at=[0.0],
        until=ends,
    )
    assert sol.stopped == pytest.approx([1.75, 1.25, 0.85], abs=1e-9)


class Balls(Ball):
    def norm(self, e):
        return np.sqrt(np.mean(e * e, axis=-1))


def test_many_balls_bounce_by_themselves():
    """From heights 1/2, 2, 9/2 at rest: all times scale with the root of the height."""
    scale = np.array([1.0, 2.0, 3.0])
    start = np.stack([0.5 * scale**2, 0.0 * scale], axis=1)
    event = fl.Event(height, jump=bounce, direction=-1, limit=8)
    sol = fl.solve(
        Balls(),
        start,
        (0, math.inf),
        fl.DormandPrince(),
        dt=fl.Adaptive(1e-6, 1e-6),
        save_at=[0.0],
        until=event,
    )
    exact = 1.0 + 2.0 * (1.0 - 0.5 ** np.arange(8.0))
    for i, factor in enumerate(scale):
        got = sol.events[sol.event_members == i]
        assert got == pytest.approx(factor * exact, abs=1e-9)
    assert sol.stopped == pytest.approx(scale * exact[-1], abs=1e-9)
    zeno = fl.Event(height, jump=bounce, direction=-1)
    with pytest.raises(fl.SolveError, match=r"3 of 3 members.*events accumulate"):
        fl.solve(
            Balls(),
            start,
            (0, 20),
            fl.DormandPrince(),
            dt=fl.Adaptive(1e-6, 1e-6),
            save_at=[20.0],
            until=zeno,
        )


def test_a_run_goes_on_with_a_state_changed_by_hand():
    half = fl.solve(
        Ball(), [0.5, 0.0], (0, 9), fl.RK4(), dt=0.1, until=lambda t, u: u[0]
    )
    up = half.with_state(bounce(1.0, half.u[-1]))
    assert np.array_equal(up.u[:-1], half.u[:-1])
    rest = fl.solve(Ball(), up, (half.t[-1], 1.5), fl.RK4(), dt=0.1)
    assert rest.u[0].tolist() == [0.0, -0.5 * half.u[-1, 1]]
    assert rest.u[-1] == pytest.approx([0.125, 0.0], abs=1e-9)
    with pytest.raises(ValueError, match=r"shape \(3,\).*\(2,\)"):
        half.with_state(np.zeros(3))


def test_a_random_run_keeps_its_stream_when_the_state_is_changed():
    flow = fl.LangevinParticles(20).flow(fl.kl("x**2/2"))
    em, start = fl.EulerMaruyama(), np.zeros((20, 1))
    half = fl.solve(flow, start, (0, 1), em, dt=0.125, rng=3)
    same = fl.solve(flow, half.with_state(half.u[-1]), (1, 2), em, dt=0.125)
    whole = fl.solve(flow, start, (0, 2), em, dt=0.125, rng=3)
    assert np.array_equal(same.u[-1], whole.u[-1])


def test_a_killed_run_with_jumps_goes_on_bit_for_bit(tmp_path):
    path = tmp_path / "run.npz"
    event = fl.Event(height, jump=bounce, direction=-1, limit=9)
    options = {"dt": fl.Adaptive(1e-7, controller=fl.PID.h211()), "until": event}
    seen = []

    def stop(t, u):
        seen.append(t)
        if len(seen) == 14:
            raise RuntimeError("stop here")

    ball = Ball()
    whole = fl.solve(ball, [0.5, 0.0], (0, 2.9), fl.BogackiShampine(), **options)
    with pytest.raises(RuntimeError, match="stop here"):
        fl.solve(
            ball,
            [0.5, 0.0],
            (0, 2.9),
            fl.BogackiShampine(),
            on_step=[fl.Checkpoint(path, every=4), stop],
            **options,
        )
    rest = fl.resume(
        path,
        ball,
        fl.BogackiShampine(),
        until=event,
        on_step=[fl.Checkpoint(path), lambda t, u: None],
    )
    assert np.array_equal(rest.u[-1], whole.u[-1])
    assert np.array_equal(rest.events, whole.events)


def test_jumps_that_lead_nowhere_are_an_error():
    event = fl.Event(lambda t, u: bool(u[0] >= 1), jump=lambda t, u: u - 1e-300)
    sol = fl.solve(Ramp(), [0.0], (0, 3), fl.RK4(), dt=0.3, until=event)
    assert len(sol.events) == 1
    zeno = fl.Event(height, jump=bounce, direction=-1)
    with pytest.raises(fl.SolveError, match="events accumulate") as caught:
        fl.solve(
            Ball(),
            [0.5, 0.0],
            (0, 9),
            fl.BogackiShampine(),
            dt=fl.Adaptive(),
            until=zeno,
        )
    assert caught.value.solution.t[-1] == pytest.approx(3.0, abs=1e-5)


WRONG = {
    "when": (lambda: fl.Event(3), TypeError, "`when` must be callable"),
    "jump": (lambda: fl.Event(height, jump=3), TypeError, "`jump` must be callable"),
    "direction": (lambda: fl.Event(height, direction=2), ValueError, "-1, 0 or 1"),
    "limit": (lambda: fl.Event(height, limit=0), ValueError, "`limit`.*at least 1"),
    "half": (lambda: fl.Event(height, limit=1.5), ValueError, "`limit`.*at least 1"),
    "endless": (
        lambda: fl.solve(
            Ramp(),
            [0.0],
            (0, math.inf),
            fl.RK4(),
            dt=0.1,
            until=fl.Event(height, jump=lambda t, u: u),
        ),
        ValueError,
        "never ends the run.*`limit`",
    ),
    "jump None": (
        lambda: fl.solve(
            Ramp(),
            [-0.5],
            (0, 1),
            fl.RK4(),
            dt=0.1,
            until=fl.Event(height, jump=lambda t, u: None),
        ),
        TypeError,
        "`jump` returned None",
    ),
    "jump shape": (
        lambda: fl.solve(
            Ramp(),
            [-0.5],
            (0, 1),
            fl.RK4(),
            dt=0.1,
            until=fl.Event(height, jump=lambda t, u: np.zeros(2)),
        ),
        ValueError,
        r"`jump` returned shape \(2,\).*\(1,\)",
    ),
    "jump NaN": (
        lambda: fl.solve(
            Ramp(),
            [-0.5],
            (0, 1),
            fl.RK4(),
            dt=0.1,
            until=fl.Event(height, jump=lambda t, u: u * np.nan),
        ),
        fl.SolveError,
        "[Aa]fter `jump` the state has 1 non-finite",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_events_say_what_to_do(name):
    call, kind, pattern = WRONG[name]
    with pytest.raises(kind, match=pattern):
        call()


class Bounded(fl.Flow):
    """u' = -1 - u^2 may not fall below the floor."""

    space = None
    bounds = "u >= floor"

    def __init__(self, floor):
        self.floor = floor

    def velocity(self, t, u):
        return -np.sqrt(np.abs(u))

    def admissible(self, u):
        return bool((u >= self.floor).all())


def test_steps_that_end_outside_are_rejected_and_shrunk():
    """u = (1 - t/2)^2 reaches 0 at t = 2 and no step may pass it."""
    dt = fl.Adaptive(1e-3, 1e-3)
    free = fl.solve(Bounded(-9.0), [1.0], (0, 2), fl.Heun(), dt=dt)
    kept = fl.solve(Bounded(0.0), [1.0], (0, 1.99), fl.Heun(), dt=dt)
    assert free.u[-1, 0] == pytest.approx(0.0, abs=0.05)
    assert (kept.u >= 0).all()
    assert kept.u[-1, 0] == pytest.approx(0.0, abs=0.05)


def test_fixed_steps_that_end_outside_are_halved():
    flow = Bounded(0.0)
    flow.velocity = lambda t, u: -u * np.where(u > 0.5, 1.2, 1.0)
    sol = fl.solve(flow, [1.0], (0, 2), fl.Euler(), dt=1.0)
    assert sol.stats["halved"] == 1
    assert (sol.u >= 0).all()


@pytest.mark.parametrize("dt", [0.1, fl.Adaptive()], ids=["fixed", "adaptive"])
def test_a_flow_that_leaves_its_bounds_says_which(dt):
    flow = Bounded(0.5)
    with pytest.raises(
        fl.SolveError,
        match=r"ends outside 'u >= floor'.*bounds.projection lets it rest",
    ) as caught:
        fl.solve(flow, [1.0], (0, 2), fl.DormandPrince(), dt=dt)
    sol = caught.value.solution
    assert sol.u[-1, 0] >= 0.5
    # (1 - t/2)^2 = 1/2
    edge = 2 - math.sqrt(2)
    assert edge - 0.1 < sol.t[-1] <= edge + 1e-6
    if dt != 0.1:
        assert sol.t[-1] == pytest.approx(edge, abs=1e-6)
    with pytest.raises(ValueError, match=r"`u0` is outside 'u >= floor'; start inside"):
        fl.solve(flow, [0.1], (0, 2), fl.RK4(), dt=0.1)


class BoundedMembers(Bounded):
    def norm(self, e):
        return np.sqrt(np.mean(e * e, axis=-1))

    def admissible(self, u):
        return (u >= self.floor).all(axis=-1)


def test_members_outside_their_bounds_fail_alone():
    flow = BoundedMembers(0.5)
    start = np.array([[1.0], [9.0]])
    with pytest.raises(
        fl.SolveError, match=r"1 of 2 members.*: 0\..*ends outside"
    ) as e:
        fl.solve(flow, start, (0, 2), fl.Tsit5(), dt=fl.Adaptive(), save_at=2.0)
    sol = e.value.solution
    assert sol.u[-1, :, 0] == pytest.approx([0.5, 4.0], abs=1e-5)
    with pytest.raises(ValueError, match=r"`u0` is outside .*\(member 1\)"):
        fl.solve(flow, [[1.0], [0.1]], (0, 2), fl.Tsit5(), dt=fl.Adaptive())
