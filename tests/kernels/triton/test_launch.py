"""What a launch hands to Triton."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from fuseproof.kernels.triton import launch as launch_module
from fuseproof.kernels.triton.launch import Launch
from fuseproof.profiling.ahead_of_time.triton import compiler_process


class Kernel:
    """Records how it is run."""

    arg_names = ("x_ptr", "n", "BLOCK")

    def __init__(self) -> None:
        self.arg_names = list(type(self).arg_names)

    def run(self, *args, grid, warmup, **options):
        self.seen = SimpleNamespace(args=args, grid=grid, warmup=warmup, options=options)


@pytest.mark.parametrize("in_order", [True, False])
def test_arguments_reach_the_kernel_under_their_names(monkeypatch, in_order):
    monkeypatch.setattr(launch_module, "is_interpreted", lambda kernel: True)
    x, kernel = torch.zeros(4), Kernel()
    arguments = {"x_ptr": x, "n": 4} if in_order else {"n": 4, "x_ptr": x}
    launch = Launch(
        kernel=kernel,
        grid=(3,),
        arguments=arguments,
        constants={"BLOCK": 16},
        num_warps=2,
        num_stages=1,
        options={"maxnreg": 64},
    )
    launch.compile()
    assert kernel.seen.warmup is True
    launch.run()
    seen = kernel.seen
    by_name = {**dict(zip(kernel.arg_names, seen.args, strict=False)), **seen.options}
    assert by_name == {"x_ptr": x, "n": 4, "BLOCK": 16, "num_warps": 2, "num_stages": 1, "maxnreg": 64}
    assert (seen.grid, seen.warmup) == ((3,), False)
    assert bool(seen.args) is in_order


def test_a_launch_needs_a_tensor():
    launch = Launch(kernel=Kernel(), grid=(1,), arguments={"n": 4}, constants={}, num_warps=4, num_stages=1)
    with pytest.raises(ValueError, match="needs a tensor"):
        launch.run()


@pytest.mark.parametrize(
    "operator", ["attention", "matmul", "layer_norm", "softmax", "cross_entropy", "rotary", "swiglu"]
)
def test_launches_pass_their_arguments_by_position(operator):
    """Their arguments are in the kernel's order, which the fast path of `Launch` needs."""
    for launch in compiler_process.launches(operator, "bfloat16", 90).values():
        names = list(inspect.signature(launch.kernel.fn).parameters)
        assert [*launch.arguments, *launch.constants] == names, launch.label
