"""Tests on a CUDA device; without one they are skipped."""

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="PyTorch finds no CUDA device on this machine")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)
