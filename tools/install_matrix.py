"""Tests what installing the pack does to an existing ComfyUI: `python -m tools.install_matrix`.

Every row is an environment with a different transformers and OpenCV. The pack's requirements are
passed to pip line by line, as ComfyUI-Manager does, and install.py is run. Reported are existing
packages that changed, new complaints of `pip check`, whether transformers and OpenCV can be
imported, and whether ComfyUI starts and runs a workflow with the small model.

PyTorch and ComfyUI's other requirements are linked from the environment of the tests (`dev.py
comfyui --environment`), so that a row takes a minute and about 300 MB, which it frees again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import dev
from easyanimate_core.console import prepare_streams

from .comfyui import DIRECT, HOST, server_command, wait_until_ready
from .comfyui_base import PACK, link
from .comfyui_install import ready_comfyui, ready_python, ready_video_helper_suite, version_of

#: transformers, and a huggingface-hub that pip installs with it or that it allows.
TRANSFORMERS = {
    "4.50": ("transformers==4.50.3", "huggingface-hub==0.29.3"),
    "4.57": ("transformers==4.57.6", "huggingface-hub==0.36.0"),
    "5.0": ("transformers==5.0.0", "huggingface-hub==1.3.1"),
    "5.23": ("transformers==5.23.0", "huggingface-hub==2.4.0"),
}
OPENCV = {
    "none": (),
    "opencv-python": ("opencv-python==4.11.0.86",),
    "headless": ("opencv-python-headless==4.11.0.86",),
    "contrib": ("opencv-contrib-python==4.11.0.86",),
}
#: Packages that are not linked: those chosen by the rows, and the pack's requirements.
CHOSEN = {"transformers", "huggingface-hub", "tokenizers", "safetensors", "regex", "hf-xet"}
RUN_SECONDS = 300


@dataclass
class Row:
    """An environment before and after. `changed` lists packages that existed before."""

    transformers: str
    opencv: str
    comfyui: str
    before: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)
    imports: str = ""
    starts: bool = False
    workflow: str = ""
    log: str = ""

    @property
    def is_good(self) -> bool:
        return not (self.changed or self.check) and self.starts and self.workflow == "runs"


def normal(name: str) -> str:
    """The normalised name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(comfyui: Path, found: dict[str, Distribution]) -> Iterator[Distribution]:
    """ComfyUI's requirements and their dependencies, except `CHOSEN`."""
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    done: set[tuple[str, str]] = set()
    while asked:
        wanted = asked.pop()
        name = normal(wanted.name)
        for extra in {"", *wanted.extras}:
            if (name, extra) in done or name in CHOSEN or name not in found:
                continue
            done.add((name, extra))
            yield found[name]
            further = map(Requirement, found[name].requires or ())
            asked += [r for r in further if not r.marker or r.marker.evaluate({"extra": extra})]


def layer(folder: Path, comfyui: Path, python: str) -> Path:
    """Make links to the packages of ComfyUI's environment, shared by all rows."""
    paths = json.loads(said_by(python, "import json, sys; print(json.dumps(sys.path))"))
    found: dict[str, Distribution] = {}
    for distribution in distributions(path=[path for path in paths if "site-packages" in path]):
        found.setdefault(normal(distribution.metadata["Name"]), distribution)
    folder.mkdir()
    for distribution in needed(comfyui, found):
        root = Path(str(distribution.locate_file("")))
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(root / top)
    return folder


def said_by(python: str, script: str) -> str:
    """The output of a script in another Python."""
    command = [python, "-X", "utf8", "-c", script]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


def environment(folder: Path, shared: Path, packages: Sequence[str]) -> str:
    """The Python of a new environment with these packages on top of the shared layer."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(dev.environment_python(folder))
    site = said_by(python, "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site, "layer.pth").write_text(f"{shared}\n", encoding="utf-8")
    pip(python, "install", *packages)
    return python


def pip(python: str, *words: str) -> str:
    """The output of pip; raises if it fails."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", *words],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode and words[0] != "check":
        raise RuntimeError(f"pip {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def installed(python: str) -> dict[str, str]:
    """Versions of installed packages by name."""
    listed = json.loads(pip(python, "list", "--format", "json"))
    return {normal(entry["name"]): entry["version"] for entry in listed}


def imports(python: str) -> str:
    """Versions of the imported transformers and OpenCV, or the errors."""
    script = (
        "import importlib, transformers; from transformers import Qwen2VLForConditionalGeneration\n"
        "found = ['transformers ' + transformers.__version__]\n"
        "if importlib.util.find_spec('cv2'):\n"
        "    import cv2, numpy\n"
        "    cv2.Canny(numpy.zeros((9, 9), numpy.uint8), 1, 2)\n"
        "    found += ['cv2 ' + cv2.__version__]\n"
        "    found += ['ximgproc'] if hasattr(cv2, 'ximgproc') else []\n"
        "print(', '.join(found))"
    )
    command = [python, "-X", "utf8", "-c", script]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1]
    return (done.stderr.strip().splitlines() or ["failed"])[-1]


def install_as_the_manager(python: str, pack: Path) -> None:
    """Install every line of the requirements separately, then run install.py."""
    for line in (pack / "requirements.txt").read_text(encoding="utf-8").splitlines():
        wanted = line.split("#")[0].strip()
        if wanted:
            pip(python, "install", wanted)
    subprocess.run([python, "install.py"], cwd=pack, capture_output=True, check=True)


def prompt(*, draws: bool) -> dict[str, Any]:
    """A clip of the small model and, if OpenCV is installed, its edges as a control video."""
    from easyanimate_core.models.specs import Head
    from easyanimate_core.small_model import SIZE, list_name

    frames, height, width = SIZE
    size = {"width": width, "height": height, "length": frames, "batch_size": 1}
    loading = {
        "checkpoint": list_name(Head.INPAINT),
        "weight_dtype": "default",
        "text_device": "default",
    }
    sampling = {"seed": 1, "steps": 4, "cfg": 4.0, "denoise": 1.0, "scheduler": "auto"}
    sampling |= {"guidance_rescale": 0.0, "step_cache": 0.0}
    nodes = {
        "load": ("EasyAnimateLoadCheckpoint", loading),
        "text": (
            "EasyAnimateTextEncode",
            {"clip": ["load", 1], "positive": "A red circle on plain grey.", "negative": ""},
        ),
        "latent": ("EasyAnimateEmptyLatentVideo", size),
        "sample": (
            "EasyAnimateSampler",
            {
                "model": ["load", 0],
                "positive": ["text", 0],
                "negative": ["text", 1],
                "latent_image": ["latent", 0],
                **sampling,
            },
        ),
        "decode": (
            "EasyAnimateDecode",
            {"vae": ["load", 2], "samples": ["sample", 0], "tiles": "auto"},
        ),
        "save": ("SaveImage", {"images": ["decode", 0], "filename_prefix": "matrix"}),
    }
    if draws:
        options = {"kind.low_threshold": 100, "kind.high_threshold": 200, "resolution": 0}
        edges = {"image": ["decode", 0], "kind": "canny", **options}
        nodes["edges"] = ("EasyAnimatePreprocess", edges)
        nodes["show"] = ("PreviewImage", {"images": ["edges", 0]})
    return {key: {"class_type": kind, "inputs": given} for key, (kind, given) in nodes.items()}


def ask(url: str, body: Any = None) -> Any:
    """The JSON response of a server."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with DIRECT.open(request, timeout=60) as response:
        return json.load(response)


def run_workflow(url: str, wanted: dict[str, Any]) -> str:
    """Run a workflow; returns "runs", or why it failed."""
    try:
        identity = ask(f"{url}/prompt", {"prompt": wanted})["prompt_id"]
    except urllib.error.HTTPError as error:
        return f"refused: {error.read().decode(errors='replace')[:300]}"
    end = time.monotonic() + RUN_SECONDS
    while time.monotonic() < end:
        history = ask(f"{url}/history/{identity}").get(identity)
        if history:
            status = history["status"]
            if status["status_str"] == "success":
                return "runs"
            errors = [data for kind, data in status["messages"] if kind == "execution_error"]
            return "; ".join(f"{e['node_type']}: {e['exception_message']}" for e in errors)[:300]
        time.sleep(0.5)
    return "timed out"


def try_comfyui(python: str, comfyui: Path, pack: Path, base: Path, row: Row) -> None:
    """Start a ComfyUI with the pack and run the workflow."""
    for name in ("custom_nodes", "input", "models", "output", "temp", "user"):
        (base / name).mkdir(parents=True)
    link(base / "custom_nodes" / PACK, pack)
    with (base / "server.log").open("wb") as log:
        port = dev_port()
        command = server_command(
            comfyui, python, base, port=port, extra=["--disable-api-nodes", "--disable-metadata"]
        )
        process = subprocess.Popen(command, cwd=base, stdout=log, stderr=subprocess.STDOUT)
        url = f"http://{HOST}:{port}"
        try:
            row.starts = wait_until_ready(url, lambda: process.poll() is None)
            if row.starts:
                row.workflow = run_workflow(url, prompt(draws="cv2" in row.imports))
        finally:
            process.terminate()
            process.wait(30)
    if row.workflow != "runs":
        row.log = (base / "server.log").read_text(encoding="utf-8", errors="replace")[-8000:]
    if not row.starts:
        row.workflow = (row.log.strip().splitlines() or ["no output"])[-1]


def dev_port() -> int:
    """A free port."""
    import socket

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def measure(transformers: str, opencv: str, comfyui: Path, shared: Path, pack: Path) -> Row:
    """One row."""
    row = Row(transformers, opencv, version_of(comfyui))
    with tempfile.TemporaryDirectory(prefix="install-matrix-") as scratch:
        folder = Path(scratch)
        chosen = (*TRANSFORMERS[transformers], *OPENCV[opencv])
        python = environment(folder / "venv", shared, chosen)
        row.before, check = installed(python), set(pip(python, "check").splitlines())
        install_as_the_manager(python, pack)
        after = installed(python)
        row.added = [f"{name} {after[name]}" for name in sorted(after.keys() - row.before)]
        row.changed = [
            f"{name} {version} -> {after.get(name, 'none')}"
            for name, version in sorted(row.before.items())
            if after.get(name) != version
        ]
        new = set(pip(python, "check").splitlines()) - check - {"No broken requirements found."}
        row.check = sorted(new)
        row.imports = imports(python)
        try_comfyui(python, comfyui, pack, folder / "base", row)
    return row


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "transformers | OpenCV before | changed | pip check | imported | ComfyUI | workflow"
    lines = [f"| {head} |", "|" + " --- |" * len(head.split("|"))]
    for row in rows:
        hub = row.before.get("huggingface-hub", "")
        cells = (
            f"{row.before.get('transformers', row.transformers)}, hub {hub}",
            row.opencv,
            ", ".join(row.changed) or "nothing",
            "; ".join(row.check) or "as before",
            row.imports,
            f"{row.comfyui} {'starts' if row.starts else 'does not start'}",
            row.workflow,
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the requested rows; the exit status is 1 if one is not good."""
    prepare_streams()
    parser = argparse.ArgumentParser(
        prog="python -m tools.install_matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--transformers", nargs="+", default=list(TRANSFORMERS))
    parser.add_argument("--opencv", nargs="+", default=list(OPENCV))
    parser.add_argument("--version", help="version of ComfyUI; default: the newest available")
    parser.add_argument("--pack", type=Path, default=dev.ROOT, help="another copy of the pack")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args(arguments)
    comfyui = ready_comfyui(options.version)
    python = ready_python(comfyui, [ready_video_helper_suite()])
    scratch = Path(tempfile.mkdtemp(prefix="install-layer-"))
    rows = []
    try:
        shared = layer(scratch / "packages", comfyui, python)
        for transformers in options.transformers:
            for opencv in options.opencv:
                row = measure(transformers, opencv, comfyui, shared, options.pack.resolve())
                rows.append(row)
                print(f"{transformers} {opencv}: {'good' if row.is_good else 'NOT GOOD'}",
                      file=sys.stderr, flush=True)  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        today = datetime.now(timezone.utc).date().isoformat()
        if options.json:
            found = {"date": today, "rows": [asdict(row) for row in rows]}
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{today}\n\n{table(rows)}")
    return 0 if all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
