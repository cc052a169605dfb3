"""Evaluates video files, with optional references and prompts.

Shapes: F frames, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MediaError
from ..files import DATASET_BYTES, check_is_text, named_path, parts_of, read_json
from ..media import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Clip, read_any
from ..progress import Progress, silent
from .distribution import VideoFeatures, check_length, frechet_video_distance
from .metrics import SSIM_WINDOW, check_same_shape, psnr, ssim
from .statistics import Spread
from .temporal import flicker, motion
from .text_match import ClipScorer


@dataclass(frozen=True)
class VideoSet:
    """What is measured. All of it was found and fits when it was made.

    `videos` maps names (paths relative to the folder, without extension) to files; `references` and
    `prompts` use the same names, and are empty if not given.
    """

    videos: Mapping[str, Path]
    references: Mapping[str, Path]
    prompts: Mapping[str, str]
    clip: Path | None = None
    i3d: Path | None = None


@dataclass(frozen=True)
class VideoReport:
    """`videos` maps names to values by metric, `spreads` metrics to statistics over the videos.

    `fvd` covers all videos, None if not requested. `unreadable` maps skipped videos to the reason;
    `notes` list the conversions that make videos and references look as in a player.
    """

    videos: dict[str, dict[str, float]]
    spreads: dict[str, Spread]
    fvd: float | None
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"kind": "videos", **asdict(self)}


def find_video_set(
    source: Path,
    *,
    against: Path | None = None,
    prompts: Path | None = None,
    clip: Path | None = None,
    i3d: Path | None = None,
) -> VideoSet:
    """Find everything and check that it fits together, before anything is measured.

    Args:
        source: A video or an image, or a folder of them.
        against: The references: a folder with the same names, or a file for a single file.
        prompts: A manifest, a JSON list of {"file_path", "text"}.
        clip: Folder of a CLIP model, for the score; needs prompts.
        i3d: The I3D TorchScript file, for FVD; needs references.

    Raises:
        InputError: Something is missing, or a video and its reference differ in size or length.
        MediaError: A file cannot be read.
    """
    videos = _found(source)
    references: dict[str, Path] = {}
    if against is not None:
        references = _matched(videos, against, alone=source.is_file())
    texts = {} if prompts is None else _texts(prompts, videos)
    if (clip is None) != (prompts is None):
        raise InputError(
            "The CLIP score needs both prompts and a CLIP model: give --prompts and --clip, or "
            "neither."
        )
    if i3d is not None and (not references or len(videos) < 2):
        raise InputError(
            f"FVD compares sets of videos; there are {len(videos)} videos and {len(references)} "
            "references. Give at least 2 videos and --against, or omit --i3d."
        )
    for name, file in references.items():
        _check_pair(name, videos[name], file, of_fvd=i3d is not None)
    return VideoSet(videos, references, texts, clip, i3d)


def evaluate_videos(
    found: VideoSet, *, device: torch.device, progress: Progress = silent
) -> VideoReport:
    """Measure every video; reports the stage "measure".

    If a video or its reference cannot be read, it is skipped and listed in the report.

    Raises:
        CheckpointError: A model's weights do not fit; raised before any video is measured.
        MediaError: None of the videos can be read.
    """
    scorer = None if found.clip is None else ClipScorer(found.clip, device)
    features = None if found.i3d is None else VideoFeatures(found.i3d, device)
    numbers: dict[str, dict[str, float]] = {}
    unreadable: dict[str, str] = {}
    notes: dict[str, tuple[str, ...]] = {}
    of_videos, of_references = [], []
    for done, (name, file) in enumerate(found.videos.items()):
        progress("measure", done, len(found.videos))
        try:
            clip = read_clip(file)
            against = read_clip(found.references[name]) if found.references else None
        except MediaError as error:
            unreadable[name] = str(error)
            continue
        reference = None if against is None else against.frames
        of_reference = [] if against is None else [f"Its reference: {n}" for n in against.notes]
        if clip.notes or of_reference:
            notes[name] = (*clip.notes, *of_reference)
        numbers[name] = _measured(clip, reference)
        if scorer is not None:
            numbers[name]["clip_score"] = scorer(clip.frames, found.prompts[name])
        if features is not None and reference is not None:
            of_videos.append(features(clip.frames))
            of_references.append(features(reference))
    progress("measure", len(found.videos), len(found.videos))
    if not numbers:
        raise MediaError(f"No video can be read. {next(iter(unreadable.values()))}")
    fvd = None
    if features is not None and len(of_videos) > 1:
        fvd = frechet_video_distance(np.stack(of_videos), np.stack(of_references))
    return VideoReport(numbers, spreads_of(list(numbers.values())), fvd, unreadable, notes)


def read_clip(file: Path) -> Clip:
    """Read a video, or an image as a clip of one frame."""
    return read_any(file)


def spreads_of(rows: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Statistics of each metric over the videos that have it, in order of appearance."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: Spread.of([row[name] for row in rows if name in row]) for name in names}


def _measured(clip: Clip, reference: Tensor | None) -> dict[str, float]:
    numbers: dict[str, float] = {}
    if reference is not None:
        numbers["psnr_db"] = psnr(clip.frames, reference)
        numbers["ssim"] = ssim(clip.frames, reference)
    if len(clip.frames) > 1:
        found = motion(clip.frames, fps=clip.fps)
        numbers["warp_error"] = found.warp_error
        numbers["flicker_percent"] = flicker(clip.frames)
        numbers["motion_pixels"] = found.pixels
        numbers["motion_percent_per_second"] = found.speed
    return numbers


def _found(source: Path) -> dict[str, Path]:
    """Names and files of the videos and images at `source`."""
    known = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
    check_is_text(source)
    if source.is_file():
        if source.suffix.lower() not in known:
            raise InputError(
                f"{source} is not a video or picture; supported are {', '.join(known)}."
            )
        return {source.stem: source}
    if not source.is_dir():
        raise InputError(f"{source} is missing; name a video, a picture or a folder of them.")
    files = [file for file in sorted(source.rglob("*")) if file.suffix.lower() in known]
    names: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(source).with_suffix("").as_posix()
        if name in names:
            raise InputError(
                f"{names[name]} and {file} have the same name, which must be unique in a report. "
                "Rename one."
            )
        check_is_text(name)
        names[name] = file
    if not names:
        raise InputError(f"{source} has no video or picture; supported are {', '.join(known)}.")
    return names


def _matched(videos: Mapping[str, Path], against: Path, *, alone: bool) -> dict[str, Path]:
    references = _found(against)
    if alone and against.is_file():
        return {next(iter(videos)): against}
    missing = [name for name in videos if name not in references]
    if missing:
        raise InputError(
            f"{against} lacks the references of {len(missing)} of {len(videos)} videos, such as "
            f"{missing[0]!r}. References must have the names of their videos."
        )
    return {name: references[name] for name in videos}


def _texts(manifest: Path, videos: Mapping[str, Path]) -> dict[str, str]:
    """The prompt of every video, from a list of {"file_path", "text"}."""
    rows = read_json(manifest, list, error=MediaError, limit=DATASET_BYTES)
    texts: dict[str, str] = {}
    for number, row in enumerate(rows):
        file, text = (row.get("file_path"), row.get("text")) if isinstance(row, dict) else (0, 0)
        if not isinstance(file, str) or not isinstance(text, str):
            raise InputError(
                f"Entry {number} of {manifest} is not an object with the texts file_path and text."
            )
        what = f"file_path of entry {number} of {manifest}"
        named_path(file, what, InputError, of_any_system=True)
        path = PurePosixPath("/" if file.startswith("/") else "", *parts_of(file))
        path = path.with_suffix("") if path.name else path
        texts |= {path.as_posix(): text, path.name: text}
    found = {name: texts.get(name, texts.get(Path(name).name)) for name in videos}
    missing = [name for name, text in found.items() if text is None]
    if missing:
        raise InputError(
            f"{manifest} has no prompt for {len(missing)} of {len(videos)} videos, such as "
            f"{missing[0]!r}. Entries are matched by file name."
        )
    return {name: text for name, text in found.items() if text is not None}


def _check_pair(name: str, video: Path, reference: Path, *, of_fvd: bool) -> None:
    try:
        pair = read_clip(video).frames, read_clip(reference).frames
    except MediaError:
        return  # skipped and reported during measurement
    try:
        check_same_shape(*pair)
        if of_fvd:
            check_length(len(pair[0]))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    if min(pair[0].shape[1:3]) < SSIM_WINDOW:
        height, width = pair[0].shape[1:3]
        raise InputError(f"{name} is {width} x {height}; SSIM needs sides of {SSIM_WINDOW} pixels.")
