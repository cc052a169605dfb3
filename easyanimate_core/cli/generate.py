"""`generate`: a prompt, and what the mode needs, to a video."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, RecipeError, printable
from ..files import foreign_system, is_folder
from ..memory.options import OFFLOADS, QUANTIZATIONS, Memory
from . import loras
from .bars import ProgressBars
from .options import (
    add_device,
    add_dtype,
    add_force,
    path_in,
    path_of,
    print_device_notes,
    size_of,
    tracks_of,
)
from .plan import add_planning, check_planned, planned

_EXAMPLES = """\
The mode follows from what is given:
  --prompt alone                       text to video (--frames 1: a picture)
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

Without --model the small model that comes with the package is used, with the head that the mode
needs. It makes 17 frames of 96 x 96 pixels and knows a small world: small and large circles,
squares, triangles and crosses, in red, green, blue, yellow, purple or white, on plain, striped,
checked or cloudy grey, brown or teal. A prompt of it is one sentence, in English or Chinese:
  generate --prompt "A large red circle moves left on grey stripes."
  generate --prompt "A small blue cross turns clockwise on plain teal."
  generate --prompt "The camera zooms in on a large green square on brown checks."  \
           --camera "Zoom In" --camera-speed 0.5 --camera-timing exact
  generate --prompt "一个红色的大圆形在灰色条纹上向左移动。"
"""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "generate",
        help="make a video",
        description="Make a video with a checkpoint folder. " + _EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--model",
        type=path_of,
        help="checkpoint folder, original or diffusers layout; default: the "
        "small model of the package",
    )
    parser.add_argument("--recipe", type=path_of,
                        help="repeat the run of this .json, .mp4 or .png; what it would open is "
                        "shown and asked for")  # fmt: skip
    parser.add_argument("--yes", action="store_true", default=None,
                        help="let the recipe open the files that it names")  # fmt: skip
    parser.add_argument("--look-in", type=path_of, action="append", default=[], metavar="DIR",
                        help="folder with files of the recipe that are not where they were; may be "
                        "repeated")  # fmt: skip
    parser.add_argument("--prompt", action="append", help="what to show; repeat for a batch")
    parser.add_argument("--embeddings", type=path_of, metavar="FILE",
                        help="what encode wrote, in place of --prompt and --negative-prompt; no "
                        "text encoder is loaded")  # fmt: skip
    parser.add_argument(
        "--output", type=path_of, default=Path("outputs/video.mp4"),
        help=".mp4, or .png for one frame (default: %(default)s); a .json recipe lies beside it",
    )  # fmt: skip
    add_force(parser)
    add_device(parser)
    add_dtype(parser)
    _add_sources(parser.add_argument_group("what the mode needs"))
    _add_settings(parser.add_argument_group("settings"))
    loras.add_options(parser.add_argument_group("LoRA"))
    memory = parser.add_argument_group("memory")
    add_memory(memory)
    add_planning(memory)
    add_embedding_cache(memory)


def run(arguments: argparse.Namespace) -> int:
    """Make the video and say where it is."""
    from ..pipeline import Pipeline

    if arguments.recipe is not None:
        recipe = _read_recipe(arguments)
        prompts, task, settings = _prompts_of(recipe), recipe.task, recipe.settings
        used = recipe.loras
        model = arguments.model or _model_of(recipe)
        dtype = recipe.model["dtype"] if arguments.dtype == "auto" else arguments.dtype
    else:
        _refuse_without_recipe(arguments)
        prompts, task, settings = _prompts(arguments), _task(arguments), _settings(arguments)
        model, dtype, used = arguments.model, arguments.dtype, loras.given(arguments)
        if model is None:
            model, settings = _small_model(task, settings)
    _check_output(arguments, prompts, task, settings, used)
    check_planned(arguments)
    pipeline = Pipeline.load(
        model,
        device=arguments.device,
        dtype=dtype,
        memory=memory_of(arguments, recipe.memory if arguments.recipe is not None else Memory()),
        embedding_cache=arguments.embedding_cache,
    )
    if arguments.recipe is not None:
        _check_same_model(recipe, pipeline, told=arguments.model is not None)
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
    with ProgressBars() as bars:
        result = pipeline.generate(prompts, task, settings, loras=used, progress=bars)
    try:
        written = result.save(arguments.output)  # before anything that may go wrong
    finally:
        for note in result.notes:
            print(f"note: {printable(note)}")
    for file in written:
        print(file)
    print(f"{time.perf_counter() - started:.1f} s")
    return 0


def _check_output(
    arguments: argparse.Namespace, prompts: Any, task: Any, settings: Any, used: Sequence[Any]
) -> None:
    """Refuse before the work what could not be written, or would be written over."""
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


def _add_sources(group: Any) -> None:
    group.add_argument("--start-image", type=path_of, help="picture of the first frame")
    group.add_argument("--end-image", type=path_of, help="picture of the last frame")
    group.add_argument(
        "--frame", action="append", default=[], metavar="N=FILE",
        help="picture of frame N (0 is the first; the last is --frame=-1=FILE); may be repeated",
    )  # fmt: skip
    group.add_argument("--video", type=path_of, help="clip for video to video or region editing")
    group.add_argument(
        "--strength", type=float, help="share of the schedule that is walked, 0 to 1"
    )
    group.add_argument("--mask", type=path_of, help="picture or clip, white = generate")
    group.add_argument("--control", type=path_of, help="control video: edges, poses, depth ...")
    group.add_argument("--camera", action="append", default=[], metavar="MOVE",
                       help="Pan Up, Pan Left, Zoom In, CW ...; repeat to combine")  # fmt: skip
    group.add_argument("--camera-speed", type=float, help="of --camera, default: 1")
    group.add_argument("--camera-timing", choices=("original", "exact"),
                       help="of --camera: the original stops a step before the end of the move, "
                       "exact ends with it; default: original")  # fmt: skip
    group.add_argument("--camera-poses", type=path_of, help="CameraCtrl / RealEstate10K text file")
    group.add_argument(
        "--trajectory", type=tracks_of, help="JSON file or text: tracks of {x, y} in pixels"
    )
    group.add_argument(
        "--reference", type=path_of, help="reference image (V5.1 control and camera)"
    )


def _add_settings(group: Any) -> None:
    group.add_argument("--size", type=size_of, metavar="HxW",
                       help="height x width in pixels, multiples of 16, such as 384x672; "
                       "default: the trained size nearest to the source's aspect, "
                       "384x672 without a source")  # fmt: skip
    group.add_argument("--frames", type=int, help="4n + 1; default: 49, or what the clip allows")
    group.add_argument("--fps", type=float, help="default: 8")
    group.add_argument("--steps", type=int, help="inference steps, default: 50")
    group.add_argument("--guidance-scale", type=float, help="default: 6; 1 is off")
    group.add_argument("--guidance-rescale", type=float, help="0 to 1, default: 0")
    group.add_argument("--negative-prompt", help="what to avoid")
    group.add_argument("--scheduler", help="Flow (V5.1); DDIM, Euler, Euler A, DPM++, PNDM (V5)")
    group.add_argument("--seed", type=int, help="default: 43")
    group.add_argument("--batch", type=int, help="videos per prompt, with the seeds after --seed")
    group.add_argument("--reference-noise", type=float,
                       help="noise amplitude on known pixels, default: 0.0563")  # fmt: skip
    group.add_argument("--keep-known", action=argparse.BooleanOptionalAction, default=None,
                       help="keep start frames and what is outside a region to the source; "
                       "default: let them drift, as the original does, unless the checkpoint's own "
                       "config asks for it")  # fmt: skip
    group.add_argument("--short", choices=("refuse", "repeat"),
                       help="too short a clip: refuse it, or repeat its last frame")  # fmt: skip
    group.add_argument(
        "--tile",
        type=int,
        help="side of the VAE's tiles in pixels, a multiple of 8 from 128 on; saves memory",
    )


def add_memory(group: Any) -> None:
    """Options of `Memory`."""
    group.add_argument("--quantization", choices=QUANTIZATIONS,
                       help="of the denoiser's weights, default: none")  # fmt: skip
    group.add_argument("--text-quantization", choices=QUANTIZATIONS,
                       help="of the text encoder's weights, default: none")  # fmt: skip
    group.add_argument("--text-device", metavar="DEVICE",
                       help="where the text encoder runs; default: as --device")  # fmt: skip
    group.add_argument("--offload", choices=OFFLOADS,
                       help="resident: networks stay on the device; module: each is there for its "
                       "stage; block: block after block; default: module")  # fmt: skip
    group.add_argument("--sequential-guidance", action="store_true", default=None,
                       help="one prompt after the other; half the activations")  # fmt: skip


def add_embedding_cache(group: Any) -> None:
    """The option of `Pipeline.load`."""
    group.add_argument("--no-embedding-cache", action="store_false", dest="embedding_cache",
                       help="neither use nor keep the prompts' embeddings, which lie in "
                       "~/.cache/easyanimate/embeddings, or in embeddings of $EASYANIMATE_CACHE "
                       "(at most 1 GB; delete the folder to clear it)")  # fmt: skip


def memory_of(arguments: argparse.Namespace, otherwise: Memory) -> Memory:
    """The `Memory` that the options ask for, and `otherwise` where they ask for nothing."""
    names = [field.name for field in dataclasses.fields(Memory)]
    given = {name: getattr(arguments, name) for name in names}
    told = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(otherwise, **told)


def _prompts(arguments: argparse.Namespace) -> Any:
    """The prompts, or the embeddings that stand for them."""
    from ..text import read_embeddings

    if not arguments.prompt and arguments.embeddings is None:
        raise InputError("generate needs --prompt (or --embeddings), or --recipe.")
    if arguments.embeddings is None:
        return tuple(arguments.prompt)
    if arguments.prompt or arguments.negative_prompt is not None:
        raise InputError(
            "--embeddings holds the prompt and the negative prompt; leave --prompt and "
            "--negative-prompt out."
        )
    return read_embeddings(arguments.embeddings)


def _prompts_of(recipe: Any) -> Any:
    from ..text import read_embeddings

    return (
        recipe.prompts if recipe.embeddings is None else read_embeddings(recipe.embeddings["file"])
    )


def _settings(arguments: argparse.Namespace) -> Any:
    from ..settings import Settings

    names = [field.name for field in dataclasses.fields(Settings)]
    given = {
        name: getattr(arguments, name)
        for name in names
        if getattr(arguments, name, None) is not None
    }
    if arguments.size is not None:
        given["height"], given["width"] = arguments.size
    return Settings(**given)


def _small_model(task: Any, settings: Any) -> tuple[Path, Any]:
    """The package's own checkpoint for `task`, and its size and length where none is asked for."""
    from ..small_model import HEADS, SIZE, lies_in_cache, small_checkpoint

    model = small_checkpoint(next(head for head in HEADS if head in task.heads))
    if not lies_in_cache(model):
        print(
            "note: the cache folder cannot be written: the small model is put together anew each "
            "time. The environment variable EASYANIMATE_CACHE names another folder."
        )
    frames, height, width = SIZE
    if settings.height is None:
        settings = dataclasses.replace(settings, height=height, width=width)
    if settings.frames is None:
        settings = dataclasses.replace(settings, frames=frames)
    print(
        f"note: no --model is given: the small model of the package ({model}) makes "
        f"{settings.frames} frames of {settings.height} x {settings.width}. --help says what it "
        "understands."
    )
    return model, settings


def _task(arguments: argparse.Namespace) -> Any:
    """The mode that the options name; options of two modes are refused."""
    from .. import tasks

    pictures = arguments.start_image or arguments.end_image or arguments.frame
    modes = {
        "image to video": pictures,
        "video to video": arguments.video,
        "control": arguments.control,
        "camera": arguments.camera or arguments.camera_poses,
        "trajectory": arguments.trajectory,
    }
    given = [name for name, value in modes.items() if value]
    if len(given) > 1:
        raise InputError(f"The options are of {' and '.join(given)}; give those of one mode.")
    mode = given[0] if given else "text to video"
    _refuse_unused(arguments, mode)
    strength = {} if arguments.strength is None else {"strength": arguments.strength}
    if mode == "image to video":
        keyframes = _keyframes(arguments.frame)
        return tasks.ImageToVideo(arguments.start_image, arguments.end_image, keyframes)
    if mode == "video to video" and arguments.mask:
        return tasks.RegionEdit(arguments.video, arguments.mask, **strength)
    if mode == "video to video":
        return tasks.VideoToVideo(arguments.video, **strength)
    if mode == "control":
        return tasks.Control(arguments.control, arguments.reference)
    if mode == "camera":
        return tasks.Camera(
            tuple(arguments.camera),
            1.0 if arguments.camera_speed is None else arguments.camera_speed,
            arguments.camera_poses,
            arguments.reference,
            arguments.camera_timing != "exact",
        )
    if mode == "trajectory":
        return tasks.Trajectory(arguments.trajectory, arguments.reference)
    return tasks.TextToVideo()


def _refuse_unused(arguments: argparse.Namespace, mode: str) -> None:
    needs = {
        "mask": ("video to video",),
        "strength": ("video to video",),
        "reference": ("control", "camera", "trajectory"),
        "camera_speed": ("camera",),
        "camera_timing": ("camera",),
    }
    for option, modes in needs.items():
        if getattr(arguments, option) is not None and mode not in modes:
            raise InputError(
                f"{_flag(option)} has no effect on {mode}; it belongs to {' and '.join(modes)}."
            )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _keyframes(texts: Sequence[str]) -> dict[int, Path]:
    keyframes: dict[int, Path] = {}
    for text in texts:
        number, _, file = text.partition("=")
        if not number.removeprefix("-").isdecimal() or not file:
            raise InputError(f"--frame {text!r} is not N=FILE, such as 24=middle.png.")
        if int(number) in keyframes:
            raise InputError(f"--frame {number} is given twice; one picture has its place there.")
        keyframes[int(number)] = path_in(file)
    return keyframes


def _refuse_without_recipe(arguments: argparse.Namespace) -> None:
    for name in ("yes", "look_in"):
        if getattr(arguments, name):
            raise InputError(f"{_flag(name)} is for --recipe; add it, or leave {_flag(name)} out.")


def _read_recipe(arguments: argparse.Namespace) -> Any:
    """The recipe, once it is allowed to open the files that it names."""
    from ..recipe import Recipe
    from ..recipe_files import located
    from .recipes import ask, search_folders

    memory = (field.name for field in dataclasses.fields(Memory))
    beside = ("command", "run", "verbose", "recipe", "model", "output", "device", "dtype", *memory,
              "embedding_cache", "force", "yes", "look_in")  # fmt: skip
    given = [n for n, v in vars(arguments).items() if n not in beside and v not in (None, [])]
    if given:
        raise InputError(
            f"--recipe brings its own prompt, sources and settings; leave "
            f"{', '.join(map(_flag, given))} out."
        )
    value = Recipe.read_value(arguments.recipe)
    folders = search_folders(arguments)
    ask(arguments, value, folders)
    return Recipe.from_json(located(value, folders))


def _model_of(recipe: Any) -> Path:
    from ..small_model import made_again

    named = recipe.model["path"]
    model = made_again(named)
    if model is None and is_folder(Path(named)):
        model = Path(named)
    if model is None:
        system = foreign_system(named)
        known = f" (a path of {system})" if system else ""
        raise RecipeError(
            f"The recipe's checkpoint {named}{known} is not there. Name it with --model."
        )
    return model


def _check_same_model(recipe: Any, pipeline: Any, *, told: bool) -> None:
    from ..recipe import fingerprint

    if fingerprint(pipeline.info) == recipe.model["fingerprint"]:
        return
    if not told:
        raise RecipeError(
            f"{pipeline.info.path} is not the checkpoint that the recipe was made with. "
            "Restore it, or name a checkpoint with --model to use that one."
        )
    print("note: this is another checkpoint than the recipe's; the result will differ.")
