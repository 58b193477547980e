"""Functions of a session as implementations: whose framework they are of, and how they travel."""

import functools
import importlib.util
import subprocess
import sys
import textwrap
import types

import pytest

from fuseproof.api import functions
from fuseproof.api.functions import Variant
from fuseproof.errors import UserError
from fuseproof.implementations.loading import resolve

torch, jax = types.ModuleType("torch"), types.ModuleType("jax.numpy")
jax.tanh = torch.relu = lambda x: x


def of_torch(x):
    return torch.relu(x)


def of_both(x):
    return torch.relu(jax.tanh(x))


def calls_another(x):
    return of_torch(x) + 1


def imports_within(x):
    import tensorflow

    return tensorflow.tanh(x)


def plain(x):
    return x * 2


def made(of):
    return lambda x: of(x)


@pytest.fixture
def implementation(tmp_path):
    def implementation(given, name="mine", framework=""):
        return functions.implementation(
            name, given, workload="work", folder=tmp_path / "functions", framework=framework
        )

    return implementation


@pytest.mark.parametrize(
    ("given", "framework"),
    [
        (of_torch, "torch"),
        (calls_another, "torch"),
        (made(of_torch), "torch"),
        (functools.partial(of_torch), "torch"),
        (imports_within, "tensorflow"),
        (Variant(of_both, framework="jax"), "jax"),
    ],
)
def test_the_framework_is_that_of_what_a_function_names(implementation, given, framework):
    assert implementation(given).framework == framework
    assert implementation(plain, framework=framework).framework == framework, "else that of the inputs"


@pytest.mark.parametrize("given", [plain, of_both])
def test_a_function_of_none_or_of_several_needs_to_be_told(implementation, given):
    with pytest.raises(UserError, match=r"which framework mine is of; write fuseproof\.Variant"):
        implementation(given)


def test_a_function_travels_by_value_and_so_does_what_it_uses(implementation, tmp_path):
    """Also out of a test module, which a fresh process would not find."""
    found = implementation(Variant(calls_another, framework="torch"))
    assert found.is_foreign and found.compiled is None
    code = textwrap.dedent(f"""
        import sys
        from fuseproof.implementations.loading import resolve
        assert resolve({found.target!r}).__name__ == "calls_another"
        assert not any(name.endswith("test_functions") for name in sys.modules)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_variant_says_how_it_is_compiled(implementation):
    given = Variant(plain, framework="torch", compiled="reduce-overhead", options={"consumes": ("x",)})
    found = implementation(given)
    assert (found.compiled, found.consumes) == ("reduce-overhead", ("x",))
    assert resolve(found.target)(2) == 4


@pytest.mark.parametrize(
    ("given", "name", "message"),
    [
        (Variant(sys.stdout.write, framework="torch"), "mine", "mine cannot travel to a fresh process"),
        (Variant(3, framework="torch"), "mine", "mine is int, not a function"),
        (Variant(plain, framework="torch"), "a/b", "'a/b' is no name of an implementation"),
        (Variant(plain, framework="mxnet"), "mine", "which framework mine is of"),
        (Variant(plain, framework="torch", compiled="fast"), "mine", "no compile mode 'fast'"),
    ],
)
def test_what_is_no_implementation_is_one_line(implementation, given, name, message):
    with pytest.raises(UserError, match=message) as caught:
        implementation(given, name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
def test_what_torch_compile_made_is_made_again(tmp_path):
    """In a process of its own: a test process imports no framework."""
    code = """
        import torch
        from pathlib import Path
        from fuseproof.api import functions
        def f(x): return x + 1
        def of(given):
            return functions.implementation("g", given, workload="w", folder=Path("here"), framework="")
        modes = ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
        assert [of(torch.compile(f, mode=mode)).compiled for mode in modes] == modes
        assert of(torch.compile(f, dynamic=True)).compiled == "default+dynamic"
        module = torch.compile(torch.nn.Linear(3, 3))
        assert functions.is_module(module) and not functions.is_module(f)
        found = of(module)
        from fuseproof.implementations.loading import resolve
        assert (found.compiled, type(resolve(found.target))) == ("default", torch.nn.Linear)
        for odd in (torch.compile(f, fullgraph=True), torch.compile(f, dynamic=False)):
            try:
                of(odd)
            except Exception as error:
                assert "options of torch.compile that do not travel" in str(error)
            else:
                raise AssertionError("it travelled")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
