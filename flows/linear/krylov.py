"""Krylov methods: one system of any shape, and batches with their own convergence.

In the methods for batches vectors are (n,) or (b, n), real or complex, NumPy or torch;
products act on all members at once, sums run over the last axis, and the memory is a
fixed number of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flows.arrays import array_like, dtype_name, namespace, to_numpy
from flows.linear.newton import NewtonFailure, NewtonResult
from flows.linear.operators import apply_complex, is_complex

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "conjugate_gradient",
    "definite",
    "dot",
    "general",
    "length",
    "orthogonal",
    "quotient",
    "refined",
    "symmetric",
]

Array = Any
RESTART = 40
RECALLED = 3
UNBROKEN = 200
MOST_PRODUCTS = 10_000
REFINEMENTS = 6


def conjugate_gradient(
    matvec: Callable[[Array], Array],
    b: Array,
    x0: Array | None = None,
    *,
    tol: float | None = None,
    max_iterations: int | None = None,
    preconditioner: Callable[[Array], Array] | None = None,
) -> NewtonResult:
    """Solve A x = b for a symmetric positive definite operator A.

    Parameters
    ----------
    matvec : callable
        x -> A x, for x of the shape of ``b`` (any shape).
    b : array
    x0 : array, optional
        First guess; zero by default.
    tol : float, optional
        Bound of |b - A x| / |b| in Euclidean norms: 1e-12 in float64, 1e-5 in float32.
    max_iterations : int, optional
        Ten times the number of unknowns by default.
    preconditioner : callable, optional
        r -> M r with M symmetric positive definite, near A^{-1}.

    Returns
    -------
    NewtonResult
        ``x``, ``iterations``, and ``residuals``: the norms |b - A x|.

    Raises
    ------
    NewtonFailure
        Without convergence, or when A or M is found not to be positive definite; with
        the residuals.

    References
    ----------
    M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear
    systems, J. Res. Nat. Bur. Standards 49 (1952), 409-436, doi:10.6028/jres.049.044.
    """
    xp = namespace(b)

    def dot(x: Array, y: Array) -> float:
        return float(xp.sum(x * y))

    tol = (1e-12 if dtype_name(b) == "float64" else 1e-5) if tol is None else tol
    target = tol * dot(b, b) ** 0.5
    x = xp.zeros_like(b) if x0 is None else x0
    r = b if x0 is None else b - matvec(x)
    limit = 10 * int(np.prod(b.shape)) if max_iterations is None else max_iterations
    residuals = [dot(r, r) ** 0.5]
    p, rho_old = xp.zeros_like(b), 1.0
    for iteration in range(limit + 1):
        if residuals[-1] <= target:
            return NewtonResult(x, iteration, residuals)
        if iteration == limit or not np.isfinite(residuals[-1]):
            break
        z = r if preconditioner is None else preconditioner(r)
        rho = dot(r, z)
        p = z + (rho / rho_old) * p
        Ap = matvec(p)
        curvature = dot(p, Ap)
        if not (rho > 0.0 and curvature > 0.0):
            raise NewtonFailure(
                f"conjugate gradients met p.Ap = {curvature:.3g} and r.Mr = {rho:.3g}: "
                "the matrix and the preconditioner must be positive definite",
                residuals,
            )
        x = x + (rho / curvature) * p
        r = r - (rho / curvature) * Ap
        rho_old = rho
        residuals.append(dot(r, r) ** 0.5)
    raise NewtonFailure(
        f"conjugate gradients did not converge in {len(residuals) - 1} iterations: "
        f"residual {residuals[-1]:.3g}, target {target:.3g}",
        residuals,
    )


def dot(x: Array, y: Array) -> Array:
    """Inner products (.., 1), conjugate linear in x."""
    return namespace(x).sum(conj(x) * y, axis=-1, keepdims=True)


def conj(x: Array) -> Array:
    """Complex conjugate, of real arrays as well."""
    return namespace(x).conj(x) if is_complex(x) else x


def length(x: Array) -> Array:
    """Euclidean lengths (.., 1), real, without overflow."""
    xp = namespace(x)
    size = xp.abs(x)
    top = xp.max(size, axis=-1, keepdims=True)
    safe = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
    return safe * xp.sqrt(xp.sum((size / safe) ** 2, axis=-1, keepdims=True))


def quotient(a: Array, b: Array) -> Array:
    """a / b for a real b, and 0 where b is 0 or less than a normal number."""
    xp = namespace(b)
    none = xp.abs(b) < np.finfo(dtype_name(b)).tiny
    # Not a / b: torch makes b complex with a, and then inf is no way to 0.
    return a * (1.0 / xp.where(none, xp.full_like(b, np.inf), b))


def refined(
    method: Callable[[Array, Array], tuple[Array, Array]],
    matvec: Callable[[Array], Array],
    b: Array,
    tol: float,
    accuracy: float = 0.0,
) -> Array:
    """Solve A x = b by a method that is repeated on its own residual.

    Parameters
    ----------
    method : callable
        (r, target) -> (d, size): d with |r - A d| at most ``target`` (.., 1) as far as
        its recurrences know, and an estimate (.., 1) of the norm of A.
    matvec : callable
        x -> A x.
    b : array (n,) or (b, n)
    tol : float
        Bound of |b - A x| / |b|, for each member. The rounding error of A x, from the
        norms of A and x, is good enough as well.
    accuracy : float
        Relative error of the products, where it is larger than rounding.

    Raises
    ------
    NewtonFailure
        Without convergence, with the relative residuals of the worst member.
    """
    xp = namespace(b)
    eps = max(float(np.finfo(dtype_name(b)).eps), accuracy)
    tol = max(tol, accuracy)
    scale = now = length(b)
    x, r = xp.zeros_like(b), b
    residuals = [1.0]
    for _ in range(REFINEMENTS):
        d, size = method(r, tol * scale)
        before, trial = now, x + d
        rest = b - matvec(trial)
        better = length(rest) < before
        x, r = xp.where(better, trial, x), xp.where(better, rest, r)
        now = length(r)
        residuals.append(float(np.max(to_numpy(quotient(now, scale)))))
        rounding = 8.0 * eps * (scale + size * length(x))
        done = now <= xp.maximum(tol * scale, rounding)
        if bool(xp.all(done)):
            return x
        if not np.isfinite(residuals[-1]) or bool(xp.all(done | (now > 0.9 * before))):
            break
    raise NewtonFailure(
        f"the Krylov method stopped at the relative residual {residuals[-1]:.3g}, "
        f"tolerance {tol:.3g}; a preconditioner or a smaller step helps",
        residuals,
    )


def limit(r: Array) -> int:
    """Most products of one attempt."""
    return min(10 * int(r.shape[-1]) + 20, MOST_PRODUCTS)


def pending(rest: Array, target: Array) -> Array | None:
    """Which members go on; None when all are done or one is not finite."""
    xp = namespace(rest)
    active = rest > target
    return active if bool(xp.all(xp.isfinite(rest)) & xp.any(active)) else None


def definite(
    matvec: Callable[[Array], Array],
    r: Array,
    target: Array,
    preconditioner: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array] | None:
    """Conjugate gradients for A d = r; None where A is met not to be positive.

    Returns d and an estimate of the norm of A; ``target`` (.., 1) bounds |r - A d|.
    """
    xp = namespace(r)
    d = p = xp.zeros_like(r)
    rho_old = xp.ones_like(target)
    size = xp.zeros_like(target)
    for _ in range(limit(r)):
        active = pending(length(r), target)
        if active is None:
            break
        z = r if preconditioner is None else preconditioner(r)
        rho = dot(r, z)
        p = z + quotient(rho, rho_old) * p
        Ap = matvec(p)
        curvature = dot(p, Ap)
        if bool(xp.any(active & ((curvature <= 0) | (rho <= 0)))):
            return None
        size = xp.maximum(size, quotient(length(Ap), length(p)))
        step = xp.where(active, quotient(rho, curvature), xp.zeros_like(rho))
        d, r, rho_old = d + step * p, r - step * Ap, rho
    return d, size


def symmetric(
    product: Callable[[Array], Array], c: Any, r: Array, target: Array
) -> tuple[Array, Array]:
    """Minimal residuals of (I - c J) d = r for a symmetric real J and any c.

    The Lanczos basis of J serves every c: in it I - c J is I - c T with T real and
    tridiagonal, whose least-squares problem is solved by rotations with two former
    directions. Returns d and an estimate of the norm of I - c J.

    References
    ----------
    C. C. Paige, M. A. Saunders, Solution of sparse indefinite systems of linear
    equations, SIAM J. Numer. Anal. 12 (1975) 617-629, doi:10.1137/0712047.
    R. W. Freund, Conjugate gradient-type methods for linear systems with complex
    symmetric coefficient matrices, SIAM J. Sci. Stat. Comput. 13 (1992) 425-448,
    doi:10.1137/0913023.
    """
    xp = namespace(r)
    beta = length(r)
    v, v_old = quotient(r, beta), xp.zeros_like(r)
    d = w = w_old = xp.zeros_like(r)
    zero = 0.0 * v[..., :1]
    cos = cos_old = 1.0 + zero
    sin = sin_old = zero
    rest, link, size = beta + zero, 0.0 * beta, xp.zeros_like(beta)
    for _ in range(limit(r)):
        active = pending(xp.abs(rest), target)
        if active is None:
            break
        Jv = apply_complex(product, v)
        size = xp.maximum(size, 1.0 + xp.abs(c * length(Jv)))
        alpha = dot(v, Jv)
        alpha = xp.real(alpha) if is_complex(alpha) else alpha
        v_next = Jv - alpha * v - link * v_old
        link_next = length(v_next)
        # The column of I - c T, after the two former rotations and then its own.
        above, diagonal, below = -c * link, 1.0 - c * alpha, zero - c * link_next
        top, middle = sin_old * above, cos_old * above
        middle, last = (
            cos * middle + sin * diagonal,
            cos * diagonal - conj(sin) * middle,
        )
        radius = xp.sqrt(xp.abs(last) ** 2 + xp.abs(below) ** 2)
        phase = xp.where(last == 0, 1.0 + zero, quotient(last, xp.abs(last)))
        cos_old, sin_old = cos, sin
        cos = quotient(xp.abs(last), radius) + zero
        sin = quotient(phase * conj(below), radius)
        direction = v - top * w_old - middle * w
        w, w_old = quotient(conj(phase) * direction, radius), w
        d = d + xp.where(active, cos * rest, zero) * w
        rest = xp.where(active, -conj(sin) * rest, rest)
        v_old, v, link = v, quotient(v_next, link_next), link_next
    return d, size


def general(
    matvec: Callable[[Array], Array],
    r: Array,
    target: Array,
    preconditioner: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    """Restarted GMRES for A d = r, preconditioned from the right.

    The moves of the last cycles take part in the next ones (LGMRES), which would else
    repeat them. Returns d and an estimate of the norm of A.

    References
    ----------
    Y. Saad, M. H. Schultz, GMRES: a generalized minimal residual algorithm for solving
    nonsymmetric linear systems, SIAM J. Sci. Stat. Comput. 7 (1986) 856-869,
    doi:10.1137/0907058.
    A. H. Baker, E. R. Jessup, T. Manteuffel, A technique for accelerating the
    convergence of restarted GMRES, SIAM J. Matrix Anal. Appl. 26 (2005) 962-984,
    doi:10.1137/S0895479803422014.
    """
    xp = namespace(r)
    d, size, now = xp.zeros_like(r), xp.zeros_like(target), length(r)
    moves: list[Array] = []
    for _ in range(max(1, limit(r) // RESTART)):
        if pending(now, target) is None:
            break
        move, seen = cycle(matvec, r, target, preconditioner, moves)
        moves = [quotient(move, length(move)), *moves][:RECALLED]
        size, d, r = xp.maximum(size, seen), d + move, r - matvec(move)
        before, now = now, length(r)
        if bool(xp.all((now <= target) | (now > 0.999 * before))):
            break
    return d, size


def cycle(
    matvec: Callable[[Array], Array],
    r: Array,
    target: Array,
    preconditioner: Callable[[Array], Array] | None,
    moves: list[Array],
) -> tuple[Array, Array]:
    """One cycle of GMRES: the best move in a Krylov space, and the size of A."""
    xp = namespace(r)
    beta = length(r)
    lead, n = tuple(r.shape[:-1]), int(r.shape[-1])
    # Restarts may stall; small systems are spared them.
    most = max(RESTART, n) if n <= UNBROKEN else RESTART
    # Pages that are not written to take no memory.
    basis = xp.empty((*lead, most + 1, n), dtype=r.dtype, device=r.device)
    basis[..., 0, :] = quotient(r, beta)
    images: list[Array] = []
    size = xp.zeros_like(beta)
    kind = np.complex128 if is_complex(r) else np.float64
    H = np.zeros((*lead, most + 1, most), dtype=kind)
    goal = to_numpy(target)[..., 0]
    right = np.zeros((*lead, most + 1), dtype=kind)
    right[..., 0] = to_numpy(beta)[..., 0]
    turns: list[tuple[np.ndarray, np.ndarray]] = []
    for k in range(most):
        if k >= most - len(moves):
            z = moves[k - most]
        else:
            z = basis[..., k, :]
            z = z if preconditioner is None else preconditioner(z)
        v = matvec(z)
        size = xp.maximum(size, quotient(length(v), length(z)))
        images.append(z)
        v, parts = orthogonal(basis[..., : k + 1, :], v)
        link = length(v)
        H[..., : k + 1, k] = to_numpy(parts)
        H[..., k + 1, k] = to_numpy(link)[..., 0]
        basis[..., k + 1, :] = quotient(v, link)
        rotate(H, right, turns, k)
        rest = np.abs(right[..., k + 1])
        if not np.isfinite(rest).all() or np.all(rest <= goal):
            break
    m = len(images)
    upper, diagonal = H[..., :m, :m], np.arange(m)
    # A member that ended early has empty columns.
    empty = upper[..., diagonal, diagonal] == 0
    upper[..., diagonal, diagonal] += empty
    weights = np.linalg.solve(upper, right[..., :m, None])
    move = xp.zeros_like(r)
    for i, z in enumerate(images):
        move = move + array_like(weights[..., i, :], r) * z
    return move, size


def orthogonal(basis: Array, v: Array) -> tuple[Array, Array]:
    """v without its parts in an orthonormal ``basis`` (.., k, n), and the parts.

    Gram-Schmidt twice keeps a basis orthogonal to rounding.
    """
    xp = namespace(v)
    parts: Any = 0.0
    for _ in range(2):
        now = conj(xp.matmul(basis, conj(v)[..., None]))
        v = v - xp.matmul(xp.matrix_transpose(basis), now)[..., 0]
        parts = parts + now[..., 0]
    return v, parts


def rotate(
    H: np.ndarray,
    right: np.ndarray,
    turns: list[tuple[np.ndarray, np.ndarray]],
    k: int,
) -> None:
    """Column k of the Hessenberg matrix made upper triangular, in place."""
    for i, (cos, sin) in enumerate(turns):
        a, b = H[..., i, k].copy(), H[..., i + 1, k].copy()
        H[..., i, k] = cos * a + sin * b
        H[..., i + 1, k] = cos * b - np.conj(sin) * a
    a, b = H[..., k, k].copy(), H[..., k + 1, k].real.copy()
    radius = np.hypot(np.abs(a), b)
    safe = np.where(radius == 0, 1.0, radius)
    size = np.where(a == 0, 1.0, np.abs(a))
    phase = np.where(a == 0, 1.0, a / size)
    cos = np.where(radius == 0, 1.0, np.abs(a) / safe)
    sin = phase * b / safe
    H[..., k, k], H[..., k + 1, k] = phase * radius, 0.0
    first = right[..., k].copy()
    right[..., k], right[..., k + 1] = cos * first, -np.conj(sin) * first
    turns.append((cos, sin))
