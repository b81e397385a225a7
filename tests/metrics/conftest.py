"""Shared by the tests of COCO's scores."""

import pytest


@pytest.fixture(params=["pycocotools", "hotcoco"])
def evaluator(request):
    """What computes the scores; skipped where it is not installed."""
    pytest.importorskip(request.param)
    return request.param
