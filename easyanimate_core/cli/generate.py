"""`generate`: generates a video from a prompt and the mode's inputs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HeadError, InputError, counted, printable
from ..memory.options import Memory
from ..models.specs import Version
from ..recipe_files import built_in_model
from . import enhance, loras, recipes
from .bars import ProgressBars
from .memory import (
    add_kernels,
    add_memory,
    add_planning,
    check_planned,
    kernels_of,
    memory_of,
    planned,
)
from .options import (
    add_device,
    add_dtype,
    add_embedding_cache,
    add_force,
    checkpoint_of,
    flag,
    path_of,
    print_device_notes,
)
from .settings import add_settings, settings_of
from .sources import add_sources, task_of

if TYPE_CHECKING:
    from ..settings import Settings
    from ..tasks import Task

_EXAMPLES = """\
The mode follows from the options:
  --prompt alone                       text to video (--frames 1: an image)
  --start-image, --end-image, --frame  image to video
  --video                              video to video (--strength)
  --video and --mask                   region editing
  --control                            control video (--reference)
  --camera or --camera-poses           camera (--reference)
  --trajectory                         trajectory (--reference)

examples:
  generate --model models/EasyAnimateV5.1-7b-zh-InP --prompt "A dog shakes its head." \\
           --start-image dog.png --output dog.mp4
  generate --model models/EasyAnimateV5.1-7b-zh-Control-Camera --prompt "A beach." \\
           --camera "Pan Left" --camera "Zoom In" --size 384x672 --output beach.mp4
  generate --recipe dog.mp4 --output again.mp4

Without --model, the small model included in the package is used, with the head that the mode needs.
It generates 17 frames of 96 x 96 pixels and knows a small world: small and large circles, squares,
triangles and crosses, in red, green, blue, yellow, purple or white, on plain, striped, checked or
cloudy grey, brown or teal. Its prompts are one sentence, in English or Chinese:
  generate --prompt "A large red circle moves left on grey stripes."
  generate --prompt "A small blue cross turns clockwise on plain teal."
  generate --prompt "The camera zooms in on a large green square on brown checks." \\
           --camera "Zoom In" --camera-speed 0.5 --camera-timing exact
  generate --prompt "一个红色的大圆形在灰色条纹上向左移动。"
It is a V5.1 model; with --version v5 it is a V5 one, which has neither cameras nor references.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "generate",
        help="generate a video",
        description="Generate a video with a checkpoint folder. " + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--model",
        type=checkpoint_of,
        help="checkpoint folder, original or diffusers layout, or the name of a built-in model, "
        "such as 'small (built in): InP'; default: the small model of the package",
    )
    parser.add_argument("--version", type=str.lower, choices=[v.value.lower() for v in Version],
                        help="of the small model, without --model; default: v5.1")  # fmt: skip
    parser.add_argument("--recipe", type=path_of,
                        help="repeat the run of this .json, .mp4 or .png; asks before it opens "
                        "other files")  # fmt: skip
    parser.add_argument("--yes", action="store_true", default=None,
                        help="allow the recipe to open the files that it names")  # fmt: skip
    parser.add_argument("--look-in", type=path_of, action="append", default=[], metavar="DIR",
                        help="folder to search for files of the recipe that were moved; may be "
                        "repeated")  # fmt: skip
    parser.add_argument("--prompt", action="append", help="what to show; repeat for a batch")
    enhance.add_enhance(parser)
    parser.add_argument("--embeddings", type=path_of, metavar="FILE",
                        help="file written by encode, instead of --prompt and --negative-prompt; "
                        "no text encoder is loaded")  # fmt: skip
    parser.add_argument(
        "--output", type=path_of, default=Path("outputs/video.mp4"),
        help=".mp4, or .png for one frame (default: %(default)s); a .json recipe is added",
    )  # fmt: skip
    add_force(parser)
    add_device(parser)
    add_dtype(parser)
    add_sources(parser.add_argument_group("inputs of the mode"))
    add_settings(parser.add_argument_group("settings"))
    loras.add_options(parser.add_argument_group("LoRA"))
    memory = parser.add_argument_group("memory")
    add_memory(memory)
    add_planning(memory)
    add_embedding_cache(memory)
    add_kernels(parser.add_argument_group("kernels"))


def run(arguments: argparse.Namespace) -> int:
    """Generate the video and print its path."""
    from ..pipeline import Pipeline

    if arguments.recipe is not None:
        recipe = recipes.read(arguments)
        prompts, task, settings = recipes.prompts_of(recipe), recipe.task, recipe.settings
        used = recipe.loras
        model = arguments.model or recipes.model_of(recipe)
        dtype = recipe.model["dtype"] if arguments.dtype == "auto" else arguments.dtype
    else:
        _refuse_without_recipe(arguments)
        prompts, used, dtype = _prompts(arguments), loras.given(arguments), arguments.dtype
        model, task, settings = _model_of(arguments)
    _check_output(arguments, prompts, task, settings, used)
    check_planned(arguments)
    pipeline = Pipeline.load(
        model,
        device=arguments.device,
        dtype=dtype,
        memory=memory_of(arguments, recipe.memory if arguments.recipe is not None else Memory()),
        embedding_cache=arguments.embedding_cache,
        kernels=kernels_of(arguments),
    )
    if arguments.recipe is not None:
        recipes.check_same_model(recipe, pipeline, told=arguments.model is not None)
    if arguments.plan:
        pipeline, settings = planned(pipeline, task, settings, arguments)
    info = pipeline.info
    print(
        f"EasyAnimate {info.version.value} {info.size} {info.head.value}, "
        f"{task.mode.replace('_', ' ')}, on {pipeline.device} in "
        f"{str(pipeline.dtype).removeprefix('torch.')}"
    )
    print_device_notes(arguments, pipeline)
    started = time.perf_counter()
    original = () if arguments.recipe is None else recipe.original_prompts
    if arguments.enhance is not None:
        original, prompts = prompts, enhance.written(arguments, pipeline, task, settings.seed)
    with ProgressBars() as bars:
        result = pipeline.generate(prompts, task, settings, loras=used, progress=bars)
    result = enhance.with_original(result, original)
    try:
        written = result.save(arguments.output)  # before anything else can fail
    finally:
        for note in result.notes:
            print(f"note: {printable(note)}")
    for file in written:
        print(file)
    print(f"{time.perf_counter() - started:.1f} s")
    return 0


def _model_of(arguments: argparse.Namespace) -> tuple[Path, Task, Settings]:
    """The model, which may be a small one, and the task and settings for it."""
    task, settings = task_of(arguments), settings_of(arguments)
    if arguments.model is None:
        version = Version((arguments.version or Version.V5_1.value).upper())
        return _small_model(task, settings, version)
    if arguments.version is not None:
        raise InputError(
            "--version chooses the version of the small model; a checkpoint has its own. Omit "
            "--version, or --model."
        )
    if built_in_model(str(arguments.model)) is not None:
        settings = _small_settings(settings)
    return arguments.model, task, settings


def _check_output(
    arguments: argparse.Namespace, prompts: Any, task: Any, settings: Any, used: Sequence[Any]
) -> None:
    """Raise up front if the output could not be written or would overwrite something."""
    from ..output import check_output
    from ..tasks import DEFAULT_FRAMES

    read = [arguments.recipe, arguments.embeddings, *(lora.path for lora in used)]
    check_output(
        arguments.output,
        settings.frames or DEFAULT_FRAMES,
        task,
        samples=len(prompts) * settings.batch,
        sources=[path for path in read if path is not None],
        force=arguments.force,
    )


def _prompts(arguments: argparse.Namespace) -> Any:
    """The prompts, or embeddings of them."""
    from ..text import read_embeddings

    if not arguments.prompt and arguments.embeddings is None:
        raise InputError("generate needs --prompt (or --embeddings), or --recipe.")
    if arguments.embeddings is None:
        return tuple(arguments.prompt)
    if arguments.enhance is not None:
        raise InputError("--enhance writes a prompt; omit it with --embeddings, which has one.")
    if arguments.prompt or arguments.negative_prompt is not None:
        raise InputError(
            "--embeddings contains the prompt and the negative prompt; omit --prompt and "
            "--negative-prompt."
        )
    return read_embeddings(arguments.embeddings)


def _small_model(task: Task, settings: Settings, version: Version) -> tuple[Path, Task, Settings]:
    """The package's small model for `task`, and settings with its default size and length."""
    from ..small_model import HEADS, fitted, lies_in_cache, small_checkpoint

    head = next((head for head in HEADS[version] if head in task.heads), None)
    if head is None or (task.reference is not None and version is Version.V5):
        lacking = "camera path" if head is None else "reference image"
        raise HeadError(
            f"The small model of {version.value} takes no {lacking}; that of V5.1 does: use "
            "--version v5.1."
        )
    model = small_checkpoint(head, version)
    if not lies_in_cache(model):
        print(
            "note: the cache folder is not writable, so the small model is assembled again each "
            "time. Set the environment variable EASYANIMATE_CACHE to another folder."
        )
    settings = fitted(settings)
    frames: Any = settings.frames
    print(
        f"note: no --model is given: the small model of the package ({model}) generates "
        f"{counted(frames, 'frame')} of {settings.height} x {settings.width}. --help says "
        "what it understands."
    )
    return model, task, settings


def _small_settings(settings: Settings) -> Settings:
    """The settings with the small model's size and length where none are given."""
    from ..small_model import fitted

    changed = fitted(settings)
    frames: Any = changed.frames
    if changed != settings:
        print(
            f"note: the small model generates {counted(frames, 'frame')} of "
            f"{changed.height} x {changed.width}."
        )
    return changed


def _refuse_without_recipe(arguments: argparse.Namespace) -> None:
    for name in ("yes", "look_in"):
        if getattr(arguments, name):
            raise InputError(f"{flag(name)} is for --recipe; add it, or omit {flag(name)}.")
