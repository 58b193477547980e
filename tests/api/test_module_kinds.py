"""Modules of PyTorch as they are used: mixed precision, channels-last memory, dropout."""

import importlib.util
import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")

LEAST = (
    "--blocks",
    "1",
    "--max-blocks",
    "1",
    "--palindromes",
    "1",
    "--no-profile",
    "--quiet",
    "--threads",
    "1",
)


def measured(tmp_path, code):
    """The failures, and what was measured, of all workloads in a file; with the notes."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-m", "fuseproof", "run", "--workloads", "mine.py", *LEAST, "-o", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "out" / "run.json").is_file(), done.stderr
    document = json.loads((tmp_path / "out" / "run.json").read_text())
    # A machine that is busy with other tests may make a time unbelievable, but no result wrong.
    failures = {
        (each["group"], each["implementation"]): each["message"]
        for each in document["fuseproof"]["failures"]
        if each["stage"] != "measure" or "is wrong" in each["message"] or "distribution" in each["message"]
    }
    return failures, document["benchmarks"], document["fuseproof"]["notes"]


CAST = """
    from fuseproof import Implementation, Module

    class Cast(Module):
        batch: int
        named_shapes = {"small": {"batch": 16}}
        autocast = "bfloat16"
        def draw_inputs(self, rng):
            return {"input": rng.standard_normal((self.batch, 24))}

    def make():
        from torch import nn
        return nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.LayerNorm(48), nn.Linear(48, 24))

    def plain():
        from torch import nn
        class Half(nn.Module):
            def __init__(self):
                super().__init__()
                for name, part in make().named_children():
                    self.add_module(name, part)
            def forward(self, input):
                return 1.2 * nn.Sequential(*self.children())(input)
        return Half()

    OWN = [
        Implementation("cast", "torch.eager", framework="torch", target=":make"),
        Implementation("cast", "torch.again", framework="torch", target=":make"),
        Implementation("cast", "torch.wrong", framework="torch", target=":plain"),
    ]
"""


def test_autocast_is_on_and_results_may_be_as_far_off_as_it_rounds(tmp_path):
    failures, benchmarks, _ = measured(tmp_path, CAST)
    assert {name for _, name in failures} == {"torch.wrong"}
    assert all("is wrong: relative RMS error" in message for message in failures.values())
    for each in benchmarks:
        error = each["extra_info"]["error"]
        assert 5e-4 < error["relative_rms"] <= error["limit"], "float32 would err by less than a millionth"


IMAGES = """
    from fuseproof import Implementation, Module

    class Images(Module):
        size: int
        named_shapes = {"small": {"size": 6}}
        def draw_inputs(self, rng):
            return {"input": rng.standard_normal((2, 3, self.size, self.size + 1))}

    def make():
        import torch
        from torch import nn
        class Said(nn.Module):
            def __init__(self, last):
                super().__init__()
                self.conv, self.last = nn.Conv2d(3, 4, 3), last
            def forward(self, input):
                for each in (input, self.conv.weight):
                    last = each.is_contiguous(memory_format=torch.channels_last) and not each.is_contiguous()
                    if each.dtype == torch.float32 and last != self.last:
                        raise RuntimeError(f"channels last: {last}")
                return self.conv(input).flatten(1)
        return Said

    def contiguous():
        return make()(False)

    def last():
        return make()(True)

    OWN = [
        Implementation("images", "torch.eager", framework="torch", target=":contiguous"),
        Implementation("images", "torch.last", framework="torch", target=":last", layout="channels_last"),
        Implementation("images", "torch.not-last", framework="torch", target=":last"),
    ]
"""


def test_channels_last_is_the_order_of_inputs_and_parameters(tmp_path):
    failures, benchmarks, _ = measured(tmp_path, IMAGES)
    assert {name for _, name in failures} == {"torch.not-last"}
    assert all("channels last: False" in message for message in failures.values())
    assert benchmarks


DROPOUT = """
    import torch
    from fuseproof import Implementation, Module, Operator

    class Dropped(Operator):
        rows: int
        named_shapes = {"small": {"rows": 40}}
        random, reference_by = True, "torch.eager"
        def draw_inputs(self, rng):
            return {"x": rng.standard_normal((self.rows, 100))}

    def eager(x): return torch.nn.functional.dropout(x, 0.1)
    def masked(x): return x * (torch.rand_like(x) >= 0.1) / 0.9
    def unscaled(x): return x * (torch.rand_like(x) >= 0.1)
    def off(x): return x * 1.0

    class Layer(Module):
        batch: int
        named_shapes = {"small": {"batch": 64}}
        random, passes = True, ("training_step",)
        def draw_inputs(self, rng):
            return {"input": rng.standard_normal((self.batch, 32))}

    def layer(rate=0.5):
        from torch import nn
        return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(rate), nn.Linear(32, 8))

    def without(): return layer(0.0)

    OWN = [
        *(Implementation("dropped", f"torch.{name}", framework="torch", target=f":{name}")
          for name in ("eager", "masked", "unscaled", "off")),
        Implementation("layer", "torch.eager", framework="torch", target=":layer"),
        Implementation("layer", "torch.again", framework="torch", target=":layer"),
        Implementation("layer", "torch.without", framework="torch", target=":without"),
    ]
"""


def test_random_results_are_compared_by_their_distribution_and_that_is_said(tmp_path):
    failures, benchmarks, notes = measured(tmp_path, DROPOUT)
    assert {name for _, name in failures} == {"torch.unscaled", "torch.off", "torch.without"}, failures
    assert all(
        "is drawn from another distribution than the reference's" in each for each in failures.values()
    )
    assert {each["extra_info"]["error"]["limit"] for each in benchmarks} == {1.0}
    assert any(
        "dropped is random: results are compared with the distribution of 32 draws" in each for each in notes
    )
