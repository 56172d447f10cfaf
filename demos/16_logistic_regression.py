"""Logistic regression on a landscape, as a flow.

    dw/dt = -grad V(w),    V(w) = mean log(1 + exp(-y phi(x).w))

Each of 8686 cells of a map (a file that ships with matplotlib) is high ground, y = 1,
or low, y = -1; phi are the 21 products of Legendre polynomials of degree up to 5. V is
convex, so V(w(t)) - min V <= R^2/4t with R the distance to the minimizer (Brezis,
doi:10.1016/S0304-0208(08)X7125-7), and time regularizes: early borders are smooth.
"""

# %%
import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.polynomial.legendre import legvander
from scipy.special import expit

import flows as fl
from flows import plotting

DEGREE = 5


# %% Features (cells, 21) and signs (cells,) of the map
def load():
    with get_sample_data("jacksboro_fault_dem.npz") as data:
        z = data["elevation"][::-4, ::4].astype(float)
    east, north = (legvander(np.linspace(-1, 1, n), DEGREE) for n in z.shape[::-1])
    pairs = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    phi = np.stack([np.outer(north[:, j], east[:, i]).ravel() for i, j in pairs], 1)
    return z, phi, np.where(z > np.median(z), 1.0, -1.0).ravel()


def logistic(phi, y):
    """The mean loss of one weight vector w (21,), with exact derivatives."""
    signed = y[:, None] * phi

    def hessian(w):
        p = expit(signed @ w)
        return phi.T @ ((p * (1 - p) / len(y))[:, None] * phi)

    return fl.Potential(
        lambda w: np.logaddexp(0.0, -(signed @ w)).mean(),
        gradient=lambda w: -(expit(-(signed @ w)) @ signed) / len(y),
        hessian=hessian,
    )


# %%
def main(plot=True, out="figures"):
    z, phi, y = load()
    flow, start = fl.Euclidean().flow(logistic(phi, y)), np.zeros(phi.shape[1])
    t = np.concatenate([[0.0], np.geomspace(0.1, 1e4, 41)])
    sol = fl.solve(
        flow, start, (0, t[-1]), fl.BDF(), dt=fl.Adaptive(rtol=1e-3), save_at=t
    )
    best, _ = flow.prox(0.0, sol.u[-1], 1e12, ())
    found = fl.theory.rates(sol, minimizer=best, convexity=0.0)

    if plot:
        draw(z, phi, y, sol, found.bounds[0], out)
    if not found:
        raise AssertionError(f"A bound for convex V is broken:\n{found}")
    ratio = found.bounds[0].tightness
    return {"error": ratio, "tolerance": 1.0, "what": "max (V - min V) 4t/R^2"}


def draw(z, phi, y, sol, law, out):
    """The borders at four times, and the loss under its bound."""
    titles = "borders of high ground", "loss above its minimum"
    a, b = axes = plotting.new_axes(2, titles=titles)
    a.imshow(z, cmap="Greys_r", origin="lower", aspect="equal", alpha=0.7)
    times = (0.1, 10.0, 100.0, 1e4)
    for color, time in zip(list(plotting.COLORS.values())[:4], times, strict=True):
        w = sol.u[int(np.argmin(np.abs(sol.t - time)))]
        a.contour((phi @ w).reshape(z.shape), levels=[0.0], colors=color, linewidths=2)
        right = f"{time:g}, {np.mean(np.sign(phi @ w) == y):.1%}"
        a.plot([], [], color=color, label=right)
    a.set(xticks=[], yticks=[])
    plotting.legend(a, below=True, columns=2, title="time, cells on the right side")
    b.loglog(sol.t[1:], law.curve[1:], label=r"flow")
    b.loglog(sol.t[1:], law.bound[1:], "--", label="bound $R^2/4t$")
    b.set(xlabel="time $t$", ylabel=r"$V(w(t)) - \min V$")
    plotting.legend(b)
    plotting.save(axes, "16_logistic_regression.png", out)


if __name__ == "__main__":
    print(main())
