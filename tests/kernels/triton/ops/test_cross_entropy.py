"""Cross entropy, both passes, in Triton's interpreter against float64."""

from dataclasses import asdict

import pytest
import torch
from torch.nn import functional

from fuseproof.kernels.triton.ops.cross_entropy import compile_list
from fuseproof.kernels.triton.ops.cross_entropy.api import cross_entropy
from fuseproof.kernels.triton.ops.cross_entropy.configs import BACKWARD_CONFIGS, FORWARD_CONFIGS
from fuseproof.workloads.operators.cross_entropy import CrossEntropy

CROSS_ENTROPY = "cross_entropy.api:cross_entropy"


def library(logits, targets, cotangent, reduction="none"):
    """Output and gradient of PyTorch's call on the logits as float32."""
    leaf = logits.detach().clone().requires_grad_()
    losses = functional.cross_entropy(leaf.float(), targets, reduction=reduction)
    losses.backward(cotangent)
    return losses.detach(), leaf.grad


def problem(label, seed, dtype, place):
    """Placed logits, targets, a cotangent, their float64 reference and the reduction."""
    operator = CrossEntropy.from_label(label)
    arrays, cotangent = operator.inputs(seed, dtype), torch.from_numpy(operator.cotangent(seed, dtype))
    exact = operator.reference(arrays, cotangent.numpy())
    tensors = {"logits": place(arrays["logits"], dtype), "targets": torch.from_numpy(arrays["targets"])}
    return tensors, cotangent, exact, operator.options["reduction"]


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        *(
            (label, dtype)
            for label in ("1x1", "3x5", "37x100_mean", "7x768", "19x1000_mean", "3x5003")
            for dtype in ("float32", "float16", "bfloat16")
        ),
        ("2x50257", "float32"),
        ("2x128256_mean", "bfloat16"),
        ("1x128256", "float16"),
    ],
)
def test_both_passes_match_float64(label, dtype, interpreter, place, check):
    tensors, cotangent, exact, reduction = problem(label, 0, dtype, place)
    loss, dlogits, none = interpreter.gradients(
        CROSS_ENTROPY, tensors, cotangent, requires_grad=("logits",), reduction=reduction
    )
    assert none is None
    by_library = library(**tensors, cotangent=cotangent, reduction=reduction)
    longest = tensors["logits"].shape[1]
    check(loss, exact["output"], by_library[0], dtype="float32", longest=longest)
    check(dlogits, exact["grad_logits"], by_library[1], dtype=dtype, longest=longest)


def tile(config):
    return f"{config.columns}-{config.BLOCK_M}x{config.BLOCK_N}-w{config.warps}"


@pytest.mark.parametrize("config", FORWARD_CONFIGS, ids=tile)
def test_every_forward_tile(config, interpreter, place, check):
    columns = int(min(config.columns, 2 * config.BLOCK_N)) - 1
    tensors, cotangent, exact, _ = problem(f"{config.BLOCK_M + 1}x{columns}", 1, "bfloat16", place)
    losses, statistics = interpreter(
        "cross_entropy.launches:cross_entropy_forward", tensors, config=asdict(config)
    )
    expected, _ = library(**tensors, cotangent=cotangent)
    check(losses, exact["output"], expected, dtype="float32", longest=columns)
    torch.testing.assert_close(statistics, statistics_of(tensors["logits"]))


@pytest.mark.parametrize("config", BACKWARD_CONFIGS, ids=tile)
def test_every_backward_tile(config, interpreter, place, check):
    columns = int(min(config.columns, 2 * config.BLOCK_N)) - 1
    tensors, cotangent, exact, _ = problem(f"{config.BLOCK_M + 1}x{columns}", 1, "bfloat16", place)
    [dlogits] = interpreter(
        "cross_entropy.launches:cross_entropy_backward",
        {"dlosses": cotangent, **tensors, "statistics": statistics_of(tensors["logits"])},
        config=asdict(config),
    )
    _, expected = library(**tensors, cotangent=cotangent)
    check(dlogits, exact["grad_logits"], expected, dtype="bfloat16", longest=columns)


def statistics_of(logits):
    """What the forward pass saves: the maximum and 1 / the sum of the exponentials below it."""
    exact = logits.double()
    maximum = exact.amax(-1)
    return torch.stack([maximum, 1 / (exact - maximum[:, None]).exp().sum(-1)]).float()


def test_the_maximum_may_come_last_and_be_large(interpreter):
    """Sums so far are corrected; exponentials are taken of differences only."""
    logits = torch.linspace(-1e4, 1e4, 20_000).repeat(2, 1)
    logits[1] = logits[1].flip(0)
    targets = torch.tensor([19_999, 5])
    [losses] = interpreter(CROSS_ENTROPY, {"logits": logits, "targets": targets}, reduction="none")
    expected = functional.cross_entropy(logits.double(), targets, reduction="none").float()
    torch.testing.assert_close(losses, expected)


def test_masked_classes_are_minus_infinity(interpreter):
    logits = torch.randn(3, 9000, generator=torch.Generator().manual_seed(0))
    logits[0, :8999] = -torch.inf  # whole blocks before the first number
    logits[1, 10:] = -torch.inf
    targets = torch.tensor([8999, 3, 7])
    cotangent = torch.tensor([1.0, 2.0, 3.0])
    given = {"logits": logits, "targets": targets}
    found = interpreter.gradients(
        CROSS_ENTROPY, given, cotangent, requires_grad=("logits",), reduction="none"
    )
    for result, expected in zip(found, library(logits, targets, cotangent), strict=False):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("target", [-100, -1, 13, 2**40])
def test_a_class_that_does_not_exist_is_not_a_number_and_reads_nothing(target, interpreter):
    logits = torch.randn(3, 13, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, target, 12])
    [losses] = interpreter(CROSS_ENTROPY, {"logits": logits, "targets": targets}, reduction="none")
    assert losses.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_reductions_and_narrow_targets_are_those_of_pytorch(reduction, interpreter):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 40, generator=generator)
    targets = torch.randint(40, (6,), generator=generator, dtype=torch.int32)
    cotangent = torch.rand(6, generator=generator) if reduction == "none" else torch.tensor(3.0)
    given = {"logits": logits, "targets": targets}
    options = {"requires_grad": ("logits",), "reduction": reduction}
    eager = interpreter.gradients(CROSS_ENTROPY, given, cotangent, **options)
    compiled = interpreter.gradients(CROSS_ENTROPY, given, cotangent, compiled=True, **options)
    expected = library(logits, targets.long(), cotangent, reduction)
    for result, again, right in zip(eager[:2], compiled[:2], expected, strict=True):
        torch.testing.assert_close(result, right)
        torch.testing.assert_close(again, right)


def test_no_rows(interpreter):
    given = {"logits": torch.empty(0, 8), "targets": torch.empty(0, dtype=torch.int64)}
    losses, dlogits, _ = interpreter.gradients(
        CROSS_ENTROPY, given, torch.empty(0), requires_grad=("logits",), reduction="none"
    )
    assert losses.shape == (0,)
    assert dlogits.shape == (0, 8)


def test_registrations_hold(interpreter):
    logits = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.tensor([0, 7, 3, 3, 1, 2])
    interpreter.opcheck("cross_entropy.api", "cross_entropy", logits, targets)
    interpreter.opcheck(
        "cross_entropy.api", "cross_entropy_backward", torch.rand(6), logits.detach(), targets,
        statistics_of(logits.detach()),
    )  # fmt: skip


def test_second_derivatives_are_refused():
    """On the meta device, where nothing runs and autograd still does."""
    logits = torch.randn(4, 8, device="meta").requires_grad_()
    targets = torch.zeros(4, dtype=torch.int64, device="meta")
    losses = cross_entropy(logits, targets, reduction="none")
    cotangent = torch.ones_like(losses).requires_grad_()
    [dlogits] = torch.autograd.grad(losses, logits, cotangent, create_graph=True)
    with pytest.raises(NotImplementedError, match="cross_entropy: second derivatives are not implemented"):
        dlogits.backward(torch.ones_like(dlogits))


def test_every_config_is_compiled_ahead_of_time():
    labels = [launch.label for launch in compile_list.launches(torch.bfloat16)]
    assert len(labels) == len(set(labels))
    whole = sum("-forward-" in label for label in labels), sum("-backward-" in label for label in labels)
    assert whole == (len(FORWARD_CONFIGS) + 2, len(BACKWARD_CONFIGS) + 2)
