"""Copies of tensors in memory of their own: values and strides kept, surroundings seen, changes seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseproof import strategies
from fuseproof.checking import libraries
from fuseproof.checking.libraries import margins

torch = pytest.importorskip("torch", reason="pip install 'fuseproof[torch]'")
of_torch, of_numpy = libraries.load("torch"), libraries.load("numpy")

SHAPES = strategies.shapes(8, 16, largest=40)
EITHER = st.one_of(
    strategies.arrays(SHAPES, dtype=["float32", "bfloat16"]).map(lambda array: (of_numpy, array)),
    strategies.tensors(SHAPES, dtype=["float32", "bfloat16"]).map(lambda tensor: (of_torch, tensor)),
)


def strides(tensor):
    return tensor.strides if isinstance(tensor, np.ndarray) else tensor.stride()


def address(tensor):
    return tensor.ctypes.data if isinstance(tensor, np.ndarray) else tensor.data_ptr()


@settings(max_examples=80, database=None)
@given(given=EITHER, surrounded=st.booleans())
def test_a_copy_has_the_values_the_strides_and_the_alignment(given, surrounded):
    library, tensor = given
    placed = library.placed(tensor, surrounded=surrounded)
    assert np.array_equal(library.array(placed.tensor), library.array(tensor))
    assert strides(placed.tensor) == strides(tensor)
    assert address(placed.tensor) != address(tensor)
    assert address(placed.tensor) % 64 == address(tensor) % 64
    assert (placed.changed(), placed.overrun()) == (False, False)


@settings(max_examples=80, database=None)
@given(given=EITHER)
def test_other_values_go_into_the_same_memory_where_each_element_has_a_place(given):
    library, tensor = given
    copy = library.placed(tensor).tensor
    before = address(copy)
    values = library.array(tensor)[::-1] * 2
    if library.overwrite(copy, values):
        again = library.array(copy)
        assert address(copy) == before
        assert np.array_equal(
            again, np.broadcast_to(again[:1], again.shape) if not strides(copy)[0] else values
        )
    else:
        assert margins.overlaps(tuple(copy.shape), strides(copy)), "only where elements share memory"


@pytest.mark.parametrize("library", [of_torch, of_numpy], ids=["torch", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "int32", "bool"])
def test_what_surrounds_a_tensor_is_nan_or_its_own_integers(library, dtype):
    values = np.arange(1, 8) if dtype != "bool" else np.array([True, False, True])
    tensor = library.tensor(values, dtype, "")
    placed = library.placed(tensor, surrounded=True).tensor
    if library is of_torch:
        around = placed.as_strided((1,), (1,), placed.storage_offset() + len(values))
        around = library.array(around)[0]
    else:
        around = library.array(np.ndarray(1, placed.dtype, buffer=placed.base, offset=_offset(placed)))[0]
    assert np.isnan(around) if "float" in dtype else around in values


def _offset(array):
    return array.ctypes.data - np.frombuffer(array.base, np.uint8).ctypes.data + array.nbytes


@pytest.mark.parametrize("offset", [-1, 3])
def test_a_write_next_to_a_tensor_is_an_overrun_and_harms_nothing(offset):
    placed = of_torch.placed(torch.ones(3))
    storage = torch.empty(0).set_(placed.tensor.untyped_storage())
    storage[placed.tensor.storage_offset() + offset] = 5
    assert (placed.changed(), placed.overrun()) == (False, True)
    placed.tensor[1] = 2
    assert placed.changed()


def test_poison_is_known_by_its_values():
    values = np.array([1.0, np.nan, 3.4e38, -np.inf, 0])
    assert margins.is_poison(values).tolist() == [False, True, True, True, False]
    integers = np.array([0, 5, 0x7F7F7F7F, np.iinfo(np.int32).max], np.int32)
    assert margins.is_poison(integers).tolist() == [False, False, True, True]
    assert not margins.is_poison(np.array([True, False])).any()


@pytest.mark.parametrize("size", [1, 9, 129, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_fresh_memory_of_numpy_is_poisoned_at_every_size(size, dtype):
    with of_numpy.fresh_memory([((size,), dtype)], "cpu", poison=True, eager=True):
        fresh = np.empty(size, dtype)
    malloc_own = 16 // fresh.itemsize if fresh.nbytes >= 1024 else 0
    assert margins.is_poison(fresh.astype(np.float64))[malloc_own:].all()


@pytest.mark.parametrize("eager", [True, False])
def test_settings_of_pytorch_are_as_they_were(eager):
    before = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    with (
        pytest.raises(ZeroDivisionError),
        of_torch.fresh_memory([((7,), "float32")], "cpu", poison=True, eager=eager),
    ):
        assert torch.empty(7).isnan().all() or not eager
        raise ZeroDivisionError
    assert before == (
        torch.get_deterministic_debug_mode(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
