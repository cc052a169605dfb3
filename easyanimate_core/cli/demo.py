"""`demo`: runs every mode of V5.1 and V5 with the small model on scenes that it has not seen."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..models.specs import Head, Version
from ..small_model import HEADS, SIZE, few_steps_lora, small_checkpoint
from .bars import ProgressBars
from .options import add_device, add_dtype, add_force, path_of

FRAMES, HEIGHT, WIDTH = SIZE
#: With the LoRAs for few steps there is no guidance.
FEW_STEPS, GUIDANCE = 4, 4.0
STRENGTH = 0.8  # for video to video
#: Seed of the scenes, different from that of the small model's training clips.
SEED = 10_000
#: Images per row of the contact sheet: two of the inputs, the others of the result.
CELLS, CELL_WIDTH = 6, 128


@dataclass(frozen=True)
class Row:
    """A row of the demo: a name, the model that it needs, the prompt and the task."""

    name: str
    head: Head
    prompt: str
    task: Any
    version: Version = Version.V5_1
    frames: int = FRAMES
    #: Caption on the contact sheet if its font cannot draw the prompt.
    caption: str | None = None

    @property
    def title(self) -> str:
        return f"{self.version.value} {self.name}"

    @property
    def file_name(self) -> str:
        return f"{self.title.lower().replace(' ', '_').replace(',', '')}.mp4"

    @property
    def label(self) -> str:
        """The text above the row."""
        return f"{self.title}: {self.caption or self.prompt}"


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "demo",
        help="run every mode without a download",
        description="Run every mode of V5.1 and of V5 with the small model included in the "
        "package, on scenes of coloured shapes that it has not seen: one MP4 per mode and a "
        f"contact sheet of prompts, inputs and results. It takes {FEW_STEPS} steps without "
        "guidance, with the LoRAs that are included for that.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--out",
        type=path_of,
        default=Path("outputs/demo"),
        help="folder to write (default: %(default)s)",
    )
    add_force(parser)
    add_device(parser)
    add_dtype(parser)
    parser.add_argument(
        "--steps", type=int,
        help=f"so many steps with guidance and without the LoRAs; default: {FEW_STEPS} with them",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run every row and print the table."""
    from ..media import contact_sheet, write_png
    from ..sampling import check_steps
    from ..settings import Settings
    from ..weights.lora import Lora
    from .peak_memory import PeakMemory

    started = time.perf_counter()
    few = arguments.steps is None
    steps, scale = (FEW_STEPS, 1.0) if few else (arguments.steps, GUIDANCE)
    settings = Settings(
        height=HEIGHT, width=WIDTH, steps=steps, guidance_scale=scale, frames=FRAMES
    )
    check_steps(steps, STRENGTH)
    chosen = list(rows())
    _check_outputs(arguments, chosen)
    strips: list[tuple[str, Any]] = []
    folders = {(row.head, row.version): small_checkpoint(row.head, row.version) for row in chosen}
    loras = {key: (Lora(few_steps_lora(*key)),) for key in folders} if few else {}
    pipelines: dict[tuple[Head, Version], Any] = {}
    print(f"{'mode':<34}{'size':>9}{'frames':>8}{'steps':>7}{'seconds':>9}{'peak memory':>13}")
    for row in chosen:
        key = (row.head, row.version)
        if key not in pipelines:
            pipelines[key] = _pipeline(arguments, folders[key])
        began = time.perf_counter()
        with PeakMemory(pipelines[key].device) as memory, ProgressBars(leave=False) as bars:
            result = pipelines[key].generate(
                row.prompt, row.task, replace(settings, frames=row.frames),
                loras=loras[key] if few else (), progress=bars,
            )  # fmt: skip
        seconds = time.perf_counter() - began
        result.save(arguments.out / row.file_name)
        strips.append((row.label, _strip(row.task, result.frames[0])))
        print(
            f"{row.title:<34}{f'{HEIGHT}x{WIDTH}':>9}{row.frames:>8}{steps:>7}"
            f"{seconds:>9.1f}{memory.bytes / 1e6:>10.0f} MB",
            flush=True,
        )
    picture = contact_sheet(strips, columns=CELLS, cell_width=CELL_WIDTH)
    sheet = write_png(arguments.out / "contact_sheet.png", picture)
    if few:
        print(
            f"\n{FEW_STEPS} steps without guidance are {FEW_STEPS} evaluations of the denoiser; "
            "20 steps with it (--steps 20) are 40."
        )
    print(f"\n{sheet}\n{time.perf_counter() - started:.0f} s on {pipelines[key].device}")
    return 0


def _check_outputs(arguments: argparse.Namespace, rows: Sequence[Row]) -> None:
    from ..files import Result, check_results
    from ..files.kinds import is_png
    from ..output import check_output

    for row in rows:
        check_output(arguments.out / row.file_name, row.frames, row.task, force=arguments.force)
    sheet = Result(arguments.out / "contact_sheet.png", "PNG picture", is_png)
    check_results([sheet], force=arguments.force)


def rows() -> Iterator[Row]:
    """Every mode of a version with its scene, the same for both versions."""
    made = (_from_text(), _from_pictures(), _from_clips(), _from_control(), _from_cameras())
    every = list(chain.from_iterable(made))
    for version, heads in HEADS.items():
        for row in every:
            if row.head in heads and (version is Version.V5_1 or row.task.reference is None):
                yield replace(row, version=version)


def _from_text() -> Iterator[Row]:
    from .. import tasks
    from ..shapes.scenes import caption, make_scene

    for index, name, language, frames in (
        (0, "text to video", "en", FRAMES),
        (1, "text to video, Chinese", "zh", FRAMES),
        (2, "text to image", "en", 1),
    ):
        scene = make_scene(SEED, index, kind="move")
        prompt, said = caption(scene, language), caption(scene)
        yield Row(name, Head.INPAINT, prompt, tasks.TextToVideo(), frames=frames, caption=said)


def _from_pictures() -> Iterator[Row]:
    from .. import tasks

    prompt, clip = _scene(3, "move")
    yield Row("start image", Head.INPAINT, prompt, tasks.ImageToVideo(start=clip[:1]))
    prompt, clip = _scene(4, "move")
    yield Row("end image", Head.INPAINT, prompt, tasks.ImageToVideo(end=clip[-1:]))
    prompt, clip = _scene(5, "change")
    both = tasks.ImageToVideo(start=clip[:1], end=clip[-1:])
    yield Row("start and end image", Head.INPAINT, prompt, both)
    prompt, clip = _scene(6, "move")
    keyframes = {index: clip[index][None] for index in (0, FRAMES // 2, -1)}
    yield Row("several frames", Head.INPAINT, prompt, tasks.ImageToVideo(keyframes=keyframes))


def _from_clips() -> Iterator[Row]:
    """Clips whose main body gets another colour by the prompt."""
    import torch

    from .. import tasks
    from ..shapes.judge.meaning import REGION_MARGIN, clip_of, edited_region, recoloured
    from ..shapes.scenes import caption, make_scene, render

    for index, name in ((7, "region, one mask"), (8, "region, mask per frame"),
                        (9, "video to video")):  # fmt: skip
        scene = make_scene(SEED, index, kind="move")
        clip, prompt = clip_of(scene), caption(recoloured(scene))
        around = torch.from_numpy(render(scene).distances[0] < REGION_MARGIN).float()
        task: Any = tasks.VideoToVideo(clip, STRENGTH)
        if name.startswith("region"):
            mask = edited_region(scene)[:1] if "one" in name else around
            task = tasks.RegionEdit(clip, mask)
        yield Row(name, Head.INPAINT, prompt, task)


def _from_control() -> Iterator[Row]:
    import torch

    from .. import tasks
    from ..shapes.judge.meaning import clip_of
    from ..shapes.scenes import caption, control_video, make_scene, tracks_of

    for index, kind in ((10, "edges"), (11, "depth")):
        scene = make_scene(SEED, index, kind="move")
        control, start = torch.from_numpy(control_video(scene, kind)), clip_of(scene)[:1]
        for name, reference in ((kind, None), (f"{kind}, reference", start)):
            task: Any = tasks.Control(control, reference)
            yield Row(f"control {name}", Head.CONTROL, caption(scene), task)
    scene = make_scene(SEED, 12, kind="move")
    for name, reference in (("", None), (", reference", clip_of(scene)[:1])):
        task = tasks.Trajectory(tracks_of(scene), reference)
        yield Row(f"trajectory{name}", Head.CONTROL, caption(scene), task)


def _from_cameras() -> Iterator[Row]:
    """A pan and a zoom, each with and without a reference image."""
    from itertools import count

    from .. import tasks
    from ..shapes.judge.meaning import clip_of
    from ..shapes.scenes import caption, make_scene

    for name in ("Pan", "Zoom"):
        scenes = (make_scene(SEED, index, kind="camera") for index in count())
        scene = next(scene for scene in scenes if scene.camera.startswith(name))
        for more, reference in (("", None), (", reference", clip_of(scene)[:1])):
            task = tasks.Camera(
                (scene.camera,), scene.speed, reference=reference, original_timing=False
            )
            label = f"camera {name.lower()}{more}"
            yield Row(label, Head.CAMERA, caption(scene), task)


def _scene(index: int, kind: str) -> tuple[str, Any]:
    """Caption and clip [F, H, W, 3] of a scene."""
    from ..shapes.judge.meaning import clip_of
    from ..shapes.scenes import caption, make_scene

    scene = make_scene(SEED, index, kind=kind)
    return caption(scene), clip_of(scene)


def _strip(task: Any, made: Any) -> Any:
    """Frames of one row: the inputs at the first and the last frame, then the result.

    A reference takes the second place.
    """
    import torch

    frames, reference = given_frames(task)
    given = torch.full((2, HEIGHT, WIDTH, 3), 0.1) if frames is None else frames[[0, -1]]
    if reference is not None:
        given[1] = reference
    places = torch.linspace(0, len(made) - 1, CELLS - 2).round().long()
    return torch.cat([given, made[places]])


def given_frames(task: Any) -> tuple[Any, Any]:
    """What a task is shown: frames [F, H, W, 3] and a reference [H, W, 3], each None if missing.

    A region to generate is darkened, camera rays are shown as the colours of their directions.
    """
    import torch

    from ..conditioning.encode import from_model_range
    from ..tasks import Target

    sources = task.load().align(Target(HEIGHT, WIDTH, FRAMES))
    given = None
    shown = sources.video if sources.video is not None else sources.control
    if shown is not None:
        given = from_model_range(shown[0])
        if sources.mask is not None:
            given = torch.where(sources.mask[0, 0, ..., None] > 0.5, given * 0.2 + 0.1, given)
    if sources.plucker is not None:
        given = (sources.plucker[..., 3:] / 2 + 0.5).clamp(0, 1)
    reference = sources.reference
    return given, None if reference is None else from_model_range(reference[0])[0]


def _pipeline(arguments: argparse.Namespace, folder: Path) -> Any:
    from ..pipeline import Pipeline

    return Pipeline.load(
        folder, device=arguments.device, dtype=arguments.dtype, embedding_cache=False
    )
