"""Densities on rectangular grids: finite volumes in one and two dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from flows.arrays import array_like, is_torch, namespace, to_numpy
from flows.energies import Energy, Entropy, Interaction, Internal, Potential
from flows.flow import Flow, Memory
from flows.linear import (
    CyclicTridiagonal,
    NewtonFailure,
    Tridiagonal,
    sparse_factor,
)
from flows.measures import Histogram, cell_masses
from flows.spaces.base import Space, check_device, refuse
from flows.spaces.grid_fluxes import Density, Flux, bernoulli, enthalpy_flux
from flows.symbolic import EntropyFunction
from flows.transport import wasserstein

__all__ = ["Grid"]

Array = Any
BOUNDARIES = ("no-flux", "periodic")
# Smaller shares of a measure inside the box are refused by ``project``.
INSIDE = 0.99
# Above this h |A| one solve loses more than about 5e-14 of mass and Gibbs state.
STIFF = 1e4


@dataclass(frozen=True, init=False)
class Grid(Space):
    """Cell averages of a density on a rectangular grid in one or two dimensions.

    Parameters
    ----------
    *axes : (low, high, n)
        Bounds and number of equal cells of each axis.
    boundary : "no-flux", "periodic", or a tuple with one of them for each axis
    device, dtype : str, optional

    Attributes
    ----------
    centers, edges : array, or tuple of arrays for two axes
    volume : float
        Volume of a cell.
    points : (n, 1) or (n1, n2, 2) array
        Centers as points.

    Notes
    -----
    States have shape (n,) or (n1, n2) and any positive mass, which every flow keeps.
    A potential on a periodic axis may jump across the wrap; the jump counts as a
    difference between the last and the first center.

    Examples
    --------
    >>> Grid((0, 1, 4)).centers
    array([0.125, 0.375, 0.625, 0.875])
    """

    axes: tuple[tuple[float, float, int], ...]
    boundary: tuple[str, ...]
    probed: ClassVar[int] = 0
    device: str | None
    dtype: str | None

    def __init__(
        self,
        *axes: tuple[float, float, int],
        boundary: str | tuple[str, ...] = "no-flux",
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if len(axes) not in (1, 2):
            raise ValueError(
                f"Grid takes one or two axes (low, high, n), got {len(axes)}; this "
                "version has grids in 1-D and 2-D."
            )
        names = (boundary,) * len(axes) if isinstance(boundary, str) else tuple(boundary)
        if len(names) != len(axes):
            raise ValueError(
                f"`boundary` has {len(names)} names for {len(axes)} axes; give one name "
                "or one for each axis."
            )
        for name in names:
            if name not in BOUNDARIES:
                raise ValueError(
                    f"`boundary` must be one of {', '.join(BOUNDARIES)}, got {name!r}."
                )
        check_device(device, dtype)
        checked = tuple(map(check_axis, axes, names))
        for key, value in (
            ("axes", checked),
            ("boundary", names),
            ("device", device),
            ("dtype", dtype),
        ):
            object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        parts = [f"({a:g}, {b:g}, {n})" for a, b, n in self.axes]
        if set(self.boundary) != {"no-flux"}:
            same = len(set(self.boundary)) == 1
            parts.append(f"boundary={self.boundary[0] if same else self.boundary!r}"
                         if not same else f"boundary={self.boundary[0]!r}")
        parts += [
            f"{name}={value!r}"
            for name, value in (("device", self.device), ("dtype", self.dtype))
            if value is not None
        ]
        return f"Grid({', '.join(parts)})"

    @property
    def d(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a state."""
        return tuple(n for _, _, n in self.axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Width of the cells along each axis."""
        return tuple((b - a) / n for a, b, n in self.axes)

    @property
    def volume(self) -> float:
        """Volume of a cell."""
        return math.prod(self.spacing)

    @property
    def edges(self) -> Any:
        """Cell boundaries (n + 1,), or a tuple of them."""
        edges = tuple(np.linspace(a, b, n + 1) for a, b, n in self.axes)
        return edges[0] if self.d == 1 else edges

    @property
    def centers(self) -> Any:
        """Cell centers (n,), or a tuple of them."""
        centers = tuple(
            a + (b - a) / n * (np.arange(n) + 0.5) for a, b, n in self.axes
        )
        return centers[0] if self.d == 1 else centers

    def points(self, u: Array) -> Array:
        """Cell centers as points (*shape, d), in the library of ``u``."""
        axes = (self.centers,) if self.d == 1 else self.centers
        return array_like(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), u)

    def shape_error(self, u: Array) -> str | None:
        if tuple(u.shape) != self.shape:
            return (
                f"`u0` has shape {tuple(u.shape)}; {self!r} takes the cell averages of a "
                f"density, shape {self.shape}."
            )
        x = to_numpy(u)
        if x.min() < 0:
            index = tuple(int(i) for i in np.unravel_index(x.argmin(), x.shape))
            return (
                f"`u0` is a density with the negative minimum {x.min():.4g} at index "
                f"{index}; it must be >= 0."
            )
        if x.max() <= 0:
            return "`u0` is a density without mass; it must be positive somewhere."
        return None

    def project(self, measure: Any, rng: Any = None) -> Array:
        """Exact cell averages of a measure, normalized to mass 1.

        Raises
        ------
        ValueError
            When less than 99 per cent of the measure is inside the box, or when its
            dimension is not that of the grid.
        """
        if measure.d != self.d:
            raise ValueError(
                f"{measure!r} is a measure on R^{measure.d}, {self!r} has {self.d} axes."
            )
        masses = np.asarray(cell_masses(measure, self.edges))
        total = float(masses.sum())
        if total < INSIDE:
            raise ValueError(
                f"{1 - total:.1%} of {measure!r} lies outside {self!r}; enlarge the box."
            )
        return self.create(masses / (total * self.volume))

    def measure(self, u: Array) -> Histogram:
        """The piecewise constant density, normalized; rounding below 0 counts as 0."""
        x = to_numpy(u).astype(float)
        if x.min() < -1e-3 * x.max():
            raise ValueError(f"The density has the negative minimum {x.min():.4g}.")
        return Histogram(self.edges, np.maximum(x, 0.0) * self.volume)

    def mass(self, u: Array) -> float:
        """Total mass."""
        return float(namespace(u).sum(u)) * self.volume

    def minimum(self, u: Array) -> float:
        """Smallest density."""
        return float(namespace(u).min(u))

    def l1(self, u: Array, v: Array) -> float:
        """int |u - v| dx."""
        xp = namespace(u)
        return float(xp.sum(xp.abs(u - v))) * self.volume

    def distance(self, u: Array, v: Array) -> float:
        """W2 between two densities of equal mass, in one dimension without wrap.

        Raises
        ------
        TypeError
            In two dimensions and on a circle; ``l1`` is defined there.
        """
        if self.d != 1 or self.boundary[0] == "periodic":
            raise TypeError(
                f"W2 between densities on {self!r} is not available; use `grid.l1(u, v)`."
            )
        return float(wasserstein(self.measure(u), self.measure(v)))

    def flow(
        self, energy: Energy, drift: Callable[[Array], Array] | None = None
    ) -> Flow:
        """d_t rho = div(rho grad(V + U'(rho)) + T grad rho - rho drift).

        Raises
        ------
        TypeError
            For an Interaction, and for a Potential alone without a drift being fine.
        """
        density: list[Any] = []
        temperature = 0.0
        for term in energy.terms:
            match term:
                case Potential():
                    pass
                case Entropy():
                    temperature += term.temperature
                case Internal(function=EntropyFunction() as function):
                    temperature += term.scale * function.coefficient
                case Internal():
                    density.append(term)
                case Interaction():
                    raise refuse(term, self)
                case _:
                    raise refuse(term, self)
        if temperature < 0:
            raise refuse(energy.terms[0], self, "the total temperature is negative")
        if drift is not None and not callable(drift):
            raise TypeError(f"`drift` must be callable(x), got {drift!r}.")
        kind = NonlinearFlow if density else LinearFlow
        return kind(self, energy, temperature, tuple(density), drift)


def check_axis(axis: Any, boundary: str) -> tuple[float, float, int]:
    """One axis (low, high, n)."""
    try:
        low, high, n = axis
        low, high = float(low), float(high)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"An axis of a Grid is (low, high, n), for instance (-8, 8, 400); got {axis!r}."
        ) from error
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise ValueError(f"The number of cells must be an integer, got {n!r}.")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"The axis ({low:g}, {high:g}, {n}) needs finite bounds with low < high."
        )
    least = 3 if boundary == "periodic" else 2
    if n < least:
        raise ValueError(
            f"The axis ({low:g}, {high:g}, {n}) needs at least {least} cells."
        )
    return low, high, int(n)


@dataclass(frozen=True, eq=False)
class GridFlow(Flow):
    """What linear and nonlinear flows on a grid share."""

    space: Grid = field()
    functional: Energy
    temperature: float = field(repr=False)
    internal: tuple[Any, ...] = field(repr=False)
    drift: Callable[[Array], Array] | None = field(repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @property
    def is_gradient(self) -> bool:  # type: ignore[override]
        """False with a drift."""
        return self.drift is None

    @cached_property
    def moving(self) -> bool:
        """Whether the potential depends on time."""
        return self.functional.depends_on_time

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Small cache of things recomputable from the key."""
        found = self._cache.get(key)
        if found is None:
            found = make()
            if len(self._cache) >= 16:
                self._cache.clear()
            self._cache[key] = found
        return found

    def potential(self, t: float, u: Array) -> Array:
        """V at the cell centers."""
        x = self.space.points(u)
        result = namespace(u).zeros_like(u)
        for term in self.functional.terms:
            if isinstance(term, Potential):
                result = result + term.value_at(x, t)
        return result

    def differences(self, t: float, axis: int) -> np.ndarray:
        """V(right) - V(left) - h b on the faces of an axis; NumPy float64."""
        key = ("differences", axis, t if self.moving else 0.0)
        return self.remember(key, lambda: self._differences(t, axis))  # type: ignore[no-any-return]

    def _differences(self, t: float, axis: int) -> np.ndarray:
        grid = self.space
        V = self.potential(t, np.zeros(grid.shape))
        a, b = sides(V, axis, self.periodic(axis))
        jump = b - a
        if self.drift is not None:
            h = grid.spacing[axis]
            x, _ = sides(grid.points(V), axis, self.periodic(axis))
            faces = x.copy()
            faces[..., axis] += 0.5 * h
            jump = jump - h * np.asarray(self.drift(faces))[..., axis]
        return np.asarray(jump)

    def periodic(self, axis: int) -> bool:
        """Whether an axis wraps around."""
        return self.space.boundary[axis] == "periodic"

    def energy(self, t: float, u: Array) -> float:
        """Sum over cells of V u + T u log u + U(u), times the volume; inf below 0."""
        xp = namespace(u)
        if float(xp.min(u)) < 0.0 and (self.temperature > 0 or self.internal):
            return math.inf
        total = self.remembered_potential(t, u) * u
        for term in self.functional.terms:
            if not isinstance(term, Potential):
                total = total + term.value_at(u)
        return float(xp.sum(total)) * self.space.volume

    def remembered_potential(self, t: float, u: Array) -> Array:
        """V at the centers, kept for the library, dtype and device of ``u``."""
        place = (str(u.dtype), str(getattr(u, "device", "")))
        key = ("V", place, t if self.moving else 0.0)
        return self.remember(key, lambda: self.potential(t, u))

    def variation(self, t: float, u: Array) -> Array:
        """V + T (log u + 1) + U'(u) at the cells."""
        total = self.remembered_potential(t, u)
        for term in self.functional.terms:
            if not isinstance(term, Potential):
                total = total + term.first_at(u)
        return total

    def matrix(self, h: float, coefficients: list[tuple[Array, Array]]) -> Any:
        """I + h A where the flux of each axis is J = left * a + right * b."""
        grid = self.space
        if grid.d == 1:
            return line_matrix(h, *coefficients[0], self.periodic(0))
        from scipy import sparse

        cells = np.arange(math.prod(grid.shape)).reshape(grid.shape)
        rows, columns, values = [cells.ravel()], [cells.ravel()], [np.ones(cells.size)]
        for axis, (left, right) in enumerate(coefficients):
            i, j = (s.ravel() for s in sides(cells, axis, self.periodic(axis)))
            a, b = h * left.ravel(), h * right.ravel()
            rows += [i, i, j, j]
            columns += [i, j, i, j]
            values += [a, b, -a, -b]
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csc_array(entries, shape=(cells.size, cells.size))


def factor(matrix: Any) -> Any:
    """Factors of a matrix from ``GridFlow.matrix``."""
    return matrix.factor() if hasattr(matrix, "factor") else sparse_factor(matrix)


def line_matrix(h: float, left: Array, right: Array, periodic: bool) -> Any:
    """Tridiagonal I + h A of a line; face i lies between the cells i and i + 1."""
    if periodic:
        diagonal = 1.0 + h * (left - np.roll(right, 1))
        return CyclicTridiagonal(-h * np.roll(left, 1), diagonal, h * right)
    diagonal = np.ones(len(left) + 1)
    diagonal[:-1] += h * left
    diagonal[1:] -= h * right
    return Tridiagonal(-h * left, diagonal, h * right)


def sides(u: Array, axis: int, periodic: bool) -> tuple[Array, Array]:
    """Values on the left and on the right of every face of an axis."""
    if periodic:
        return u, namespace(u).roll(u, -1, axis=axis)
    if axis == 0:
        return u[:-1], u[1:]
    return u[:, :-1], u[:, 1:]


def add_divergence(rate: Array, J: Array, axis: int, periodic: bool) -> None:
    """Subtract the divergence of a flux from ``rate`` in place."""
    if periodic:
        rate += namespace(J).roll(J, 1, axis=axis)
        rate -= J
    elif axis == 0:
        rate[:-1] -= J
        rate[1:] += J
    else:
        rate[:, :-1] -= J
        rate[:, 1:] += J


@dataclass(frozen=True, eq=False)
class LinearFlow(GridFlow):
    """Fokker-Planck: du/dt = -A u with the rates of Scharfetter and Gummel."""

    def rates(self, t: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rates to the right and to the left across the faces of each axis."""
        key = ("rates", t if self.moving else 0.0)
        return self.remember(key, lambda: self._rates(t))  # type: ignore[no-any-return]

    def _rates(self, t: float) -> list[tuple[np.ndarray, np.ndarray]]:
        T, result = self.temperature, []
        for axis, h in enumerate(self.space.spacing):
            jump = self.differences(t, axis)
            if T > 0:
                q = jump / T
                right, left = T * bernoulli(q), T * bernoulli(-q)
            else:
                right, left = np.maximum(-jump, 0.0), np.maximum(jump, 0.0)
            result.append((right / h**2, left / h**2))
        return result

    def velocity(self, t: float, u: Array) -> Array:
        """-A u."""
        rate = namespace(u).zeros_like(u)
        for axis, (right, left) in enumerate(self.placed(t, u)):
            a, b = sides(u, axis, self.periodic(axis))
            add_divergence(rate, right * a - left * b, axis, self.periodic(axis))
        return rate

    def placed(self, t: float, u: Array) -> list[tuple[Array, Array]]:
        """The rates where ``u`` lives."""
        if not is_torch(u) and u.dtype == np.float64:
            return self.rates(t)
        key = ("placed", str(u.dtype), str(getattr(u, "device", "")), t if self.moving else 0.0)
        return self.remember(  # type: ignore[no-any-return]
            key,
            lambda: [tuple(array_like(c, u) for c in pair) for pair in self.rates(t)],
        )

    def resolvent(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """(I + h A)^{-1} w: positive for w >= 0, and exact on the Gibbs state.

        Solved on the CPU; the factors are kept for the last steps h. A step of iterative
        refinement, where h is large, keeps mass and Gibbs state to rounding at every h.
        """
        solver, refine = self.remember(
            ("factor", h, t if self.moving else 0.0), lambda: self._factor(t, h)
        )
        right = to_numpy(w).astype(np.float64, copy=False)
        shape = right.shape
        v = solver.solve(right.ravel()).reshape(shape)
        if refine:
            rest = right - v + h * self.velocity(t, v)
            v = v + solver.solve(rest.ravel()).reshape(shape)
        result = v if not is_torch(w) and w.dtype == np.float64 else array_like(v, w)
        return result, (result,)

    def _factor(self, t: float, h: float) -> tuple[Any, bool]:
        """Factors of I + h A, and whether their rounding asks for a refinement."""
        coefficients = [(r, -s) for r, s in self.rates(t)]
        stiffness = h * float(diagonal_of(self, coefficients).max())
        return factor(self.matrix(h, coefficients)), stiffness > STIFF

    @property
    def generator(self) -> Callable[[], Any]:  # type: ignore[override]
        """The sparse matrix L of du/dt = L u; TypeError when V depends on time."""
        if self.moving:
            raise TypeError("The generator depends on time.")
        return self._generator

    def _generator(self) -> Any:
        return self.jacobian(0.0, np.zeros(self.space.shape)).tocsr()

    def jacobian(self, t: float, u: Array) -> Any:
        """-A as a sparse matrix of the flattened cells."""
        return jacobian(self, [(r, -s) for r, s in self.rates(t)])

    def stable_step(self, t: float, u: Array) -> float:
        """1 / largest diagonal entry of A, by Gershgorin's circles."""
        return stable_step(self, [(r, -s) for r, s in self.rates(t)])

    def gibbs(self, t: float = 0.0, mass: float = 1.0) -> np.ndarray:
        """The stationary state exp(-V/T) of the grid, with the given mass.

        Raises
        ------
        TypeError
            Without entropy, and with a drift.
        """
        if self.temperature <= 0.0 or self.drift is not None:
            raise TypeError("A Gibbs state needs a positive temperature and no drift.")
        V = self.potential(t, np.zeros(self.space.shape))
        rho = np.exp(-(V - V.min()) / self.temperature)
        return np.asarray(rho * (mass / self.space.mass(rho)))

    def default(self) -> tuple[str, None]:
        """TR-BDF2 with adaptive steps."""
        return "TRBDF2", None


def diagonal_of(flow: GridFlow, coefficients: list[tuple[Array, Array]]) -> np.ndarray:
    """Diagonal of A: what leaves every cell."""
    out = np.zeros(flow.space.shape)
    for axis, (left, right) in enumerate(coefficients):
        periodic = flow.periodic(axis)
        if periodic:
            out += left - np.roll(right, 1, axis=axis)
        elif axis == 0:
            out[:-1] += left
            out[1:] -= right
        else:
            out[:, :-1] += left
            out[:, 1:] -= right
    return out


def stable_step(flow: GridFlow, coefficients: list[tuple[Array, Array]]) -> float:
    """2 / (Gershgorin's bound of the largest eigenvalue of A)."""
    largest = float(diagonal_of(flow, coefficients).max())
    return 1.0 / largest if largest > 0.0 else math.inf


def jacobian(flow: GridFlow, coefficients: list[tuple[Array, Array]]) -> Any:
    """-A as a sparse matrix."""
    from scipy import sparse

    shifted = flow.matrix(1.0, coefficients)
    if hasattr(shifted, "dense"):
        n = flow.space.shape[0]
        if flow.periodic(0):
            i = np.arange(n)
            entries = np.concatenate([shifted.lower, shifted.diagonal, shifted.upper])
            where = (np.tile(i, 3), np.concatenate([(i - 1) % n, i, (i + 1) % n]))
            shifted = sparse.csc_array((entries, where), shape=(n, n))
        else:
            parts = [shifted.lower, shifted.diagonal, shifted.upper]
            shifted = sparse.diags_array(parts, offsets=[-1, 0, 1])
    return (sparse.eye_array(math.prod(flow.space.shape)) - shifted).tocsc()


@dataclass(frozen=True, eq=False)
class NonlinearFlow(GridFlow):
    """d_t rho = div(rho grad(V + U'(rho))) + T Lap rho by the generalized flux."""

    @cached_property
    def density(self) -> Density:
        """The sum of the internal terms."""
        return Density(self.internal)

    def velocity(self, t: float, u: Array) -> Array:
        """Minus the divergence of the flux."""
        rate = namespace(u).zeros_like(u)
        for axis, h in enumerate(self.space.spacing):
            a, b = sides(u, axis, self.periodic(axis))
            jump = self.differences(t, axis)
            if is_torch(u) or u.dtype != np.float64:
                jump = array_like(jump, u)
            with np.errstate(all="ignore"):
                J = enthalpy_flux(self.density, self.temperature, jump, a, b) / h**2
            add_divergence(rate, J, axis, self.periodic(axis))
        return rate

    def linearize(
        self, t: float, u: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Velocity and the derivatives of the fluxes of each axis."""
        rate, coefficients = np.zeros_like(u), []
        for axis, h in enumerate(self.space.spacing):
            a, b = sides(u, axis, self.periodic(axis))
            flux = Flux(self.density, self.temperature, self.differences(t, axis), a, b)
            add_divergence(rate, flux.J / h**2, axis, self.periodic(axis))
            coefficients.append((flux.a / h**2, flux.b / h**2))
        return rate, coefficients

    def jacobian(self, t: float, u: Array) -> Any:
        """Derivative of the velocity as a sparse matrix of the flattened cells."""
        _, coefficients = self.linearize(t, to_numpy(u).astype(np.float64))
        return jacobian(self, coefficients)

    def stable_step(self, t: float, u: Array) -> float:
        """The bound of the linearized flow at ``u``."""
        _, coefficients = self.linearize(t, to_numpy(u).astype(np.float64))
        return stable_step(self, coefficients)

    def resolvent(
        self, t: float, w: Array, h: float, memory: Memory
    ) -> tuple[Array, Memory]:
        """v with v - h velocity(t, v) = w, by damped Newton steps that keep v positive.

        On the CPU. The damping does not let a cell fall below a tenth of its value in
        one iteration.

        Raises
        ------
        NewtonFailure
            When the residual does not fall to rounding; with its history.
        """
        right = to_numpy(w).astype(np.float64, copy=False)
        start = to_numpy(memory[0] if memory else w).astype(np.float64)
        v = self._newton(t, right, h, np.maximum(start, 0.0))
        result = v if not is_torch(w) and w.dtype == np.float64 else array_like(v, w)
        return result, (result,)

    def _newton(
        self, t: float, w: np.ndarray, h: float, v: np.ndarray
    ) -> np.ndarray:
        scale = float(np.abs(w).sum())
        rate, coefficients = self.linearize(t, v)
        rest = v - h * rate - w
        history = [float(np.abs(rest).sum()) / scale]
        for _ in range(MOST_ITERATIONS):
            solver = factor(self.matrix(h, coefficients))
            step = -solver.solve(rest.ravel()).reshape(v.shape)
            part, best = 1.0, math.inf
            while True:
                trial = np.maximum(v + part * step, 0.1 * v)
                rate, coefficients = self.linearize(t, trial)
                rest = trial - h * rate - w
                best = float(np.abs(rest).sum()) / scale
                if best < (1 - 1e-4 * part) * history[-1] or part < 1e-3:
                    break
                part *= 0.5
            moved = float(np.abs(trial - v).sum()) / scale
            v = trial
            history.append(best)
            if not math.isfinite(best):
                raise NewtonFailure("the flux is not finite", history)
            if best <= 1e-14 or (moved <= 1e-13 and best <= ACCEPTED):
                return v
            stalled = len(history) > 4 and best > 0.5 * history[-4]
            if stalled and best <= ACCEPTED and moved <= 1e-9:
                return v
        raise NewtonFailure("Newton's method did not converge", history)

    def default(self) -> tuple[str, None]:
        """TR-BDF2 with adaptive steps."""
        return "TRBDF2", None


MOST_ITERATIONS = 200
# Residual over the mass, at which a stalled iteration counts as solved: rounding of
# fluxes that are larger than the density by h/dx^2.
ACCEPTED = 1e-9
