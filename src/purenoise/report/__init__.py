"""Finished runs as one page: what was compared, what came out, and how sure that is.

A page is one HTML file without scripts from elsewhere, pictures from elsewhere or fonts from
elsewhere; beside it lie the same tables as Markdown, and all numbers as CSV.
"""

from __future__ import annotations

from purenoise.report.write import report_runs, write_report

__all__ = ["report_runs", "write_report"]
