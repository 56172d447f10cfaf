"""Optimal transport: Wasserstein distances."""

from __future__ import annotations

from flows.transport.wasserstein import wasserstein

__all__ = ["wasserstein"]
