"""`download`: downloads published weights to the folders where ComfyUI looks for them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError, InputError
from ..files.commands import PACK
from ..hub import (
    HUGGINGFACE,
    LORA_REPO,
    LORAS,
    MODELS,
    OWNERS,
    SOURCES,
    Places,
    Source,
    download,
    find_lora,
    find_missing,
    find_model,
    find_places,
    lora_states,
    model_files,
    model_state,
    named_files,
    target_folder,
)
from ..hub.places import CHECKPOINTS, DETECTORS
from ..hub.places import LORAS as LORA_FOLDER
from .bars import ProgressBars
from .options import path_of

_ALL = "all"


@dataclass(frozen=True)
class _Job:
    """Files of one repository: all that the pack uses, or `names`."""

    repo: str
    folder: Path
    names: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    hint: str = ""


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "download",
        help="download published models, LoRAs and detector weights",
        description="Download published models, LoRAs and the weights of detectors for control "
        "videos. Interrupted downloads resume, every file is verified against its published hash, "
        "and complete files are not downloaded again.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; --list shows them")
    parser.add_argument("--list", action="store_true", help="list the models and exit")
    parser.add_argument("--source", choices=list(SOURCES), default=HUGGINGFACE,
                        help=f"site to download from, default: {HUGGINGFACE}")  # fmt: skip
    parser.add_argument("--only", type=_commas, default=(), metavar="PARTS",
                        help="only these folders of a model, such as transformer,vae")  # fmt: skip
    parser.add_argument("--to", type=path_of, metavar="DIR",
                        help="folder to download to; default: ComfyUI's")  # fmt: skip
    parser.add_argument("--loras", nargs="*", metavar="NAME",
                        help="these LoRAs, or all of them if no name is given")  # fmt: skip
    parser.add_argument("--annotators", type=_commas, default=(), metavar="KINDS",
                        help="weights for these kinds of control videos, such as hed,openpose, or "
                        "all; some have variants, such as depth_anything_v2:Large")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Download the given names, one repository after the other."""
    places = find_places(PACK, os.environ)
    if places.problem:
        print(f"warning: {places.problem} Its folders are not used.", file=sys.stderr)
    if arguments.list:
        return _list(places, arguments.to)
    jobs = list(_jobs(arguments, places))  # checks names before downloading
    if not jobs and not arguments.annotators:
        raise InputError(
            "Nothing to download. Name a model (see --list), or use --loras, --annotators."
        )
    source = SOURCES[arguments.source]()
    try:
        for job in jobs:
            _fetch(job, source)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("The same command resumes.") from None
    return 0


def _commas(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _jobs(arguments: argparse.Namespace, places: Places) -> Iterator[_Job]:
    if arguments.only and not arguments.names:
        raise InputError("--only is for models; add the name of a model.")
    for name in arguments.names:
        model = find_model(name)
        hint = "" if model.seen else " This repository is only presumed from its siblings."
        folder = target_folder(name, _targets(arguments.to, places, CHECKPOINTS))
        yield _Job(model.repo(arguments.source), folder, only=arguments.only, hint=hint)
    if arguments.loras is not None:
        names = arguments.loras or list(LORAS)
        files = tuple(find_lora(name).file for name in names)
        repo = f"{OWNERS[arguments.source]}/{LORA_REPO}"
        yield _Job(repo, _targets(arguments.to, places, LORA_FOLDER)[0], files)
    if arguments.annotators:
        if arguments.source != HUGGINGFACE:
            raise InputError(f"Detector weights are only on {HUGGINGFACE}; omit --source.")
        yield from _annotators(arguments.annotators, _targets(arguments.to, places, DETECTORS)[0])


def _targets(given: Path | None, places: Places, key: str) -> list[Path]:
    folders = [given] if given else places.folders(key)
    if not folders:
        raise InputError(
            f"{PACK} is not in the custom_nodes folder of a ComfyUI; set the folder with --to DIR."
        )
    return folders


def _annotators(kinds: Sequence[str], folder: Path) -> Iterator[_Job]:
    """One job per repository, without files that are already installed."""
    from ..preprocess import KINDS, locate

    wanted: dict[str, list[str]] = {}
    for text in KINDS if _ALL in kinds else kinds:
        name, _, choice = text.partition(":")
        if name not in KINDS:
            raise InputError(f"The kind {name!r} is unknown; available are {', '.join(KINDS)}.")
        files = KINDS[name].files_for(choice)
        if not files:
            print(f"{name} needs no weights.")
        for file in files:
            found = locate(file, [folder])
            if found is not None and not found.is_relative_to(folder / file.repo):
                print(f"{name}: {file.name} is already installed, {found}")
            elif file.name not in wanted.setdefault(file.repo, []):
                wanted[file.repo].append(file.name)
    for repo, names in wanted.items():
        yield _Job(repo, folder / repo, tuple(names))


def _fetch(job: _Job, source: Source) -> None:
    try:
        repository = source.open(job.repo)
    except DownloadError as error:
        raise DownloadError(f"{error}{job.hint}") from error
    if job.names:
        files = named_files(repository.files, job.names)
    else:
        files = model_files(repository.files, job.only)
    wanted = find_missing(repository, job.folder, files)
    print(wanted.summary)
    with ProgressBars() as bars:
        download(wanted, bars, _say)
    print(f"{job.repo} is complete: {job.folder}")


def _say(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text)


def _list(places: Places, given: Path | None) -> int:
    folders = [given] if given else places.folders(CHECKPOINTS)
    loras = [given] if given else places.folders(LORA_FOLDER)
    columns = "{:<48} {:<5} {:<4} {:<14} {:>5}  {:<12} {:<6} {}"
    print(
        columns.format("NAME", "", "size", "head", "disk", "licence", "here", "graphics memory *")
    )
    for model in MODELS.values():
        disk = f"{model.gigabytes} GB" if model.gigabytes else "?"
        name = model.name if model.seen else f"{model.name} **"
        here = model_state(model, folders)
        row = (name, model.version.value, model.size, model.head.value, disk, model.licence, here)
        print(columns.format(*row, model.memory))
    print("\nLoRAs of V5's InP models (--loras)")
    states = lora_states(loras)
    for lora in LORAS.values():
        print(f"{lora.name:<48} {lora.gigabytes} GB  installed: {states[lora.name]}")
    print("\n*  Smallest GPU for height x width x frames without layer-by-layer offload, as")
    print("   published for the original with its CPU offload and qfloat8.")
    print("** Name presumed from its siblings, never seen.")
    print("Folders: " + (", ".join(map(str, folders)) or "none: not inside ComfyUI; see --to"))
    return 0
