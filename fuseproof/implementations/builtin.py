"""The table of the implementations that come with Fuseproof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from fuseproof.implementations.implementation import DTYPES, HALF, IEEE, PRODUCTS, Implementation

# Modes of torch.compile by what they add to `torch.compile` in a row's name.
_TORCH_MODES: Mapping[str, str] = {
    "": "default",
    "-dynamic": "default+dynamic",
    "-reduce-overhead": "reduce-overhead",
    "-max-autotune": "max-autotune",
    "-max-autotune-no-cudagraphs": "max-autotune-no-cudagraphs",
}


@dataclass(frozen=True, kw_only=True)
class _Variants:
    """What differs between operators in the rows we give each of them.

    library_layout: the order of axes that jax.nn's and Keras's own call wants.
    donated:        the input whose memory a result can take.
    overwritten:    the inputs that the code in place writes over.
    composed_apart: False where JAX and TensorFlow have no library call, so the composed code is the usual.
    """

    operator: str
    library_layout: str = "bhsd"
    donated: str = "x"
    overwritten: tuple[str, ...] = ()
    composed_apart: bool = True
    kernels: tuple[str, ...] = ("pallas", "triton")
    triton: str = ""  # the target of the Triton kernel where it is not the kernel's own function
    triton_dtypes: tuple[str, ...] = IEEE
    # Of the library calls: a compiler adds nothing to PyTorch's one call for 8-bit products, and TensorFlow
    # has no such product.
    library_dtypes: tuple[str, ...] = DTYPES


_VARIANTS = (
    _Variants(operator="attention", library_layout="bshd", donated="q"),
    _Variants(
        operator="matmul",
        donated="a",
        triton="fuseproof.fusion.ops.triton:matmul",
        triton_dtypes=PRODUCTS,
        library_dtypes=PRODUCTS,
    ),
    _Variants(operator="layer_norm", overwritten=("x",)),
    _Variants(operator="rms_norm", overwritten=("x",), composed_apart=False, kernels=("triton",)),
)


_gpu = partial(Implementation, framework="torch", devices=("cuda",))
_peer = partial(_gpu, compiled="kernel", dtypes=IEEE)
_PEERS_MODULE = "fuseproof.fusion.ops.peers"

# PyTorch's own attention by backend, and what a user would take from a package instead of our kernels.
# fmt: off
PEERS = (
    _gpu("attention", "torch.sdpa-cudnn", target=f"{_PEERS_MODULE}:attention_cudnn", dtypes=HALF),
    _gpu("attention", "torch.sdpa-flash", target=f"{_PEERS_MODULE}:attention_flash", dtypes=HALF),
    _gpu("attention", "torch.sdpa-efficient", target=f"{_PEERS_MODULE}:attention_efficient"),
    _peer("attention", "flash-attn", target=f"{_PEERS_MODULE}:attention_flash_attn", layout="bshd",
          dtypes=HALF, requires="flash_attn"),
    _peer("attention", "xformers", target=f"{_PEERS_MODULE}:attention_xformers", layout="bshd",
          requires="xformers"),
    _peer("layer_norm", "liger", target=f"{_PEERS_MODULE}:layer_norm_liger", requires="liger_kernel"),
    _peer("layer_norm", "quack", target=f"{_PEERS_MODULE}:layer_norm_quack", requires="quack",
          passes=("forward",), dtypes=("float32",)),  # its weights are float32
    _peer("layer_norm", "helion", target="fuseproof.fusion.ops.helion:layer_norm", requires="helion",
          passes=("forward",)),
    _peer("rms_norm", "helion", target="fuseproof.fusion.ops.helion:rms_norm", requires="helion",
          passes=("forward",)),
    _peer("rms_norm", "liger", target=f"{_PEERS_MODULE}:rms_norm_liger", requires="liger_kernel"),
    _peer("rms_norm", "quack", target=f"{_PEERS_MODULE}:rms_norm_quack", requires="quack"),
)
# fmt: on


def _rows() -> Iterable[Implementation]:
    for variants in _VARIANTS:
        yield from _torch_rows(variants)
        yield from (row for row in PEERS if row.operator == variants.operator)
        yield from _jax_rows(variants)
        yield from _tensorflow_rows(variants)


def _torch_rows(variants: _Variants) -> Iterable[Implementation]:
    operator = variants.operator
    row = partial(Implementation, operator, framework="torch")
    for source in ("", "-composed"):
        target = f"fuseproof.fusion.ops.torch:{operator}{source.replace('-', '_')}"
        eager = f"torch.eager{source}"
        yield row(eager, target=target, dtypes=DTYPES if source else variants.library_dtypes)
        for suffix, mode in _TORCH_MODES.items():
            name = f"torch.compile{suffix}{source}"
            yield row(name, target=target, compiled=mode, baseline=eager)
    yield row(
        "torch.eager-inplace",
        target=f"fuseproof.fusion.ops.torch:{operator}_inplace",
        baseline="torch.eager-composed",
        passes=("forward",),
        consumes=variants.overwritten,
    )
    if "triton" in variants.kernels:
        yield row(
            "triton",
            target=variants.triton or f"fuseproof.kernels.triton:{operator}",
            compiled="kernel",
            dtypes=variants.triton_dtypes,
            devices=("cuda",),
        )


def _jax_rows(variants: _Variants) -> Iterable[Implementation]:
    operator, layout = variants.operator, variants.library_layout
    row = partial(Implementation, operator, framework="jax")
    target = f"fuseproof.fusion.ops.jax:{operator}"
    for name, compiled in (("jax.eager", None), ("jax.jit", "jit")):
        yield row(name, target=target, compiled=compiled, layout=layout, dtypes=variants.library_dtypes)
    yield row(
        "jax.jit-donate",
        target=target,
        compiled="jit",
        baseline="jax.jit",
        consumes=(variants.donated,),
        layout=layout,
    )
    if variants.composed_apart:
        composed = "jax.eager-composed"
        yield row(composed, target=f"{target}_composed")
        yield row("jax.jit-composed", target=f"{target}_composed", compiled="jit", baseline=composed)
    if "pallas" in variants.kernels:
        yield row(
            "pallas",
            target=f"fuseproof.kernels.pallas.{operator}:{operator}",
            compiled="jit",
            devices=("tpu",),
            interpreted=("cpu",),
        )


def _tensorflow_rows(variants: _Variants) -> Iterable[Implementation]:
    operator = variants.operator
    row = partial(Implementation, operator, framework="tensorflow")
    for prefix, source, module, layout in (
        ("tf", "", "tensorflow", "bhsd"),
        ("tf", "-composed", "tensorflow", "bhsd"),
        ("keras", "", "keras", variants.library_layout),
    ):
        if source and not variants.composed_apart:
            continue
        target = f"fuseproof.fusion.ops.{module}:{operator}{source.replace('-', '_')}"
        eager = f"{prefix}.eager{source}"
        yield row(eager, target=target, layout=layout)
        for mode in ("function", "xla"):
            yield row(f"{prefix}.{mode}{source}", target=target, compiled=mode, baseline=eager, layout=layout)


IMPLEMENTATIONS: tuple[Implementation, ...] = tuple(_rows())
