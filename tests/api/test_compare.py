"""Functions of a Python session, compared in fresh processes."""

import importlib.util
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fuseproof
from fuseproof.api.compare import _Arguments
from fuseproof.errors import UserError

X, W = np.ones((3, 5), np.float32), np.arange(5)


def function(x, w, *, scale=1.0):
    return x * w


def drawn(given, seed=0):
    arguments = _Arguments.of(given, function)
    return arguments, arguments.draw(np.random.default_rng(seed))


@pytest.mark.parametrize("given", [(X, W), [X, W], {"x": X, "w": W}, lambda seed: (X, W)])
def test_arguments_have_the_names_of_the_parameters(given):
    arguments, found = drawn(given)
    assert list(found) == ["x", "w"]
    assert found["x"].dtype == np.float32 and found["w"].dtype == np.int64
    assert (arguments.framework, arguments.dtype) == ("", "float32")


def test_one_array_is_the_first_argument_and_more_than_there_are_names_get_numbers():
    assert list(drawn(X)[1]) == ["x"]
    assert list(drawn((X, W, X))[1]) == ["x", "w", "argument_2"]


def test_a_function_of_a_seed_gives_new_values_and_fixed_ones_are_said_to_be_fixed():
    arguments, _ = drawn(lambda seed: {"x": np.full(3, seed)})
    seeds = {int(arguments.draw(np.random.default_rng(n))["x"][0]) for n in range(9)}
    assert len(seeds) == 9 and arguments.notes == ()
    (note,) = drawn((X,))[0].notes
    assert "the same in every call; a function of a seed gives new ones" in note


def test_float64_counts_as_float32_and_other_dtypes_stand_beside_the_first():
    arguments, found = drawn({"a": X.astype(np.float64), "b": X.astype(np.float16), "n": [X, 2.5, "word"]})
    assert arguments.dtype == "float32" and found["a"].dtype == np.float32
    assert arguments.dtypes_beside("float32") == {"b": "float16"}
    assert found["n"][1:] == [2.5, "word"]


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ({"a": function}, {}, "at least two functions by name"),
        ({"a": function, "b": function}, {"baseline": "c"}, "unknown function 'c'; there are a, b"),
        ({"a": function, "b": function}, {"passes": "backward"}, "unknown pass 'backward'"),
        ({"a": function, "b": function}, {"passes": "training_step"}, "is one of modules: give modules only"),
        ({"a": function, "b": ({}, function)}, {}, "which framework a is of"),
        ({"a": ({}, function), "b": function}, {}, r"a is a pair \(parameters, apply\), which is a module"),
        ({"a": function, "b": function}, {"cache": "hot"}, "unknown cache regime 'hot'"),
        ({"a": function, "b": function}, {"name": "../x"}, "name '../x': use letters, digits"),
        ({"a": function, "b": function}, {"inputs": {"scale": 2.0}}, "the inputs hold no array"),
        ({"a": function, "b": function}, {}, "which framework a is of"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, monkeypatch, given, more, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        fuseproof.compare(given, **{"inputs": (X, W), **more})
    assert "\n" not in str(caught.value)


def test_a_directory_with_a_run_is_left_alone(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a run already; read it with fuseproof\.load"):
        fuseproof.compare({"a": function, "b": function}, inputs=X, directory=tmp_path)


def run(tmp_path, code):
    """A script as a user runs it: its functions are those of `__main__`."""
    (tmp_path / "script.py").write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return fuseproof.load(tmp_path / "run")


needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")


@needs_torch
def test_functions_of_a_script_are_checked_and_timed(tmp_path):
    code = """
        import torch, fuseproof
        def inputs(seed):
            drawn = torch.randn(2, 7, 13, generator=torch.Generator().manual_seed(seed))
            return {"x": drawn[0], "of": {"weight": drawn[1], "power": 2}}
        def f(x, of): return {"y": torch.tanh(x) * of["weight"] ** of["power"], "most": x.argmax(-1)}
        def g(x, of): return {"y": (x.sigmoid() * 2 - 1) * of["weight"].square(), "most": x.argmax(-1)}
        def same(x, of): return {"most": x.argmax(-1), "y": torch.tanh(x) * of["weight"].square()}
        def lacks(x, of): return {"y": torch.tanh(x) * of["weight"].square()}
        found = fuseproof.compare(
            {"f": f, "g": g, "same": same, "lacks": lacks},
            inputs=inputs, passes=("forward", "forward_backward"), blocks=1, palindromes=1, threads=1,
            directory="run", progress=False,
        )
        print(found)
    """
    found = run(tmp_path, code)
    # A machine that is busy with other tests may make a time unbelievable, but no result wrong.
    reasons = {each.implementation: each.message for each in found.failures if each.stage == "check"}
    assert reasons.keys() == {"g", "lacks"}
    assert "is wrong: relative RMS error" in reasons["g"]
    assert "most is missing" in reasons["lacks"]
    assert all(each.vouched_by == "f in float64" for each in found.check if each.status == "passed")


MODULES = """
    import torch, fuseproof
    from torch import nn

    def make(width=6):
        torch.manual_seed(0)
        before = [nn.Linear(width, 16), nn.BatchNorm1d(16), nn.GELU()]
        return nn.Sequential(*before, nn.Linear(16, width), nn.LayerNorm(width))

    class Linear(nn.Linear):
        def forward(self, x):
            bias = self.bias + 0.01 * (self.bias - self.bias.detach())  # its value, 1.01 times its gradient
            return torch.nn.functional.linear(x, self.weight, bias)

    def wrong_gradient():
        module = make()
        module[3] = Linear(16, 6)
        return module

    def frozen_statistic():
        module = make()
        module[1].track_running_stats = False
        module[1].register_forward_hook(lambda one, given, output: output)
        module[1].momentum = 0.0
        return module

    class Stale(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in make().named_children():
                self.add_module(name, part)
            self.kept = {}
        def forward(self, input):
            if not self.kept:
                self.kept.update({name: each.detach().clone() for name, each in self.named_parameters()})
            sequence = nn.Sequential(*self.children())
            return torch.func.functional_call(sequence, self.kept, (input,))

    def skipped_step():
        module = make()
        parameters = module.parameters
        module.parameters = lambda *given: list(parameters(*given))[:-1]
        return module

    class Missing(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in make().named_children():
                self.add_module(name, part)
        def forward(self, input):
            return {}

    found = fuseproof.compare(
        {
            "right": make(), "again": make(), "wrong_gradient": wrong_gradient(),
            "frozen_statistic": frozen_statistic(), "stale": Stale(), "skipped_step": skipped_step(),
            "missing": Missing(), "other": make(7),
        },
        inputs=lambda seed: {"input": torch.randn(9, 6, generator=torch.Generator().manual_seed(seed))},
        passes=("inference", "training_step"), blocks=1, palindromes=1, threads=1, directory="run",
        progress=False,
    )
"""
CANARIES = {
    "wrong_gradient": "grad_3.bias is wrong: relative RMS error 0.01",
    "frozen_statistic": "buffers.1.",
    "stale": "does not require grad",
    # After several steps the parameter that stayed has made others wrong too, and the worst is named.
    "skipped_step": "parameters.4.bias is wrong|grad_4.",
    "missing": "of the results output is missing",
    "other": "its parameter 0.weight has shape",
}


@needs_torch
def test_modules_are_trained_and_what_cheats_is_caught(tmp_path):
    found = run(tmp_path, MODULES)
    timed = {(each.pass_, each.implementation) for each in found.benchmarks}
    assert not {name for pass_, name in timed if pass_ == "training_step"} & CANARIES.keys()
    messages = {}
    for each in (one for one in found.failures if one.stage == "check"):
        messages.setdefault(each.implementation, []).append((each.group, each.message))
    assert not {"right", "again"} & messages.keys()
    for name, message in CANARIES.items():
        trained = [text for group, text in messages[name] if "training_step" in group]
        assert trained and any(part in trained[0] for part in message.split("|")), (name, messages[name])
    # In inference parameters are those of the whole block: what was made of them once is right, as where a
    # model is deployed.
    assert not [text for group, text in messages["stale"] if "inference" in group]
