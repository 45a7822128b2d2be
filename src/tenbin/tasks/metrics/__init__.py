"""METRICS: every metric tenbin knows, by id. One id is one definition for ever."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from tenbin.errors import ConfigError, Problem
from tenbin.tasks.base import Metric
from tenbin.tasks.metrics.answers import answer_metrics
from tenbin.tasks.metrics.bleu import bleu_metrics
from tenbin.tasks.metrics.classification import (
    ResampleTable,
    category_metrics,
    first_word,
    resample_table,
    resample_tables,
)
from tenbin.tasks.metrics.rouge import rouge_metrics

METRICS: Mapping[str, Metric] = MappingProxyType(
    {m.id: m for m in (*answer_metrics(), *category_metrics(), *rouge_metrics(), *bleu_metrics())}
)


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A line of `tenbin metrics list`."""

    id: str
    name: str
    definition: str
    """With tokenizer and dictionary, and the versions that are installed."""


def list_metrics() -> tuple[MetricRow, ...]:
    """Every metric, in the order of the registry. Loads no dictionary."""
    return tuple(MetricRow(m.id, m.name, m.definition) for m in METRICS.values())


def find_metric(metric_id: str, where: str = "metrics") -> Metric:
    """The metric of that id.

    Raises:
        ConfigError: if there is none, with the nearest ids.
    """
    if metric_id in METRICS:
        return METRICS[metric_id]
    near = get_close_matches(metric_id, METRICS, n=3)
    remedy = f"did you mean {', '.join(near)}?" if near else "`tenbin metrics list` shows them all"
    raise ConfigError(Problem(where=where, found=f"there is no metric {metric_id!r}", remedy=remedy))


__all__ = [
    "METRICS",
    "MetricRow",
    "ResampleTable",
    "find_metric",
    "first_word",
    "list_metrics",
    "resample_table",
    "resample_tables",
]
