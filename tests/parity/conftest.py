"""Finding and reading parity fixtures."""

import os
from pathlib import Path

import pytest
import torch

from easyanimate_core.doctor.recordings import RECORDINGS, Recording, read_recording

DATA = Path(__file__).parent / "data"


class ParityFolder:
    """Recordings in folders: a file is in the first that has it."""

    def __init__(self, *roots: Path) -> None:
        self.roots = roots

    def find(self, name: str) -> Path:
        found = next((root / name for root in self.roots if (root / name).exists()), None)
        if found is None:
            places = " or ".join(map(str, self.roots))
            pytest.skip(f"{name} is not there: no such recording in {places}")
        return found

    def read(self, name: str) -> Recording:
        return read_recording(self.find(name))


def parity_folder() -> ParityFolder:
    """The folder named by EASYANIMATE_PARITY, or the recordings of the project: those beside the
    tests, and those that ship with the package."""
    named = os.environ.get("EASYANIMATE_PARITY")
    return ParityFolder(Path(named)) if named else ParityFolder(DATA, RECORDINGS)


@pytest.fixture(scope="session")
def parity() -> ParityFolder:
    return parity_folder()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a `transformer_file`, `vae_file` or `pipeline_file` runs once per file."""
    for folder in ("transformer", "vae", "pipeline"):
        argument = f"{folder}_file"
        if argument in metafunc.fixturenames:
            found = [root / folder for root in parity_folder().roots]
            files = sorted({path.name for root in found for path in root.glob("*.safetensors")})
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
