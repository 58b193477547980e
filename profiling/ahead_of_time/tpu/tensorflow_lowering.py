"""The child process that lowers TensorFlow implementations to StableHLO; `tpu.programs` starts it.

TensorFlow has no ahead-of-time TPU compiler without its TPU build; its StableHLO is compiled by
the same compiler as JAX's. TensorFlow and JAX never share a process.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import tensorflow as tf

from fuseproof.child_process import serve
from fuseproof.frameworks import tensorflow as framework
from fuseproof.frameworks.calling import Signature
from fuseproof.implementations import Implementation, resolve_function
from fuseproof.measure.opening import planned
from fuseproof.workloads.tensor import INDEX


def lower(request: dict[str, Any]) -> dict[str, Any]:
    """Write the StableHLO of one implementation of one case to `request["file"]`."""
    implementation = Implementation.from_json(request["implementation"])
    case = planned(request["case"], request["workload"])
    operator, backward = case.workload, case.pass_ != "forward"
    if implementation.layout != "bhsd":
        raise NotImplementedError(
            f"TensorFlow implementations are lowered in layout bhsd, not {implementation.layout}"
        )
    names, started = list(operator.inputs_by_name), list(operator.cotangents) if backward else []
    function = resolve_function(implementation.target)
    step = framework.step(function, Signature.of(operator), case.pass_, None)

    def flat(*tensors: Any) -> list[Any]:
        inputs = dict(zip(names, tensors, strict=False))
        cotangents = dict(zip(started, tensors[len(names) :], strict=True))
        found = step.unpack(step.bind(inputs, cotangents)())
        return [found[name] for name in operator.results(case.pass_)]

    given = [*operator.inputs_by_name.values(), *(operator.cotangents[name] for name in started)]
    specs = [tf.TensorSpec(each.shape, each.dtype.replace(INDEX, "int32") or case.dtype) for each in given]
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
