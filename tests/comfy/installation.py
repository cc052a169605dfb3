"""A ComfyUI on this machine, and scripts that run with its Python."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")


def child_environment() -> dict[str, str]:
    """One thread per process, no downloads, and no settings of the tests' own Python.

    Tests run two servers at a time, whose threads would wait for each other.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH",)}
    return {
        **kept,
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(frozen=True)
class Installation:
    """ComfyUI's folder, its version, its Python and a base directory with this pack.

    `frontend` is the folder of another frontend than the one that this ComfyUI brings.
    """

    comfyui: Path
    version: str
    python: str
    base: Path
    pack: Path
    frontend: Path | None = None

    def run_script(self, source: str | Path, *args: object, timeout: float = 300) -> str:
        """Standard output of a script; a failure is an AssertionError with all that it said.

        The script is source text or a file. ComfyUI's modules can be imported (CPU, base directory
        of the tests); `load_pack()` gives this pack as ComfyUI imports it.
        """
        scripts = self.base / "scripts"
        scripts.mkdir(exist_ok=True)
        if isinstance(source, str):
            path = scripts / f"script_{len(list(scripts.glob('*.py')))}.py"
            path.write_text(source, encoding="utf-8")
        else:
            path = source.resolve()
        command = [
            self.python,
            *(str(part) for part in (BOOTSTRAP, self.comfyui, self.base, self.pack, path)),
            *(str(argument) for argument in args),
        ]
        done = subprocess.run(
            command,
            cwd=scripts,
            env=child_environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, (
            f"{path.name} failed in ComfyUI {self.version} (status {done.returncode})\n"
            f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        )
        return done.stdout
