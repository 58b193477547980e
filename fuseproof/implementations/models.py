"""The rows of whole models: a target makes the module, and rows of a model differ in the compiler alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from fuseproof.implementations.implementation import Implementation
from fuseproof.implementations.rows import runtime_rows

_MODELS = "fuseproof.fusion.models."
# Modules of `fusion/models` by the models that they make, each a function of the model's name.
_MADE_IN = {
    "torch.small_gpt": ("small_gpt",),
    "transformers.text": ("bert", "distilbert", "gpt2", "llama", "qwen3", "mamba2", "t5"),
    "transformers.images": ("vit", "swin", "convnext", "resnet"),
    "transformers.audio": ("whisper_encoder",),
    "transformers.clip": ("clip",),
}

_row = partial(Implementation, framework="torch", dtypes=("float32",))


def of_models() -> Iterable[Implementation]:
    """PyTorch's models, as they are, compiled with one line, and exported to each runtime."""
    for module, models in _MADE_IN.items():
        for model in models:
            target = f"{_MODELS}{module}:{model}"
            yield _row(model, "torch.eager", target=target)
            yield _row(model, "torch.compile", target=target, compiled="default")
            yield from runtime_rows(model, "torch", target)
    lengths = f"{_MODELS}transformers.lengths:"
    yield _row("bert_lengths", "torch.eager", target=f"{lengths}eager")
    # They compile the model, not what goes through the lengths.
    yield _row("bert_lengths", "torch.compile", target=f"{lengths}compiled", compiled="kernel")
    yield _row("bert_lengths", "torch.compile-padded", target=f"{lengths}compiled_padded", compiled="kernel")
