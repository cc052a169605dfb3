"""Time of rounding weights to fewer bits, `convert` and loading, alternately with another checkout.

    python benchmarks/rounding.py [--against OTHER_CHECKOUT] [--json results.json] [--threads 1]

The source is the denoiser of `convert.py`, 1.1 GB in bfloat16. Every measurement is a process of
its own; times are the least of the repeats, in CPU seconds (user and system) and in wall-clock
seconds.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from convert import write_denoiser
from measure import parser, save

ROOT = Path(__file__).parents[1]
CONVERSIONS = ("keep", "bf16", "fp16", "fp8", "fp8-channel", "int8")
QUANTIZATIONS = ("qfloat8", "qint8", "qint4")
#: Arguments: checkout, threads, source, what, target. Prints CPU seconds, wall-clock seconds.
_CHILD = """
import json, sys, time
from pathlib import Path
root, threads, source, what, target = sys.argv[1:]
sys.path.insert(0, root)
import torch
from easyanimate_core.convert import Conversion, convert
from easyanimate_core.models.specs import TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel as Network
from easyanimate_core.weights.files import read_tensor_files
from easyanimate_core.weights.loading import load_network
from easyanimate_core.weights.stored import Quantizer, quantize
torch.set_num_threads(int(threads))
if what.startswith("q"):
    config = TransformerConfig(**json.loads((Path(source) / "config.json").read_text()))
    # Also imports what PyTorch wants for parameters of other kinds.
    torch.nn.Parameter(quantize(torch.randn(1024, 1024), what), requires_grad=False)
    def run():
        build, tensors = lambda: Network(config), read_tensor_files(source).map()
        return load_network(build, tensors, what="denoiser", quantizer=Quantizer(what))
else:
    def run():
        return convert(source, target, Conversion(dtype=what, force=True))
wall, cpu = time.perf_counter(), time.process_time()
kept = run()
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def measured(root: Path, threads: int, source: Path, what: str, target: Path) -> list[float]:
    """CPU and wall-clock seconds of one conversion, or of loading quantised."""
    command = [sys.executable, "-c", _CHILD, *map(str, (root, threads, source, what, target))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return [float(word) for word in done.stdout.split()]


def tensors_of(file: Path) -> str:
    """A hash of all but the header, which has the date."""
    content = file.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--against", type=Path, help="the other checkout; default: only this one")
    options.set_defaults(repeats=3, threads=1)
    arguments = options.parse_args()
    roots = {"after": ROOT}
    if arguments.against is not None:
        roots = {"before": arguments.against.resolve(), **roots}
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary) / "source", Path(temporary) / "target.safetensors"
        write_denoiser(source)
        for what in (*CONVERSIONS, *QUANTIZATIONS):
            times: dict[str, list[list[float]]] = {name: [] for name in roots}
            made = set()
            for _ in range(arguments.repeats):
                for name, root in roots.items():
                    run = measured(root, arguments.threads, source, what, target)
                    times[name].append(run)
                    if target.exists():
                        made.add(tensors_of(target))
                        target.unlink()
            assert len(made) <= 1, f"the tensors differ: {what}"
            row = {}
            for at, kind in enumerate(("cpu", "wall")):
                least = {name: min(run[at] for run in runs) for name, runs in times.items()}
                row |= {f"{kind}_seconds_{name}": seconds for name, seconds in least.items()}
                if arguments.against is not None:
                    row[f"{kind}_ratio"] = least["after"] / least["before"]
            results[what] = row
            print(
                what, json.dumps({key: round(value, 3) for key, value in row.items()}), flush=True
            )
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
