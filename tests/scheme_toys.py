"""Small flows with exact solutions, and tools to measure schemes on them."""

import math
from dataclasses import dataclass

import numpy as np

import flows.schemes as fs
from flows.arrays import array_like
from flows.flow import Flow

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
    fs.BDF(),
    fs.Radau(),
    fs.Rosenbrock(),
    fs.Exponential(),
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

    def jacobian(self, t, u):
        slope = self.slope(t, u) + 0.0 * u
        return slope[..., None] * array_like(np.eye(u.shape[-1]), u)


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

    def jacobian(self, t, u):
        return self.along(lambda rate: rate, np.eye(2, dtype=u.dtype))

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
