"""SavedModel: loaded and called by its signature, as TensorFlow Serving does. Its results are new tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from fuseproof.frameworks import Bound
from fuseproof.frameworks.runtimes.in_tensorflow import Bind, signature_call

BOUND_RESULTS = False


def export(saved: Path, folder: Path) -> Path:
    """The SavedModel itself."""
    return saved


def load(file: Path, results: tuple[Any, ...]) -> Bind:
    model = tf.saved_model.load(str(file))
    signature = model.signatures["serving_default"]

    def bind(tensors: tuple[Any, ...]) -> Bound:
        call = signature_call(signature, tensors)
        call.model = model  # type: ignore[attr-defined]  # a signature alone lets its variables go
        return call

    return bind
