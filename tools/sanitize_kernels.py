"""Run every Triton kernel once, on small shapes with ragged edges, under NVIDIA's compute-sanitizer.

    compute-sanitizer --tool memcheck --error-exitcode 1 python tools/sanitize_kernels.py

It times and tunes nothing. It compares each result with the float64 reference, within the fixed limit of its
dtype; the exit code is 1 if one is wrong or fails. Under TRITON_INTERPRET=1 it runs on the CPU, which tests
this program and no memory access.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from fuseproof import frameworks
from fuseproof.cases import Case
from fuseproof.errors import UserError
from fuseproof.frameworks.calling import Signature
from fuseproof.implementations import IMPLEMENTATIONS, Implementation, resolve_function
from fuseproof.measure import checks
from fuseproof.workloads.operators import OPERATORS, result_dtype, tensor_dtype
from fuseproof.workloads.tensor import INDEX

# Shapes that reach each kernel and its masks: ragged and whole tiles, one row, split keys and split K, tensor
# descriptors, rows too long for a block, and more rows than programs.
SHAPES: Mapping[str, Sequence[str]] = {
    "attention": (
        "b1_h2_s77_d64_causal",
        "b1_h4_kv2_s130_k67_d96",
        "b1_h2_s256_d128_causal",
        "b1_h1_s1_k300_d128",
        "b1_h1_s65_d256",
        "b1_h4_kv1_s3_k1030_d128",
    ),
    "matmul": (
        "8x512x256",
        "77x67x131",
        "256x512x256",
        "512x512x512",
        "1024x256x1024",
        "8x2048x256",
        "99x128x64_bias_gelu_tanh",
    ),
    "layer_norm": ("5x77", "3x4096_residual", "2x9001", "140x4097", "2x70001"),
    "rms_norm": ("5x77", "3x4096_residual", "2x9001", "140x4097", "2x70001"),
    "cross_entropy": ("5x77", "3x4096_mean", "2x9001", "70x1000_mean", "2x128256"),
    "rotary": ("b2_h3_kv2_s77_d6", "b1_h9_kv4_s67_d64", "b2_h5_s35_d128", "b1_h4_kv1_s9_d256"),
    "softmax": ("5x77", "3x4096", "2x9001", "2x20001", "140x33001"),
    "swiglu": ("5x7x11", "77x64x128", "130x32x100"),
}


def cases(kernel: Implementation, dtypes: Sequence[str] = ()) -> Iterator[Case]:
    """The cases of SHAPES that a kernel can compute, in these dtypes or all, each with its longest pass."""
    operator = OPERATORS[kernel.workload]
    for label in SHAPES[kernel.workload]:
        shape = operator.from_label(label)
        for dtype in kernel.dtypes:
            passes = [pass_ for pass_ in kernel.passes if shape.reason_against(dtype, pass_) is None]
            if passes and (not dtypes or dtype in dtypes):
                yield Case(workload=shape, dtype=dtype, pass_=passes[-1])


def verdict_on(framework: frameworks.Framework, kernel: Implementation, case: Case) -> checks.Verdict:
    """The verdict on one call of a kernel, against the float64 reference."""
    operator, dtype = case.workload, case.dtype
    framework.use_precision(dtype)
    arrays = operator.inputs(0, dtype)
    cotangent = operator.cotangent(0, dtype) if case.pass_ != "forward" else None
    inputs = {
        name: framework.from_numpy(array, tensor.dtype.replace(INDEX, framework.INDEX) or tensor_dtype(dtype))
        for (name, array), tensor in zip(arrays.items(), operator.inputs_by_name.values(), strict=True)
    }
    upstream = {}
    if cotangent is not None:
        inputs = framework.differentiable(inputs, operator.differentiable)
        of = cotangent if isinstance(cotangent, dict) else {"output": cotangent}
        upstream = {
            name: framework.from_numpy(array, operator.cotangents[name].dtype or result_dtype(dtype))
            for name, array in of.items()
        }
    function = resolve_function(kernel.target)
    step = framework.step(function, Signature.of(operator), case.pass_, kernel.compiled)
    raw = step.bind(inputs, upstream)()
    framework.synchronize(raw)
    found = step.unpack(raw)
    errors = {
        name: checks.relative_rms(framework.to_numpy(found[name]), exact)
        for name, exact in operator.reference(arrays, cotangent).items()
    }
    return checks.judge(errors, None, dtype=dtype, longest=operator.longest_axis)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 if a kernel failed or is wrong, 2 for bad input or no GPU."""
    parser = argparse.ArgumentParser(
        prog="python tools/sanitize_kernels.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kernels = [implementation for implementation in IMPLEMENTATIONS if implementation.name == "triton"]
    parser.add_argument(
        "--operator", choices=[kernel.workload for kernel in kernels], action="append", default=[]
    )
    parser.add_argument("--dtype", action="append", default=[])
    options = parser.parse_args(arguments)
    os.environ["FUSEPROOF_AUTOTUNE"] = "0"  # under the sanitizer a timing is meaningless and takes minutes
    # PyTorch's caching allocator asks the driver for large blocks and hands out parts of them: an access past
    # the end of a tensor would mostly be in the same block, where memcheck accepts it.
    os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    try:
        framework = frameworks.load("torch")
        framework.configure(device="cpu" if interpreted else "cuda", threads=1)
        wrong = 0
        for kernel in kernels:
            if options.operator and kernel.workload not in options.operator:
                continue
            for case in cases(kernel, options.dtype):
                try:
                    verdict = verdict_on(framework, kernel, case)
                    wrong += not verdict.passed
                    said = f"error {verdict.relative_rms:.2g}" if verdict.passed else verdict.message
                except NotImplementedError as error:
                    said = f"skipped: {error}"
                except Exception as error:
                    wrong += 1
                    said = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                print(f"{case.group}: {said}", flush=True)
    except (UserError, NotImplementedError, ImportError) as error:
        print(f"sanitize: {error}", file=sys.stderr)
        return 2
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
