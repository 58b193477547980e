"""Offline HTML pages of timelines, captures and schedules, and the viewer's script in them."""
