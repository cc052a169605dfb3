import os
from pathlib import Path

import pytest
import torch

from tests.emulation import start_method

if os.environ.get("EASYANIMATE_EMULATE"):
    from tests.emulation.windows import install_from_environment

    install_from_environment()
start_method.use_from_environment()

#: Where large shared fixtures lie when the project is developed beside them.
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(autouse=True)
def _own_embeddings(request, monkeypatch, tmp_path_factory):
    """Embeddings kept by an earlier run would hide a change of what makes them.

    The tests with ComfyUI use the folder's other contents and keep no embeddings.
    """
    if "tests/comfy" not in request.path.as_posix():
        monkeypatch.setenv("EASYANIMATE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _inference(request):
    """What does not train is tested without autograd, as generation runs."""
    with torch.inference_mode(mode="test_training" not in request.path.name):
        yield
