"""Populations that claims speak of. Each makes its suite for a scale: `at_scale`."""
