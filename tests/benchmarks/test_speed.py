"""The check of speed names what fell short, and nothing else."""

import copy

from benchmarks.speed.__main__ import TOLERANCE, shortfalls

COMMITTED = {
    "times_as_fast": {"transformers": 1.0, "torch": 1.5},
    "agreement": {"torch": {"relative_error": 1e-6}},
}


def test_a_ratio_within_its_tolerance_is_no_shortfall():
    found = copy.deepcopy(COMMITTED)
    found["times_as_fast"]["torch"] = 1.5 * (1 - TOLERANCE) + 0.01
    assert shortfalls(found, COMMITTED) == []
    assert shortfalls({**found, "times_as_fast": {"transformers": 1.0}}, COMMITTED) == []


def test_a_ratio_that_fell_and_an_embedding_that_differs_are_named():
    found = copy.deepcopy(COMMITTED)
    found["times_as_fast"]["torch"] = 1.1
    found["agreement"]["torch"]["relative_error"] = 1e-3
    slow, wrong = shortfalls(found, COMMITTED)
    assert slow.startswith("torch: x 1.10, committed x 1.50")
    assert wrong.startswith("torch: relative error 1.0e-03")
