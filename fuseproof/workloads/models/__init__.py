"""Whole models, whose parameters their own library makes: what `claims-models` measures."""

from __future__ import annotations

from collections.abc import Mapping

from fuseproof.workloads.models.keras_applications import KERAS_APPLICATIONS
from fuseproof.workloads.modules import Module

MODELS: Mapping[str, type[Module]] = {each.name: each for each in KERAS_APPLICATIONS}
