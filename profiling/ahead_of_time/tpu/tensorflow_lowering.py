"""The child process that lowers TensorFlow implementations to StableHLO; `tpu.programs` starts it.

TensorFlow has no ahead-of-time TPU compiler without its TPU build; its StableHLO is compiled by
the same compiler as JAX's. TensorFlow and JAX never share a process.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import tensorflow as tf

from fuseproof.cases import Case
from fuseproof.child_process import serve
from fuseproof.frameworks import tensorflow as framework
from fuseproof.implementations import Implementation, resolve_function


def lower(request: dict[str, Any]) -> dict[str, Any]:
    """Write the StableHLO of one implementation of one case to `request["file"]`."""
    implementation, case = Implementation(**request["implementation"]), Case.from_group(request["case"])
    operator, backward = case.operator, case.pass_ != "forward"
    if implementation.layout != "bhsd":
        raise NotImplementedError(
            f"TensorFlow implementations are lowered in layout bhsd, not {implementation.layout}"
        )
    step = framework.step(resolve_function(implementation.target), operator.options, case.pass_, None)
    names = list(operator.input_shapes)

    def flat(*tensors: Any) -> list[Any]:
        inputs = dict(zip(names, tensors, strict=False))
        output, gradients = step(inputs, tensors[-1] if backward else None)
        return [output, *(gradients[name] for name in names if backward)]

    shapes = [*operator.input_shapes.values(), *([operator.output_shape] if backward else [])]
    specs = [tf.TensorSpec(shape, case.dtype) for shape in shapes]
    module = tf.function(flat, jit_compile=True).experimental_get_compiler_ir(*specs)(
        stage="stablehlo_serialized"
    )
    Path(request["file"]).write_bytes(module)
    return {"bytes": len(module)}


def main() -> None:
    framework.configure(device="cpu", threads=1)
    with contextlib.suppress(KeyboardInterrupt):
        serve(lower)


if __name__ == "__main__":
    main()
