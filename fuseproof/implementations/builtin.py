"""The table of the implementations that come with Fuseproof: of operators, network blocks and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from fuseproof.implementations.implementation import DTYPES, HALF, IEEE, PRODUCTS, Implementation
from fuseproof.implementations.models import of_models

# Modes of torch.compile by what they add to `torch.compile` in an implementation's name.
_TORCH_MODES: Mapping[str, str] = {
    "": "default",
    "-dynamic": "default+dynamic",
    "-reduce-overhead": "reduce-overhead",
    "-max-autotune": "max-autotune",
    "-max-autotune-no-cudagraphs": "max-autotune-no-cudagraphs",
}


@dataclass(frozen=True, kw_only=True)
class _Traits:
    """What the implementations of an operator depend on.

    library_layout: the order of axes that jax.nn's and Keras's own call takes.
    donated:        the input whose memory a result can take.
    overwritten:    the inputs that the in-place code writes over.
    in_place:       False where there is no step that could write over the last one's memory.
    composed_apart: the frameworks that have a library call; elsewhere the composed code takes its name.
    keras:          False where Keras has neither a layer nor a call.
    kernels:        the hand-written kernels there are.
    triton:         the target of the Triton kernel where it is not the kernel's own function.
    triton_dtypes:  dtypes of the Triton kernel.
    library_dtypes: dtypes of PyTorch's and JAX's library calls. A compiler adds nothing to PyTorch's one call
                    for 8-bit products, and TensorFlow has no such product.
    """

    operator: str
    library_layout: str = "bhsd"
    donated: str = "x"
    overwritten: tuple[str, ...] = ()
    in_place: bool = True
    composed_apart: tuple[str, ...] = ("jax", "tensorflow")
    keras: bool = True
    kernels: tuple[str, ...] = ("pallas", "triton")
    triton: str = ""
    triton_dtypes: tuple[str, ...] = IEEE
    library_dtypes: tuple[str, ...] = DTYPES


_TRAITS = (
    _Traits(operator="attention", library_layout="bshd", donated="q"),
    _Traits(
        operator="matmul",
        donated="a",
        triton="fuseproof.fusion.ops.triton:matmul",
        triton_dtypes=PRODUCTS,
        library_dtypes=PRODUCTS,
    ),
    _Traits(operator="layer_norm", overwritten=("x",)),
    _Traits(operator="rms_norm", overwritten=("x",), composed_apart=(), kernels=("triton",)),
    _Traits(operator="softmax", overwritten=("x",), kernels=("triton",)),
    _Traits(operator="cross_entropy", donated="logits", overwritten=("logits",), kernels=("triton",)),
    _Traits(
        operator="rotary",
        donated="q",
        overwritten=("q", "k"),
        composed_apart=(),
        keras=False,
        kernels=("triton",),
    ),
    _Traits(operator="swiglu", kernels=("triton",), triton_dtypes=DTYPES),
    _Traits(
        operator="embedding",
        donated="table",
        in_place=False,
        composed_apart=("tensorflow",),
        kernels=(),
    ),
)


_gpu = partial(Implementation, framework="torch", devices=("cuda",))
_peer = partial(_gpu, compiled="kernel", dtypes=IEEE)
_PEERS = "fuseproof.fusion.ops.peers:"

# PyTorch's own attention by backend, and the kernels of other packages.
# fmt: off
PEERS = (
    _gpu("attention", "torch.sdpa-cudnn", target=f"{_PEERS}attention_cudnn", dtypes=HALF),
    _gpu("attention", "torch.sdpa-flash", target=f"{_PEERS}attention_flash", dtypes=HALF),
    _gpu("attention", "torch.sdpa-efficient", target=f"{_PEERS}attention_efficient"),
    _peer("attention", "flash-attn", target=f"{_PEERS}attention_flash_attn", layout="bshd",
          dtypes=HALF, requires="flash_attn"),
    _peer("attention", "xformers", target=f"{_PEERS}attention_xformers", layout="bshd",
          requires="xformers"),
    _peer("layer_norm", "liger", target=f"{_PEERS}layer_norm_liger", requires="liger_kernel"),
    _peer("layer_norm", "quack", target=f"{_PEERS}layer_norm_quack", requires="quack",
          passes=("forward",), dtypes=("float32",)),  # its weights are float32
    _peer("layer_norm", "helion", target="fuseproof.fusion.ops.helion:layer_norm", requires="helion",
          passes=("forward",)),
    _peer("rms_norm", "helion", target="fuseproof.fusion.ops.helion:rms_norm", requires="helion",
          passes=("forward",)),
    _peer("rms_norm", "liger", target=f"{_PEERS}rms_norm_liger", requires="liger_kernel"),
    _peer("rms_norm", "quack", target=f"{_PEERS}rms_norm_quack", requires="quack"),
)
# fmt: on


def _all() -> Iterable[Implementation]:
    for traits in _TRAITS:
        yield from _torch(traits)
        yield from (peer for peer in PEERS if peer.workload == traits.operator)
        yield from _jax(traits)
        yield from _tensorflow(traits)


def _torch(traits: _Traits) -> Iterable[Implementation]:
    operator = traits.operator
    implementation = partial(Implementation, operator, framework="torch")
    for source in ("", "-composed"):
        target = f"fuseproof.fusion.ops.torch:{operator}{source.replace('-', '_')}"
        eager = f"torch.eager{source}"
        yield implementation(eager, target=target, dtypes=DTYPES if source else traits.library_dtypes)
        for suffix, mode in _TORCH_MODES.items():
            name = f"torch.compile{suffix}{source}"
            yield implementation(name, target=target, compiled=mode, baseline=eager)
    if traits.in_place:
        yield implementation(
            "torch.eager-inplace",
            target=f"fuseproof.fusion.ops.torch:{operator}_inplace",
            baseline="torch.eager-composed",
            passes=("forward",),
            consumes=traits.overwritten,
        )
    if "triton" in traits.kernels:
        yield implementation(
            "triton",
            target=traits.triton or f"fuseproof.kernels.triton:{operator}",
            compiled="kernel",
            dtypes=traits.triton_dtypes,
            devices=("cuda",),
        )


def _jax(traits: _Traits) -> Iterable[Implementation]:
    operator, layout, dtypes = traits.operator, traits.library_layout, traits.library_dtypes
    implementation = partial(Implementation, operator, framework="jax")
    target = f"fuseproof.fusion.ops.jax:{operator}"
    for name, compiled in (("jax.eager", None), ("jax.jit", "jit")):
        yield implementation(name, target=target, compiled=compiled, layout=layout, dtypes=dtypes)
    yield implementation(
        "jax.jit-donate",
        target=target,
        compiled="jit",
        baseline="jax.jit",
        consumes=(traits.donated,),
        layout=layout,
    )
    if "jax" in traits.composed_apart:
        composed = "jax.eager-composed"
        yield implementation(composed, target=f"{target}_composed")
        yield implementation(
            "jax.jit-composed", target=f"{target}_composed", compiled="jit", baseline=composed
        )
    if "pallas" in traits.kernels:
        yield implementation(
            "pallas",
            target=f"fuseproof.kernels.pallas.{operator}:{operator}",
            compiled="jit",
            devices=("tpu",),
            interpreted=("cpu",),
        )


def _tensorflow(traits: _Traits) -> Iterable[Implementation]:
    operator = traits.operator
    implementation = partial(Implementation, operator, framework="tensorflow")
    for prefix, source, module, layout in (
        ("tf", "", "tensorflow", "bhsd"),
        ("tf", "-composed", "tensorflow", "bhsd"),
        ("keras", "", "keras", traits.library_layout),
    ):
        if (source and "tensorflow" not in traits.composed_apart) or (prefix == "keras" and not traits.keras):
            continue
        target = f"fuseproof.fusion.ops.{module}:{operator}{source.replace('-', '_')}"
        eager = f"{prefix}.eager{source}"
        yield implementation(eager, target=target, layout=layout)
        for mode in ("function", "xla"):
            name = f"{prefix}.{mode}{source}"
            yield implementation(name, target=target, compiled=mode, baseline=eager, layout=layout)


# A network block is one module in each framework, so its rows differ in the compiler alone. Another library
# is more rows, with a folder in `fusion/blocks/` whose modules have parameters of the same names and shapes.
_OF_BLOCKS = (
    ("torch.eager", "torch", None),
    ("torch.compile", "torch", "default"),
    ("jax.eager", "jax", None),
    ("jax.jit", "jax", "jit"),
    ("tf.eager", "tensorflow", None),
    ("tf.function", "tensorflow", "function"),
    ("tf.xla", "tensorflow", "xla"),
)
# JAX compiles a scan at every eager call, so there is none without jit.
_SCANNED = ("lstm", "decode")
# Eager, Optax's step is a call of JAX for each operation on each parameter, which nobody trains with.
_INFERENCE_ALONE = ("jax.eager",)
_BLOCK_DTYPES = ("float32", "bfloat16")
_BLOCKS = (
    *("mlp_block", "encoder_block", "decoder_block", "conv_residual", "unet_block"),
    *("lstm", "dlrm", "conformer_block", "decode"),
)


def _of_blocks() -> Iterable[Implementation]:
    for block in _BLOCKS:
        for name, framework, compiled in _OF_BLOCKS:
            if framework == "jax" and block in _SCANNED and compiled is None:
                continue
            target = f"fuseproof.fusion.blocks.{framework}.{block}:{block}"
            if (block, name) == ("decode", "torch.compile"):
                # It compiles one token's step itself.
                target, compiled = f"{target}_compiled", "kernel"
            yield Implementation(
                block,
                name,
                framework=framework,
                target=target,
                compiled=compiled,
                baseline=name if framework == "jax" and block in _SCANNED else "",
                passes=("inference",) if name in _INFERENCE_ALONE else ("inference", "training_step"),
                dtypes=_BLOCK_DTYPES,
            )


IMPLEMENTATIONS: tuple[Implementation, ...] = (*_all(), *_of_blocks(), *of_models())
