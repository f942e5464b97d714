"""Reports as one HTML file that needs no other: of a run, and of a comparison."""

from __future__ import annotations

from numabench.report.html.diff import diff_page
from numabench.report.html.run import run_page

__all__ = ["diff_page", "run_page"]
