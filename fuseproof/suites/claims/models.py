"""Whole models with random parameters, inference and training steps: `claims-models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fuseproof.suites import Suite
from fuseproof.suites.claims import population
from fuseproof.workloads.builtin import MODULES
from fuseproof.workloads.models import keras_applications

ONLY = (
    *("torch.eager", "torch.compile", "torch.compile-padded"),
    *("keras.eager", "keras.function", "keras.xla", "keras.jit"),
)

# Of transformers, in PyTorch.
IN_TORCH = (
    *("bert", "distilbert", "gpt2", "llama", "qwen3", "mamba2", "t5"),
    *("vit", "swin", "convnext", "resnet", "whisper_encoder", "clip"),
)
# Those that the suite has in bfloat16 too; by --case there are all.
IN_BFLOAT16 = ("bert", "llama", "vit")
# Called with several lengths: recompilation and padding.
OF_LENGTHS = ("bert_lengths",)


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How many texts, images or sounds a call takes; inference also takes one."""

    inference: int
    training: int


BATCHES: Mapping[str, Batches] = {
    "cpu": Batches(inference=8, training=4),
    "gpu": Batches(inference=32, training=16),
}


def at_scale(scale: str) -> Suite:
    """The same models and passes at both scales; their sizes stand in the cases' names."""
    batches = BATCHES[scale]
    return population(
        "claims-models",
        "whole models (BERT, Llama, ViT, …), inference at batch 1 and larger, training steps",
        modules=(
            *_named(IN_TORCH, scale, "inference", batch=1),
            *_named(IN_TORCH, scale, "inference", batch=batches.inference),
            *_named(IN_TORCH, scale, "training_step", batch=batches.training),
            *_named(IN_BFLOAT16, scale, "inference", batch=batches.inference, bfloat16=True),
            *_named(OF_LENGTHS, scale, "inference", batch=1),
            *keras_applications.cases(scale),
        ),
        only=ONLY,
        scale=scale,
        palindromes=5,
    )


def _named(models: Iterable[str], scale: str, pass_: str, **fields: object) -> tuple[str, ...]:
    """The names of the cases of these models, at their shape for the scale, but with these fields."""
    shapes = (MODULES[name].from_label(scale) for name in models)
    return tuple(
        f"{shape.name}[{type(shape)(**{**shape.options, **fields}).label}-float32-{pass_}]"
        for shape in shapes
    )
