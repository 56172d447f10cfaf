"""Fisher metrics of categorical laws and of models written in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flows.arrays import array_like, dtype_name, import_torch, is_torch, namespace
from flows.linear import NewtonFailure, conjugate_gradient
from flows.spaces.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FisherCategorical",
    "FisherModel",
    "FisherSoftmax",
    "ModuleOutputs",
    "fisher_classification",
    "fisher_empirical",
    "fisher_regression",
]

Array = Any


@dataclass(frozen=True)
class FisherSoftmax(Metric):
    """Fisher metric of the law p = softmax(z) in its logits z (.., n).

    F = diag(p) - p p^T vanishes along (1, .., 1), which leaves p as it is. ``solve`` is
    the pseudo-inverse: the mean of the logits stays what it is. Clocks: this is
    sum dp^2/p; texts that take sum dp^2/(4p) run four times as fast.

    Examples
    --------
    >>> import flows as fl
    >>> fl.metrics.fisher_softmax().apply(np.zeros(2), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """

    constant: ClassVar[bool] = False

    def apply(self, x: Array, v: Array) -> Array:
        p = softmax(x)
        return p * (v - namespace(v).sum(p * v, axis=-1, keepdims=True))

    def solve(self, x: Array, g: Array) -> Array:
        xp = namespace(g)
        v = (g - xp.mean(g, axis=-1, keepdims=True)) / softmax(x)
        return v - xp.mean(v, axis=-1, keepdims=True)

    def __repr__(self) -> str:
        return "fisher_softmax()"


def softmax(z: Array) -> Array:
    """Probabilities e^z / sum e^z over the last axis."""
    xp = namespace(z)
    weights = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


@dataclass(frozen=True)
class FisherCategorical(Metric):
    """Fisher metric sum v_i^2/p_i of a law p (.., n) in its probabilities.

    ``solve`` gives p (g - sum p g / sum p): a natural gradient keeps the sum of p. The
    entries must stay positive; ``fisher_softmax`` moves the same law in coordinates
    where they do.
    """

    constant: ClassVar[bool] = False

    def apply(self, x: Array, v: Array) -> Array:
        return v / x

    def solve(self, x: Array, g: Array) -> Array:
        xp = namespace(g)
        mean = xp.sum(x * g, axis=-1, keepdims=True)
        return x * (g - mean / xp.sum(x, axis=-1, keepdims=True))

    def __repr__(self) -> str:
        return "fisher_categorical()"


@dataclass(frozen=True, eq=False)
class FisherModel(Metric):
    """Fisher metric J^T H J / n + damping I of a model with n samples, matrix-free.

    J is the derivative of ``outputs`` by the parameters and H the Fisher matrix of one
    sample's law in its outputs, so that this is the Gauss-Newton matrix of its negative
    log-likelihood. Products are a forward and a backward pass of torch; ``solve`` uses
    conjugate gradients. Made by ``fisher_regression``, ``fisher_classification`` and
    ``fisher_empirical``.

    Parameters
    ----------
    outputs : callable
        parameters (p,), a tensor -> tensor (n, ...), one row a sample.
    curvature : callable
        (outputs, w) -> H w, of the shape of the outputs.
    damping : float
        At least 0. With more parameters than the data determine F is singular, and a
        positive damping is needed.
    tol : float
        Relative residual of ``solve``.
    """

    outputs: Callable[[Array], Array]
    curvature: Callable[[Array, Array], Array]
    damping: float = 0.0
    tol: float = 1e-10

    constant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not callable(self.outputs):
            raise TypeError(
                "The model must be a callable of the parameters (p,), got "
                f"{type(self.outputs).__name__}."
            )
        if hasattr(self.outputs, "named_parameters"):
            raise TypeError(
                "The model must be a function of the parameters (p,), got the module "
                f"{type(self.outputs).__name__}; give fl.metrics.outputs(module, "
                "inputs)."
            )
        for name, least in (("damping", 0.0), ("tol", 1e-15)):
            value = float(getattr(self, name))
            if not least <= value < np.inf:
                raise ValueError(f"`{name}` must be at least {least:g}, got {value:g}.")
            object.__setattr__(self, name, value)

    def apply(self, x: Array, v: Array) -> Array:
        return each(self._product, x, v)

    def solve(self, x: Array, g: Array) -> Array:
        """(F + damping I)^{-1} g.

        Raises
        ------
        NewtonFailure
            Where conjugate gradients do not converge: give a damping.
        """
        return each(self._solution, x, g)

    def _product(self, x: Array, v: Array) -> Array:
        torch = import_torch("The Fisher metric of a model")
        out, slope = torch.func.jvp(self._checked, (x,), (v,))
        _, back = torch.func.vjp(self._checked, x)
        (product,) = back(self.curvature(out, slope) / out.shape[0])
        # The model may hold tensors of its own that torch follows.
        return product.detach() + self.damping * v

    def _solution(self, x: Array, g: Array) -> Array:
        least = 1e-14 if dtype_name(g) == "float64" else 1e-6
        tol = max(self.tol, least)
        try:
            return conjugate_gradient(lambda v: self._product(x, v), g, tol=tol).x
        except NewtonFailure as failure:
            raise NewtonFailure(
                f"the system F v = g of the Fisher metric with damping={self.damping:g}"
                f" was not solved: {failure}; the data may not determine all "
                "parameters: give a (larger) `damping`",
                failure.residuals,
            ) from failure

    def _checked(self, x: Array) -> Array:
        out = self.outputs(x)
        if not is_torch(out) or out.ndim < 1:
            raise TypeError(
                "The model must return a tensor with one row a sample, got "
                f"{type(out).__name__}; write it with torch operations."
            )
        return out

    def __repr__(self) -> str:
        name = getattr(self.outputs, "__name__", "model")
        return f"FisherModel({name}, damping={self.damping:g})"


@dataclass(frozen=True, eq=False)
class ModuleOutputs:
    """Outputs of a torch module at all samples, as a function of its parameters.

    The parameters (p,) are one vector in the order of ``module.parameters()``; of (b,
    p) there are b outputs. The module itself is not changed.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : tensor
        What the module is called with; floating-point ones follow the parameters.

    Raises
    ------
    TypeError
        For other models and inputs.
    ValueError
        When called with a vector of another length.

    Examples
    --------
    >>> import torch, flows as fl
    >>> X, y = torch.randn(50, 3), torch.arange(50) % 2
    >>> outputs = fl.metrics.outputs(torch.nn.Linear(3, 2), X)
    >>> V = fl.Potential(lambda p: torch.nn.functional.cross_entropy(outputs(p), y))
    >>> natural = fl.Euclidean(metric=fl.metrics.fisher_classification(outputs, 1e-2))
    >>> sol = fl.solve(natural.flow(V), outputs.start, (0, 1), fl.Heun(), dt=0.1)
    """

    module: Any
    inputs: Any

    def __post_init__(self) -> None:
        torch = import_torch("A model")
        if not isinstance(self.module, torch.nn.Module):
            raise TypeError(
                f"`module` must be a torch.nn.Module, got {self.module!r}; any other "
                "function of the parameters is given as it is."
            )
        if not is_torch(self.inputs):
            raise TypeError(
                f"`inputs` must be a tensor, got {type(self.inputs).__name__}; give "
                "torch.as_tensor(inputs)."
            )

    @property
    def start(self) -> Array:
        """The module's parameters (p,), detached: a start for ``solve``."""
        return import_torch("A model").cat(
            [p.detach().reshape(-1) for p in self.module.parameters()]
        )

    def __call__(self, x: Array) -> Array:
        torch = import_torch("A model")
        if x.ndim > 1:
            return torch.stack([self(row) for row in x])
        shapes = {name: p.shape for name, p in self.module.named_parameters()}
        sizes = [shape.numel() for shape in shapes.values()]
        if tuple(x.shape) != (sum(sizes),):
            raise ValueError(
                f"The module has {sum(sizes)} parameters, got a vector of shape "
                f"{tuple(x.shape)}; start from `outputs.start`."
            )
        parts = zip(shapes, x.split(sizes), strict=True)
        named = {name: part.reshape(shapes[name]) for name, part in parts}
        inputs = self.inputs.to(x) if self.inputs.is_floating_point() else self.inputs
        return torch.func.functional_call(self.module, named, (inputs,))

    def __repr__(self) -> str:
        return f"outputs({type(self.module).__name__})"


def each(function: Callable[[Array, Array], Array], x: Array, v: Array) -> Array:
    """``function`` of every pair of vectors (.., p), computed in torch."""
    torch = import_torch("The Fisher metric of a model")
    if is_torch(x) and x.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            "The Fisher metric of a model is not differentiated itself: run without "
            "`adjoint`, or give the metric as a function x -> M(x)."
        )
    points, vectors = (
        a.detach() if is_torch(a) else torch.from_numpy(np.array(a)) for a in (x, v)
    )
    points, vectors = torch.broadcast_tensors(points, vectors)
    n = points.shape[-1]
    rows = zip(points.reshape(-1, n), vectors.reshape(-1, n), strict=True)
    found = torch.stack([function(a, b) for a, b in rows]).reshape(points.shape)
    return array_like(found if is_torch(v) else found.numpy(), v)


def fisher_regression(
    outputs: Callable[[Array], Array], std: float = 1.0, damping: float = 0.0
) -> FisherModel:
    """Fisher metric of a model whose targets are normal around its outputs.

    Parameters
    ----------
    outputs : callable
        parameters (p,), a tensor -> predictions (n,) or (n, k) of all samples.
    std : float
        Standard deviation of the targets; F is J^T J / (n std^2) + damping I.
    damping : float
    """
    if not 0.0 < float(std) < np.inf:
        raise ValueError(f"`std` must be positive, got {std!r}.")
    return FisherModel(outputs, Normal(float(std)), damping)


def fisher_classification(
    outputs: Callable[[Array], Array], damping: float = 0.0
) -> FisherModel:
    """Fisher metric of a model whose outputs are logits (n, k) of k classes.

    Over the model's own labels, not the data's: F = mean of J^T (diag p - p p^T) J.

    Parameters
    ----------
    outputs : callable
        parameters (p,), a tensor -> logits (n, k) of all samples.
    damping : float
    """
    return FisherModel(outputs, softmax_curvature, damping)


def fisher_empirical(
    log_likelihood: Callable[[Array], Array], damping: float = 0.0
) -> FisherModel:
    """Mean of the outer products of the samples' scores, at the data's own targets.

    It differs from the Fisher metric unless the model fits the data [1]_.

    Parameters
    ----------
    log_likelihood : callable
        parameters (p,), a tensor -> log-likelihoods (n,) of all samples, not their sum.
    damping : float

    References
    ----------
    .. [1] F. Kunstner, L. Balles, P. Hennig, Limitations of the empirical Fisher
       approximation for natural gradient descent, NeurIPS 2019, arXiv:1905.12558.
    """
    return FisherModel(log_likelihood, score_curvature, damping)


@dataclass(frozen=True)
class Normal:
    """H = I / std^2."""

    std: float

    def __call__(self, out: Array, w: Array) -> Array:
        return w / self.std**2


def softmax_curvature(out: Array, w: Array) -> Array:
    """(diag p - p p^T) w with p = softmax(out)."""
    if out.ndim != 2:
        raise ValueError(
            f"`outputs` returned shape {tuple(out.shape)}; logits are (n, k)."
        )
    return FisherSoftmax().apply(out, w)


def score_curvature(out: Array, w: Array) -> Array:
    """H = 1: the outputs are log-likelihoods."""
    if out.ndim != 1:
        raise ValueError(
            f"`log_likelihood` returned shape {tuple(out.shape)}; it must be (n,), one "
            "number a sample."
        )
    return w
