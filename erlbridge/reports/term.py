"""A report as it stands in results and answers. Knows the shape; drawing and writing are its neighbours'."""

from __future__ import annotations

from erlbridge.reports.charts import charts
from erlbridge.reports.page import page
from erlbridge.reports.record import Record
from erlbridge.reports.vega import spec
from erlbridge.wire.vocabulary import atom_keys


def report_term(record: Record, program_id: str) -> dict[object, object]:
    """`%{html: …, charts: %{score: …}}`: one file, and Vega-Lite specifications by name."""
    drawn = {chart.key: spec(chart) for chart in charts(record)}
    return atom_keys({"html": page(record, program_id), "charts": atom_keys(drawn)})
