"""Reading parity fixtures: named tensor groups and the JSON `meta` of one .safetensors file."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Fixture:
    """`group("inputs")` gives {name: tensor} of the tensors called `inputs.name`."""

    path: Path
    meta: dict
    tensors: dict[str, torch.Tensor]

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        start = prefix + "."
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}

    def weights(self, prefix: str = "weights") -> dict[str, torch.Tensor]:
        """Weights are stored in bfloat16; the outputs were computed with them in float32."""
        return {k: v.float() for k, v in self.group(prefix).items()}


class ParityFolder:
    """The project's copy of the fixtures, or the folder named by EASYANIMATE_PARITY."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> Fixture:
        path = self.root / name
        if not path.is_file():
            pytest.skip(f"{path} is not there: this parity folder has no {name}")
        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["meta"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return Fixture(path, meta, tensors)


def parity_root() -> Path:
    return Path(os.environ.get("EASYANIMATE_PARITY", DATA))


@pytest.fixture(scope="session")
def parity() -> ParityFolder:
    return ParityFolder(parity_root())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `transformer_file`, `vae_file` or `pipeline_file` runs once per file."""
    for folder in ("transformer", "vae", "pipeline"):
        argument = f"{folder}_file"
        if argument in metafunc.fixturenames:
            files = sorted(path.name for path in (parity_root() / folder).glob("*.safetensors"))
            metafunc.parametrize(argument, [f"{folder}/{name}" for name in files])


def _max_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected.double()).abs().max())


@pytest.fixture
def assert_close(record_property):
    """`assert_close(actual, expected, tolerance, what)`: max abs error, printed as a number."""

    def check(actual, expected, tolerance, what):
        assert tuple(actual.shape) == tuple(expected.shape), (
            f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        )
        error = _max_error(actual, expected)
        record_property(what, error)
        print(f"{what}: max abs error {error:.3g} (tolerance {tolerance:g})")
        assert error <= tolerance, f"{what}: max abs error {error:.3g} > {tolerance:g}"

    return check
