"""What the Pallas kernels refuse, and which tiles they take. Shapes only: nothing is computed here."""

import importlib

import pytest

jax = pytest.importorskip("jax", reason="pip install 'fuseproof[jax]'")
ATTENTION, MATMUL, LAYER_NORM, LAUNCH = (
    importlib.import_module(f"fuseproof.kernels.pallas.{name}")
    for name in ("attention", "matmul", "layer_norm", "launch")
)


def shapes(*extents, dtype="float32"):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in extents]


@pytest.mark.parametrize(
    ("function", "arguments", "error", "says"),
    [
        (ATTENTION.attention, shapes((1, 3, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)), ValueError, "not a multiple"),
        (ATTENTION.attention, shapes((1, 2, 8, 4), (1, 2, 8, 8), (1, 2, 8, 8)), ValueError, "layout is bhsd"),
        (ATTENTION.attention, shapes((2, 8, 4), (2, 8, 4), (2, 8, 4)), ValueError, "4 axes"),
        (ATTENTION.attention, shapes(*[(1, 1, 128, 65536)] * 3), NotImplementedError, "head dim 65536"),
        (MATMUL.matmul, shapes((4, 5), (6, 7)), ValueError, "do not multiply"),
        (MATMUL.matmul, shapes((4, 5), (5, 7), (4,)), ValueError, r"bias must have shape \(7,\)"),
        (MATMUL.matmul, shapes((4, 5), (5, 7), dtype="float16"), TypeError, "float16"),
        (MATMUL.matmul, shapes((4, 0), (0, 7)), ValueError, "extent of 0"),
        (LAYER_NORM.layer_norm, shapes((4, 8), (4,), (8,)), ValueError, r"weight must have shape \(8,\)"),
        (LAYER_NORM.layer_norm, shapes((4, 50257), (50257,), (50257,)), NotImplementedError, "at most 21845"),
        (LAYER_NORM.layer_norm, [*shapes((4, 8)), *shapes((8,), (8,), dtype="bfloat16")], TypeError, "cast"),
    ],
)  # fmt: skip
def test_what_it_cannot_take_says_why(function, arguments, error, says):
    with pytest.raises(error, match=says):
        jax.eval_shape(function, *arguments)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        jax.eval_shape(lambda a, b: MATMUL.matmul(a, b, activation="relu"), *shapes((4, 5), (5, 7)))


@pytest.mark.parametrize(
    ("extent", "largest", "expected"),
    [(5, 512, 5), (512, 512, 512), (768, 512, 384), (1000, 512, 512), (1536, 1024, 768)],
)
def test_a_tile_is_the_axis_or_aligned(extent, largest, expected):
    assert LAUNCH.tile(extent, largest) == expected


@pytest.mark.parametrize("itemsize", [2, 4])
@pytest.mark.parametrize("head_dim", [3, 64, 80, 128, 256])
def test_attention_has_a_legal_config_of_aligned_blocks(itemsize, head_dim):
    for lengths in ((4096, 4096), (1, 197)):
        blocks = ATTENTION.choose_blocks(*lengths, itemsize, head_dim)
        assert all(block % LAUNCH.LANES == 0 for block in blocks)


@pytest.mark.parametrize("itemsize", [2, 4])
def test_matmul_has_a_legal_config(itemsize):
    assert MATMUL.is_legal(MATMUL.choose_config(itemsize), itemsize)
