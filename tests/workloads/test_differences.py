"""Gradients of a NumPy function at drawn elements."""

import numpy as np
import pytest

from fuseproof.workloads.differences import gradients


def forward(inputs):
    x, w = inputs["x"], inputs["w"]
    return {"y": np.tanh(x @ w), "sum": (x**3).sum(), "index": inputs["index"]}


def closed(inputs, cotangents):
    x, w = inputs["x"], inputs["w"]
    d = cotangents["y"] * (1 - np.tanh(x @ w) ** 2)
    return {"x": d @ w.T + 3 * x**2 * cotangents["sum"], "w": x.T @ d}


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_they_are_those_of_the_closed_form(scale):
    rng = np.random.default_rng(0)
    inputs = {"x": scale * rng.standard_normal((5, 7)), "w": rng.standard_normal((7, 3)) / scale}
    inputs["index"] = np.arange(3)
    cotangents = {"y": rng.standard_normal((5, 3)), "sum": np.float64(rng.standard_normal())}
    found = gradients(forward, inputs, ["x", "w"], cotangents, rng)
    for name, exact in closed(inputs, cotangents).items():
        sampled = found[f"grad_{name}"]
        usual = np.sqrt(np.mean(exact**2))
        assert sampled.values.shape == (min(24, exact.size),)
        assert np.abs(exact[sampled.index] - sampled.values).max() < 1e-9 * usual


def test_other_elements_are_drawn_each_time():
    inputs = {"x": np.ones(1000)}

    def drawn(seed):
        found = gradients(
            lambda given: {"y": given["x"] ** 2},
            inputs,
            ["x"],
            {"y": np.ones(1000)},
            np.random.default_rng(seed),
        )
        return found["grad_x"]

    assert drawn(1).index[0].tolist() != drawn(2).index[0].tolist()
    assert drawn(1).values == pytest.approx(2.0)


def test_a_number_has_a_gradient_too():
    found = gradients(
        lambda given: {"y": 3 * given["x"]}, {"x": np.array(2.0)}, ["x"], {"y": 5.0}, np.random.default_rng(0)
    )["grad_x"]
    assert found.values[0] == pytest.approx(15.0) and np.array(15.0)[found.index] == 15.0
