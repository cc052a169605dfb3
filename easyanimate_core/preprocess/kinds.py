"""The kinds of control signal: names, required weights and options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal

from ..errors import InputError

Value = bool | int | float | str


@dataclass(frozen=True)
class Option:
    """An option of a kind. It has the type of `default`; a string must be one of `choices`."""

    name: str
    default: Value
    meaning: str
    low: float = 0
    high: float = 0
    step: float = 1
    choices: tuple[str, ...] = ()

    def checked(self, value: Value) -> Value:
        """Convert `value` to the option's type; `InputError` for a wrong type or value.

        Strings from the command line are parsed.
        """
        if isinstance(self.default, bool):
            if str(value).lower() in ("true", "false"):
                return str(value).lower() == "true"
            raise InputError(f"{self.name} is {value!r}; it must be true or false.")
        if isinstance(self.default, str):
            if value in self.choices:
                return value
            raise InputError(f"{self.name} is {value!r}; it must be {' or '.join(self.choices)}.")
        kind = type(self.default)
        try:
            number = kind(value)
        except (ValueError, OverflowError):
            number = math.nan
        same = isinstance(value, str) or number == value
        if isinstance(value, bool) or not same or not self.low <= number <= self.high:
            of_kind = "a whole number" if kind is int else "a number"
            raise InputError(
                f"{self.name} is {value!r}; it must be {of_kind} from {self.low:g} to "
                f"{self.high:g}."
            )
        return number


@dataclass(frozen=True)
class WeightFile:
    """A file of a Hugging Face repository; `{option}` in `repo` is replaced by the option's value.

    With `wanted_by`, it is only needed if that option is on.
    """

    repo: str
    name: str
    wanted_by: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of control signal.

    The sides of the network's input are multiples of `multiple`. `modules` are imports beyond the
    requirements, `packages` those whose build depends on the machine.

    `draws`: "lines" are thin edges, detected at the size of the result; "figures" are line drawings
    of people, whom a network finds better in a larger image; "areas" are not lines.
    """

    name: str
    display_name: str
    files: tuple[WeightFile, ...] = ()
    options: tuple[Option, ...] = ()
    multiple: int = 64
    modules: tuple[str, ...] = ("cv2",)
    packages: tuple[str, ...] = ()
    draws: Literal["lines", "figures", "areas"] = "lines"

    def complete(self, given: Mapping[str, Value]) -> Mapping[str, Value]:
        """The values of all options: `given`, validated, and defaults."""
        names = [option.name for option in self.options]
        for name in given:
            if name not in names:
                raise InputError(
                    f"{self.name} has no option {name!r}; it has {', '.join(names) or 'none'}."
                )
        values = {o.name: o.checked(given.get(o.name, o.default)) for o in self.options}
        _check_together(values)
        return MappingProxyType(values)

    def needed_files(self, options: Mapping[str, Value]) -> tuple[WeightFile, ...]:
        """The files needed for complete `options`."""
        return tuple(
            WeightFile(file.repo.format(**options), file.name)
            for file in self.files
            if not file.wanted_by or options[file.wanted_by]
        )

    def files_for(self, choice: str = "") -> tuple[WeightFile, ...]:
        """The files with all options on; `choice` is the network's size, "" the default."""
        given: dict[str, Value] = {o.name: True for o in self.options if o.default is False}
        texts = [option for option in self.options if option.choices]
        if choice and not texts:
            raise InputError(f"{self.name} has only one network; leave out {choice!r}.")
        given |= {option.name: choice for option in texts if choice}
        return self.needed_files(self.complete(given))

    def all_files(self) -> tuple[WeightFile, ...]:
        """The files for all choices."""
        picks = product(*([(o.name, c) for c in o.choices] for o in self.options if o.choices))
        return tuple(
            WeightFile(file.repo.format(**dict(pick)), file.name, file.wanted_by)
            for pick in picks
            for file in self.files
        )


def _check_together(values: Mapping[str, Value]) -> None:
    low, high = values.get("low_threshold", 0), values.get("high_threshold", 0)
    if float(low) > float(high):
        raise InputError(
            f"low_threshold is {low} and high_threshold is {high}; the low one must not be above "
            "the high one."
        )
    drawn = [values[name] for name in ("body", "hand", "face") if name in values]
    if drawn and not any(drawn):
        raise InputError("body, hand and face are all off; nothing would be drawn. Turn one on.")


_LIBRARY = ("cv2", "controlnet_aux")
_LIBRARY_EINOPS = (*_LIBRARY, "einops")
_POSES = (*_LIBRARY, "scipy", "skimage")
_ANNOTATORS = "lllyasviel/Annotators"
_DWPOSE = "yzd-v/DWPose"
_DEPTH_ANYTHING = "depth-anything/Depth-Anything-V2-{size}-hf"
_ZOE = "Intel/zoedepth-nyu-kitti"

_NEAR = Option("near_is_bright", default=True, meaning="Near is white and far is black, as "
               "is usual; off is the other way round.")  # fmt: skip
_BODY = Option("body", default=True, meaning="Draw the body.")
_HAND = "Draw the hands. OpenPose takes many times as long with them."
_FACE = "Draw the face."


def _network(repo: str) -> tuple[WeightFile, ...]:
    """The files of a transformers network."""
    return WeightFile(repo, "config.json"), WeightFile(repo, "model.safetensors")


#: Facts of controlnet-aux 0.0.10 and of the published repositories.
_ALL = (
    Kind(
        "canny",
        "Canny edges",
        options=(
            Option("low_threshold", 100, "Weaker edges than this are left out.", 1, 255),
            Option("high_threshold", 200, "Stronger edges than this are always drawn; those "
                   "between the two only where they continue one.", 1, 255),
        ),
    ),
    Kind(
        "scribble_xdog",
        "Scribble (XDoG)",
        options=(
            Option("threshold", 32, "Minimum difference at which a pixel is drawn: the lower, the "
                   "more lines.", 1, 64),
        ),
    ),
    Kind(
        "hed",
        "Soft edges (HED)",
        (WeightFile(_ANNOTATORS, "ControlNetHED.pth"),),
        modules=_LIBRARY_EINOPS,
    ),
    Kind(
        "scribble_hed",
        "Scribble (HED)",
        (WeightFile(_ANNOTATORS, "ControlNetHED.pth"),),
        modules=_LIBRARY_EINOPS,
    ),
    Kind(
        "scribble_pidi",
        "Scribble (PiDiNet)",
        (WeightFile(_ANNOTATORS, "table5_pidinet.pth"),),
        modules=_LIBRARY_EINOPS,
    ),
    Kind(
        "mlsd",
        "Straight lines (M-LSD)",
        (WeightFile(_ANNOTATORS, "mlsd_large_512_fp32.pth"),),
        (
            Option("score_threshold", 0.1, "How sure a line must be: the lower, the more lines.",
                   0.01, 1.0, 0.01),
            Option("length_threshold", 0.1, "Shorter lines than this, in pixels of the network's "
                   "map, are left out.", 0.01, 20.0, 0.01),
        ),
        modules=_LIBRARY,
    ),
    Kind(
        "lineart_anime",
        "Anime line art",
        (WeightFile(_ANNOTATORS, "netG.pth"),),
        multiple=256,  # the U-Net halves eight times
        modules=_LIBRARY_EINOPS,
    ),
    Kind(
        "openpose",
        "OpenPose",
        (
            WeightFile(_ANNOTATORS, "body_pose_model.pth"),
            WeightFile(_ANNOTATORS, "hand_pose_model.pth", "hand"),
            WeightFile(_ANNOTATORS, "facenet.pth", "face"),
        ),
        (
            _BODY,
            Option("hand", default=False, meaning=_HAND),
            Option("face", default=False, meaning=_FACE),
        ),
        modules=_POSES,
        draws="figures",
    ),
    Kind(
        "dwpose",
        "DWPose",
        (WeightFile(_DWPOSE, "yolox_l.onnx"), WeightFile(_DWPOSE, "dw-ll_ucoco_384.onnx")),
        (
            _BODY,
            Option("hand", default=True, meaning=_HAND),
            Option("face", default=True, meaning=_FACE),
        ),
        packages=("onnxruntime",),
        modules=_POSES,
        draws="figures",
    ),
    Kind(
        "depth_midas",
        "Depth (MiDaS)",
        (WeightFile(_ANNOTATORS, "dpt_hybrid-midas-501f0c75.pt"),),
        (_NEAR,),
        modules=(*_LIBRARY_EINOPS, "timm"),
        draws="areas",
    ),
    Kind("depth_zoe", "Depth (ZoeDepth)", _network(_ZOE), (_NEAR,), draws="areas"),
    Kind(
        "depth_anything_v2",
        "Depth (Depth Anything V2)",
        _network(_DEPTH_ANYTHING),
        (
            _NEAR,
            Option("size", "Small", "Size of the network: the larger, the finer and the slower.",
                   choices=("Small", "Base", "Large")),
        ),
        multiple=14,  # the network's patch size
        draws="areas",
    ),
)  # fmt: skip

#: Every kind by name.
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})
