"""The chapters of the report: every function returns (computed, theory, tolerance)."""
