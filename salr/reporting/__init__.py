"""Statistics, tables and figures. Reads records and trains nothing."""

from salr.reporting.published import Published
from salr.reporting.summary import CellSummary, summarise, text_table

__all__ = ["CellSummary", "Published", "summarise", "text_table"]
