"""EvalResult and EvalRow read back from JSON, as `asdict` wrote them."""

from typing import Any

from tenbin.types import Estimate, EvalResult, EvalRow, MetricSummary, PointsPart


def row_from_json(raw: dict[str, Any]) -> EvalRow:
    """One row of a predictions file."""
    return EvalRow(**{**raw, "references": tuple(raw["references"])})


def evaluation_from_json(raw: dict[str, Any]) -> EvalResult:
    """An EvalResult as `asdict` wrote it."""
    metrics = tuple(MetricSummary(**{**m, "estimate": _estimate(m["estimate"])}) for m in raw["metrics"])
    points = tuple(PointsPart(**{**p, "estimate": _estimate(p["estimate"])}) for p in raw.get("points", ()))
    rows = tuple(row_from_json(r) for r in raw["rows"])
    return EvalResult(**{**raw, "metrics": metrics, "points": points, "rows": rows})


def _estimate(raw: Any) -> Estimate | None:  # noqa: ANN401  (JSON)
    return Estimate(*raw) if raw else None
