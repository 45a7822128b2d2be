"""Part: a section of the report of its own, with its notes, tables and charts; shown where there is one."""

from dataclasses import dataclass

from tenbin.report.charts import Chart
from tenbin.report.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One section between the curves and the data."""

    id: str
    """Letters and dashes; names the place in the page."""
    title: str
    notes: tuple[str, ...] = ()
    """What a reader must know before the figures."""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
