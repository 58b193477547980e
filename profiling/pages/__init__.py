"""Timelines as offline HTML pages and as Perfetto traces."""
