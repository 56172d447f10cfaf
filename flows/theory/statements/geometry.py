"""Statements about mirror flows, manifolds and steepest descent in norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from flows import problems
from flows.control import Adaptive
from flows.energies import quadratic
from flows.schemes import DOP853, Euler, Heun, MinimizingMovement
from flows.solve import solve
from flows.spaces import (
    SPD,
    Euclidean,
    Matrices,
    Mirror,
    Sphere,
    SteepestDescent,
    Stiefel,
    norms,
)
from flows.spaces.costs import linear_model
from flows.theory.convergence import convergence
from flows.theory.verify import statement

Sides = tuple[Any, Any, float]
TIGHT = Adaptive(rtol=1e-12, atol=1e-13)


def run(flow: Any, u0: Any, T: float, scheme: Any, dt: Any) -> Any:
    """Solution from u0 to T."""
    return solve(flow, u0, (0, T), scheme, dt=dt)


@statement("power-method", "its iterates for W^T W are the Rayleigh flow at t = k")
def power_method() -> Sides:
    W = np.array([[2.0, -1.0, 0.3], [-1.0, 2.0, 0.5], [0.1, 0.2, 1.0]])
    values, vectors = np.linalg.eigh(W.T @ W)
    p = problems.rayleigh((vectors * np.log(values)) @ vectors.T, [0.6, 0.0, 0.8])
    u = p.exact(0.0)
    for _ in range(4):
        u = W.T @ W @ u
        u = u / np.linalg.norm(u)
    sol = run(Sphere().flow(p.energy), p.exact(0.0), 4.0, DOP853(), TIGHT)
    return sol.u[-1].tolist(), u.tolist(), 1e-10


@statement("rayleigh-angle", "tan of the angle to the top vector falls as e^-(a1-a2)t")
def rayleigh_angle() -> Sides:
    p = problems.rayleigh([3.0, 1.0], [np.cos(1.2), np.sin(1.2)])
    x = run(Sphere().flow(p.energy), p.exact(0.0), 1.5, DOP853(), TIGHT).u[-1]
    return float(x[1] / x[0]), float(np.tan(1.2) * np.exp(-3.0)), 1e-10


@statement("oja-off-sphere", "Oja's flow is y/sqrt(1 + |y|^2 - |x0|^2), y = e^tA x0")
def oja_off_sphere() -> Sides:
    p = problems.oja([2.0, 1.0, -0.5], [0.2, 1.3, 0.9])
    flow = Euclidean().flow(p.energy, p.constants["drift"])
    u = run(flow, p.exact(0.0), 1.0, DOP853(), TIGHT).u[-1]
    return u.tolist(), p.exact(1.0).tolist(), 1e-10


@statement("sphere-height", "on V = -z the height on the sphere is tanh(t + atanh z0)")
def sphere_height() -> Sides:
    p = problems.sphere_linear([0.0, 0.0, 1.0], [0.6, 0.0, -0.8])
    u = run(Sphere().flow(p.energy), p.exact(0.0), 2.0, DOP853(), TIGHT).u[-1]
    return float(u[2]), float(np.tanh(2.0 + np.arctanh(-0.8))), 1e-10


@statement("orthogonality", "W' = -4W(W^T W - I): sigma^2 = 1/(1+(sigma0^-2-1)e^-8t)")
def orthogonality() -> Sides:
    p = problems.orthogonality()
    flow = Matrices(3, 2).flow(p.energy)
    W = run(flow, p.exact(0.0), 0.3, DOP853(), TIGHT).u[-1]
    s0 = np.linalg.svd(p.exact(0.0), compute_uv=False)
    s = np.linalg.svd(W, compute_uv=False)
    return (s**2).tolist(), (1 / (1 + (s0**-2.0 - 1) * np.exp(-2.4))).tolist(), 1e-10


@statement("isospectral", "the double bracket flow keeps the spectrum of Q^T A Q")
def isospectral() -> Sides:
    p = problems.toda()
    Q = run(Stiefel(4, 4).flow(p.energy), np.eye(4), 2.0, Euler(), 0.01).u[-1]
    L0, exact = p.constants["L"], p.constants["eigenvalues"]
    return np.linalg.eigvalsh(Q.T @ L0 @ Q)[::-1].tolist(), exact.tolist(), 1e-12


@statement("toda", "the Toda flow from I is the Q of e^tL = QR")
def toda() -> Sides:
    p = problems.toda()
    Q = run(Stiefel(4, 4).flow(p.energy), np.eye(4), 1.0, DOP853(), TIGHT).u[-1]
    return Q.tolist(), p.exact(1.0).tolist(), 1e-10


@statement("retraction-order", "Heun with a retraction to the sphere has order 2")
def retraction_order() -> Sides:
    p = problems.rayleigh([3.0, 1.0, -1.0], [0.1, 0.7, 0.7])
    flow = Sphere().flow(p.energy)

    def error(h: float) -> float:
        u = run(flow, p.exact(0.0), 1.0, Heun(), h).u[-1]
        return float(np.abs(u - p.exact(1.0)).max())

    return convergence(error, [1 / 32, 1 / 64, 1 / 128, 1 / 256]).slope, 2.0, 0.1


@statement("mirror-exact", "mirror descent on a linear energy is exact at every step")
def mirror_exact() -> Sides:
    p = problems.simplex_linear()
    flow = Mirror.simplex().flow(p.energy)
    gaps = [
        float(np.abs(run(flow, p.exact(0.0), 4.0, s, 2.0).u[-1] - p.exact(4.0)).max())
        for s in (Euler(), MinimizingMovement())
    ]
    return gaps, [0.0, 0.0], 1e-14


@statement("mirror-kl", "k mirror steps on KL(.|q) are x0^s q^(1-s), s = (1-h)^k")
def mirror_kl() -> Sides:
    p = problems.simplex_kl()
    u = run(Mirror.simplex().flow(p.energy), p.exact(0.0), 2.0, Euler(), 0.25).u[-1]
    return u.tolist(), p.exact.descent(8, 0.25).tolist(), 1e-14


@statement("replicator", "rock, paper, scissors conserves x1 x2 x3")
def replicator() -> Sides:
    p = problems.rock_paper_scissors()
    flow = Mirror.simplex().flow(p.energy, p.constants["drift"])
    sol = run(flow, p.initial, 20.0, DOP853(), TIGHT)
    return float(np.ptp(sol.u.prod(-1))), 0.0, 1e-11


@statement("replicator-euler", "explicit Euler leaves that conserved surface outwards")
def replicator_euler() -> Sides:
    p = problems.rock_paper_scissors()
    flow = Mirror.simplex().flow(p.energy, p.constants["drift"])
    product = run(flow, p.initial, 20.0, Euler(), 0.05).u.prod(-1)
    return float((np.diff(product) < 0).mean()), 1.0, 0.0


@statement(
    "dual-norms", "over norm <= e the linear model falls by e |g|_*, for five norms"
)
def dual_norms() -> Sides:
    g = np.array([3.0, -1.0, 0.5, 2.0])
    M = np.array([1.0, 2.0, 4.0, 0.5])
    chosen = [
        norms.l2(),
        norms.linf(),
        norms.l1(),
        norms.spectral(2, 2),
        norms.metric(M),
    ]
    falls = []
    for norm in chosen:
        cost = SteepestDescent(norm, unit_speed=True).cost
        v = cost.step(0.0 * g, g, 0.1)
        falls.append(float(linear_model(cost, 0.0 * g, v, g, 0.1)))
    dual = [
        np.sqrt(g @ g),
        np.abs(g).sum(),
        np.abs(g).max(),
        np.linalg.svd(g.reshape(2, 2), compute_uv=False).sum(),
        np.sqrt(g @ (g / M)),
    ]
    return falls, (-0.1 * np.array(dual)).tolist(), 1e-14


@statement("sign-extinction", "signs do not see curvature: |x_i| falls at speed 1")
def sign_extinction() -> Sides:
    flow = SteepestDescent(norms.linf(), unit_speed=True).flow(quadratic([1.0, 50.0]))
    u = run(flow, np.array([2.0, -1.0]), 0.75, Euler(), 0.05).u[-1]
    return u.tolist(), [1.25, -0.25], 1e-13


@statement(
    "spectral-extinction", "singular values fall at speed 1 in the spectral norm"
)
def spectral_extinction() -> Sides:
    p = problems.spectral_flow()
    flow = SteepestDescent(norms.spectral(3, 2), unit_speed=True).flow(p.energy)
    W = run(flow, p.exact(0.0), 0.5, Euler(), 0.05).u[-1]
    s0 = np.linalg.svd(p.exact(0.0), compute_uv=False)
    return np.linalg.svd(W, compute_uv=False).tolist(), (s0 - 0.5).tolist(), 1e-13


@statement("natural-gradient", "with the Hessian as metric all decays as e^-t")
def natural_gradient() -> Sides:
    A = np.array([[3.0, 1.0], [1.0, 2.0]])
    flow = SteepestDescent(norms.metric(A)).flow(quadratic(A))
    u = run(flow, np.array([1.0, -2.0]), 1.0, DOP853(), TIGHT).u[-1]
    return u.tolist(), [float(np.exp(-1.0)), float(-2 * np.exp(-1.0))], 1e-10


@statement("precision", "X' = X - XCX on positive matrices: X^-1 relaxes to C as e^-t")
def precision() -> Sides:
    p = problems.log_determinant()
    X = run(SPD(2).flow(p.energy), p.exact(0.0), 1.0, DOP853(), TIGHT).u[-1]
    return X.tolist(), p.exact(1.0).tolist(), 1e-10
