"""Formats that timelines are written to for other tools."""
