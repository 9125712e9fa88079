"""Statistics, tables and figures. Reads records and trains nothing."""

from .summary import CellSummary, summarise, text_table

__all__ = ["CellSummary", "summarise", "text_table"]
