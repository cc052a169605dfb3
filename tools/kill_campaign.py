"""Kills every command that writes files at random moments: `python -m tools.kill_campaign`.

Each command runs undisturbed once. Then it is restarted over its result again and again, and
stopped somewhere on its way by SIGKILL, SIGTERM or Ctrl-C in turn. After every kill all files must
be complete, a command that was asked to stop must have cleaned up, and the same command must then
succeed and leave nothing unfinished. Prints a table; the exit status is 1 if anything went wrong.
`download` needs a hub and is killed in the tests. Not for Windows, which has no fork.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_QUICK = ("--steps", "2", "--frames", "5", "--size", "64x64", "--prompt", "a dog")
_ENDED = {signal.SIGTERM: 143, signal.SIGINT: 130}
_LONGEST_SECONDS = 300


@dataclass(frozen=True)
class Command:
    """A command line, in which `{out}` is the folder that it writes to.

    `again` are the options that replace an earlier result; `anew` deletes it before each run
    instead, for commands that need a new folder or resume a run.
    """

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ("--force",)
    anew: bool = False
    keeps: tuple[str, ...] = ()


def commands(given: Path) -> list[Command]:
    """Every command that writes files, with the tiny inputs of `prepare` in `given`."""
    tiny, clip, picture = given / "tiny", given / "clip.mp4", given / "picture.png"
    lora, report = given / "lora.safetensors", given / "report"
    tracks = '[{"x": 10, "y": 10}, {"x": 50, "y": 50}]'
    lines: dict[str, Sequence[object]] = {
        "generate": ("--model", tiny, *_QUICK, "--start-image", picture, "--output", "{out}/a.mp4"),
        "generate, picture": (
            "--model", tiny, "--steps", 2, "--frames", 1, "--size", "64x64", "--prompt", "a",
            "--batch", 2, "--output", "{out}/a.png",
        ),
        "encode": ("--model", tiny, "--prompt", "a", "--out", "{out}/a.safetensors"),
        "preprocess": ("--kind", "canny", clip, "{out}/a.mp4"),
        "camera": ("--moves", "CW", "--out", "{out}/a.txt", "--preview", "{out}/a.png"),
        "trajectory": (tracks, "{out}/a.mp4", "--size", "64x96", "--preview", "{out}/a.png"),
        "convert, file": (tiny, "{out}/a.safetensors", "--dtype", "fp8", "--report", "{out}/a.md"),
        "convert, folder": (tiny, "{out}/a", "--dtype", "int8", "--report", "{out}/report.json"),
        "merge-lora": (tiny, "{out}/a.safetensors", "--lora", lora),
        "make-tiny": ("{out}/a", "--head", "Control"),
        "evaluate": (given / "clips", "--out", "{out}/a"),
        "evaluate-meaning": (
            "--rendered", "clean", "--count", 1, "--tasks", "text", "--out", "{out}/a",
        ),
        "evaluate-meaning, several": (
            tiny, "--tasks", "text", "--count", 1, "--size", "48x48", "--frames", 5, "--steps",
            1, 2, "--guidance-scale", 1, "--out", "{out}/a",
        ),
        "compare-runs": (report, report, "--out", "{out}/a"),
    }  # fmt: skip
    found = [
        Command(name, (name.partition(",")[0], *map(str, words))) for name, words in lines.items()
    ]
    clips = ("make-clips", "{out}/a", "--count", "6", "--size", "64x64", "--controls", "edges")
    found.append(Command("make-clips", clips, again=(), anew=True))
    train = ("train", str(given / "train.yaml"), "--set", "output={out}/a")
    found.append(Command("train", train, again=(), anew=True))
    scenes = ("prepare-data", "scenes", str(given / "long"), "{out}", "--min-seconds", "0.5")
    found.append(Command("prepare-data scenes", (*scenes, "--workers", "2"), again=(), anew=True))
    for step, more in {
        "filter": ("--no-ocr", "--workers", "1"),
        "deduplicate": ("--workers", "1"),
        "caption": ("--from", str(given / "captions.json")),
        "manifest": ("{out}/train.json", "--workers", "1"),
        "report": (),
    }.items():
        words = ("prepare-data", step, "{out}", *more)
        again = ("--force",) if step == "manifest" else ()
        found.append(Command(f"prepare-data {step}", words, again, keeps=("clips", "preparation")))
    return found


def prepare(given: Path) -> None:
    """Make the inputs: a tiny checkpoint, clips, a LoRA, a report and a training config."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from easyanimate_core.media import read_video, write_mp4, write_png
    from easyanimate_core.models.specs import Head, Version
    from easyanimate_core.tiny.checkpoint import make_tiny

    make_tiny(given / "tiny", version=Version.V5_1, head=Head.INPAINT)
    make_tiny(given / "trained", version=Version.V5_1, head=Head.T2V)
    _do(("make-clips", str(given / "clips"), "--count", "3", "--size", "64x64"))
    shutil.move(given / "clips" / "clips", given / "videos")
    shutil.rmtree(given / "clips")
    shutil.move(given / "videos", given / "clips")
    parts = [read_video(clip).frames for clip in sorted((given / "clips").iterdir())]
    (given / "long").mkdir()
    write_mp4(given / "clip.mp4", parts[0], fps=8)
    write_mp4(given / "long" / "one.mp4", torch.cat(parts * 2), fps=8)
    write_mp4(given / "long" / "two.mp4", torch.cat(parts), fps=8)
    write_png(given / "picture.png", parts[0][0])
    name = "lora_unet__transformer_blocks_0_attn1_to_q"
    (weights,) = (given / "tiny" / "transformer").glob("*.safetensors")
    with safe_open(weights, framework="pt") as opened:
        out, width = opened.get_slice("transformer_blocks.0.attn1.to_q.weight").get_shape()
    shapes = {"lora_down.weight": (2, width), "lora_up.weight": (out, 2)}
    tensors = {f"{name}.{part}": torch.full(shape, 0.01) for part, shape in shapes.items()}
    save_file({**tensors, f"{name}.alpha": torch.tensor(2.0)}, given / "lora.safetensors")
    _do(("evaluate", str(given / "clips"), "--out", str(given / "report")))
    captions = [{"file_path": f"clips/{n:06d}.mp4", "text": "a shape"} for n in range(3)]
    (given / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    _do(("prepare-data", "filter", str(_dataset(given, given / "data")), "--no-ocr"))
    caption = ("caption", str(given / "data"), "--from", str(given / "captions.json"))
    _do(("prepare-data", *caption))
    run = {
        "task": "text_to_video", "output": "unused",
        "model": {"checkpoint": str(given / "trained")},
        "data": {
            "synthetic": {"count": 4, "height": 32, "width": 32, "frames": 5},
            "tokens": [8], "frames": [5], "tokens_per_batch": 16,
        },
        "run": {"steps": 6, "save_every": 2, "keep": 2, "log_every": 1, "tensorboard": False},
        "validation": {"clips": 1, "videos": 1, "steps": 1},
    }  # fmt: skip
    (given / "train.yaml").write_text(json.dumps(run), encoding="utf-8")


def _do(words: Sequence[str]) -> None:
    """Run a command for `prepare` in this process."""
    from easyanimate_core.cli.main import main

    if main(words):
        raise RuntimeError(f"{' '.join(words)} failed")


def import_heavy() -> None:
    """Import what the commands need, so that forks start at once. Nothing is computed here."""
    import easyanimate_core.convert
    import easyanimate_core.evaluation
    import easyanimate_core.pipeline
    import easyanimate_core.preprocess
    import easyanimate_core.training.preparation
    import easyanimate_core.training.run  # noqa: F401


def campaign(
    kills: int, *, seed: int, only: Sequence[str] = (), say: Callable[[str], None] = print
) -> list[str]:
    """Kill `kills` times, rotating through the commands; returns one line per fault."""
    chance = random.Random(seed)
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="easyanimate-kills-") as work:
        os.environ["EASYANIMATE_CACHE"] = str(Path(work, "cache"))
        given = Path(work, "given")
        given.mkdir()
        import_heavy()
        problems = _apart(lambda: prepare(given))
        if problems:
            return [f"the inputs cannot be created: {problems[0]}"]
        chosen = [c for c in commands(given) if not only or c.name in only]
        rows = {}
        for number, command in enumerate(chosen):
            share = kills // len(chosen) + (number < kills % len(chosen))
            out = Path(work, f"out-{number}")
            found, ends = _kill_often(command, given, out, share, chance)
            faults += [f"{command.name}: {fault}" for fault in found]
            rows[command.name] = (share, ends, len(found))
            counted = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
            say(f"{command.name:<26}{share:>6}{len(found):>8}   {counted}")
    return faults


def _kill_often(
    command: Command, given: Path, out: Path, kills: int, chance: random.Random
) -> tuple[list[str], Counter[str]]:
    """The faults, and how the runs ended."""
    faults: list[str] = []
    ends: Counter[str] = Counter()
    if not kills:
        return faults, ends
    _make_room(command, given, out)
    began = time.monotonic()
    status = _run(_words(command, out, again=False))
    seconds = time.monotonic() - began
    if status:
        return [f"the undisturbed run exits with {status}"], ends
    if not command.anew:  # the runs to kill find the caches filled, too
        began = time.monotonic()
        _run(_words(command, out, again=True))
        seconds = time.monotonic() - began
    for number in range(kills):
        if command.anew:
            _make_room(command, given, out)
        how = SIGNALS[number % len(SIGNALS)]
        after = chance.uniform(0, seconds)
        status = _run(_words(command, out, again=True), how, after)
        ends[f"{how.name} {'too late' if status == 0 else status}"] += 1
        at = f"{how.name} after {after:.2f} s"
        faults += [f"{at}: {fault}" for fault in broken(out)]
        if how in _ENDED:
            faults += [f"{at}: {path} is left over" for path in unfinished(out)]
            if status not in (0, _ENDED[how], -how):
                faults.append(f"{at}: the exit status is {status}")
        anew = command.anew and (command.name != "train" or status == 0)
        if anew:
            _make_room(command, given, out, sweep_too=False)
        status = _run(_words(command, out, again=True))
        if status:
            faults.append(f"{at}: the next run exits with {status}")
        faults += [f"{at}, run again: {fault}" for fault in broken(out)]
        faults += [f"{at}, run again: {path} is left over" for path in unfinished(out)]
    return faults, ends


def _words(command: Command, out: Path, *, again: bool) -> list[str]:
    more = command.again if again else ()
    return [*(word.replace("{out}", str(out)) for word in command.words), *more]


def _make_room(command: Command, given: Path, out: Path, *, sweep_too: bool = True) -> None:
    """Prepare a folder for the command, with its inputs and without an earlier result."""
    if command.keeps:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(given / "data", out)
    elif sweep_too:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
    else:  # keep leftovers of a killed run for the next one to find
        for path in out.iterdir():
            if not path.name.startswith(".") and path.is_dir():
                shutil.rmtree(path)


def _dataset(given: Path, folder: Path) -> Path:
    shutil.copytree(given / "clips", folder / "clips")
    return folder


def unfinished(folder: Path) -> list[str]:
    """Temporary files and folders in the tree of `folder`, none of which should remain."""
    endings = (".part", ".old", ".tmp", ".new", ".lock")
    return [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix in endings]


def broken(folder: Path) -> list[str]:
    """What is wrong with the finished files in the tree of `folder`."""
    return _apart(lambda: _broken(folder))


def _broken(folder: Path) -> list[str]:
    faults = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            try:
                _read(path)
            except Exception as error:
                faults.append(f"{path.relative_to(folder)} is not complete ({error})")
    return faults


def _read(path: Path) -> None:
    """Read a file to its end; raises whatever its reader raises."""
    from PIL import Image
    from safetensors import safe_open

    from easyanimate_core.media import read_video

    if path.suffix == ".mp4":
        read_video(path)
    elif path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                opened.get_tensor(name)
    elif path.suffix == ".html" and not path.read_text(encoding="utf-8").endswith("</html>\n"):
        raise ValueError("its end is missing")


def _apart(work: Callable[[], list[str] | None]) -> list[str]:
    """Call `work` in a fork, because PyTorch's threads in this process would hang later forks."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        try:
            _be_quiet()
            os.write(writer, json.dumps(work() or []).encode()[:60_000])
        except BaseException as error:
            os.write(writer, json.dumps([f"{type(error).__name__}: {error}"]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(process, 0)
    found: list[str] = json.loads(said or b'["it exited without a result"]')
    return found


def _run(words: Sequence[str], how: signal.Signals | None = None, after: float = 0) -> int:
    """Run a command in a process that is stopped after a time; its exit status or minus its signal.

    The process is a fork of this one, which has already done the slow imports.
    """
    process = os.fork()
    if not process:
        _become(words)
    end = time.monotonic() + (after if how is not None else _LONGEST_SECONDS)
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL if how is None else how)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _become(words: Sequence[str]) -> None:
    """In the child: run the command and exit, whatever happens."""
    status = 70
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in `python -m easyanimate_core`
        _be_quiet()
        from easyanimate_core.cli.main import main

        status = main(words)
        sys.stdout.flush()
    finally:
        os._exit(status)


def _be_quiet() -> None:
    """Redirect output to the file KILL_CAMPAIGN_LOG, or discard it."""
    file = os.environ.get("KILL_CAMPAIGN_LOG", os.devnull)
    quiet = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(quiet, stream)


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="default: 100")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments, default: 0")
    parser.add_argument("--only", nargs="+", default=[], metavar="COMMAND")
    arguments = parser.parse_args()
    print(f"{'command':<26}{'kills':>6}{'faults':>8}   how they ended")
    faults = campaign(arguments.kills, seed=arguments.seed, only=arguments.only)
    for fault in faults:
        print(fault)
    print(f"{arguments.kills} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
