"""The timeline: one model that readers fill and that analysis, pages and writers read."""
