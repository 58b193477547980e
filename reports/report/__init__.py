"""Reports on runs: `summarise` makes plain data of runs, `render` writes it in the format a reader wants.

`summary` has the records, `summarise` fills them, `wording` puts them into sentences, `formats` lists the
formats: HTML, Markdown and JSON; `write` does all of it for a file.
"""

from fuseproof.reports.report.formats import FORMATS, format_of, render, write
from fuseproof.reports.report.summarise import summarise
from fuseproof.reports.report.summary import Summary

__all__ = ["FORMATS", "Summary", "format_of", "render", "summarise", "write"]
