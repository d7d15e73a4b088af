"""The report of a run: one HTML file that opens from a disk, and the same figures as JSON."""

from strop_job.report.run import RunReport
from strop_job.report.write import HTML_FILE, JSON_FILE, tells_the_same, write_report

__all__ = ["HTML_FILE", "JSON_FILE", "RunReport", "tells_the_same", "write_report"]
