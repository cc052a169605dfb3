from pathlib import Path

import pytest
import torch

#: Where large shared fixtures lie when the project is developed beside them.
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def _inference():
    """Nothing here trains: tests run without autograd, like generation does."""
    with torch.inference_mode():
        yield
