"""Draws of dropout against draws of dropout, and of what is something else."""

import numpy as np
import pytest

from fuseproof.workloads.distribution import DRAWS, DRAWS_OF_STEPS, Drawn

SHAPES = [(), (7,), (64, 33), (3, 300, 40)]


def dropped(x, rng, rate=0.1, scale=None):
    kept = rng.random(x.shape) >= rate
    return x * kept * (1 / (1 - rate) if scale is None else scale)


@pytest.fixture(params=SHAPES, ids=str)
def case(request):
    rng = np.random.default_rng(len(request.param))
    x = np.asarray(rng.standard_normal(request.param))
    return x, Drawn.of([dropped(x, rng) for _ in range(DRAWS)]), rng


def test_another_draw_is_within_the_limit(case):
    x, drawn, rng = case
    assert max(drawn.distance(dropped(x, rng)) for _ in range(300)) <= 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, rng: x,
        lambda x, rng: dropped(x, rng, rate=0.2),
        lambda x, rng: dropped(x, rng, scale=1.0),
        lambda x, rng: dropped(np.zeros_like(x), rng),
        lambda x, rng: dropped(-x, rng),
    ],
    ids=["not dropped", "twice the rate", "not scaled", "zeros", "the wrong sign"],
)
def test_what_is_something_else_is_seen_in_every_draw(wrong):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 333))
    drawn = Drawn.of([dropped(x, rng) for _ in range(DRAWS)])
    assert min(drawn.distance(wrong(x, rng)) for _ in range(20)) > 1.5


def test_another_draw_is_within_the_limit_of_few_draws_too():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((16, 33))
    for _ in range(500):
        drawn = Drawn.of([dropped(x, rng) for _ in range(DRAWS_OF_STEPS)])
        assert max(drawn.distance(dropped(x, rng)) for _ in range(10)) <= 1.0


def test_nan_is_no_distance(case):
    x, drawn, _ = case
    assert np.isnan(drawn.distance(np.full(x.shape, np.nan)))


def test_what_is_not_random_must_be_the_same():
    x = np.random.default_rng(1).standard_normal(100)
    drawn = Drawn.of([x] * DRAWS)
    assert drawn.distance(x * (1 + 1e-6)) < 1 < drawn.distance(x * 1.03)
    assert Drawn.of([np.zeros(3)] * DRAWS).distance(np.zeros(3)) == 0.0


def test_of_a_step_most_elements_must_go_where_they_usually_go():
    rng = np.random.default_rng(2)
    start = rng.standard_normal(200)
    usual = np.sign(rng.standard_normal(200))

    def stepped(turned=0.05):
        return start - 1e-3 * usual * np.where(rng.random(200) < turned, -1, 1)

    drawn = Drawn.of([stepped() for _ in range(DRAWS)], start)
    assert max(drawn.distance(stepped()) for _ in range(200)) < 1
    assert drawn.distance(start) > 1, "no step"
    assert drawn.distance(2 * start - stepped()) > 1, "the other way"
    few = Drawn.of([stepped()[:3] for _ in range(DRAWS)], start[:3])
    assert few.distance(start[:3]) == 0, "three elements may all turn round"
