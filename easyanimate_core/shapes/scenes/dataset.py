"""Writes synthetic clips to files: videos, control files and manifests for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...files import atomic_folder, check_folder
from ...progress import Progress, silent
from .caption import LANGUAGES, caption
from .render import CONTROLS, Rendered, camera_of, control_video, render, tracks_of
from .scene import Scene, make_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: Files that can be written with every clip: videos, camera files (.txt) and tracks (.json).
FILES = (*CONTROLS, "masks", "camera", "tracks")

FPS = 8

_SHEET_ROWS = 12
_SHEET_CELL = 112


@dataclass(frozen=True)
class ClipSet:
    """`count` scenes from `make_scene`, and the files to write for them.

    Each language adds an entry to the manifest. `controls` are a subset of `FILES`.
    """

    count: int
    seed: int = 0
    kind: str = "mixed"
    look: str = "textured"
    size: tuple[int, int] = (96, 96)
    frames: int = 17
    languages: tuple[str, ...] = ("en",)
    controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"The count of clips is {self.count}; it must be 1 or more.")
        for name, values, known in (
            ("languages", self.languages, LANGUAGES),
            ("controls", self.controls, FILES),
        ):
            if len(set(values)) != len(values) or not set(values) <= set(known):
                raise InputError(
                    f"The {name} are {', '.join(values)}; each must be one of {', '.join(known)} "
                    "and be named once."
                )
        if not self.languages:
            raise InputError(f"No language is named; at least one of {', '.join(LANGUAGES)} is.")
        if self.size[0] % 2 or self.size[1] % 2:
            raise InputError(
                f"The size is {self.size[0]} x {self.size[1]}; H.264 needs even sides."
            )
        self.scene(0)  # raises for values that no scene can have

    def scene(self, index: int) -> Scene:
        """Scene `index` of the dataset."""
        height, width = self.size
        return make_scene(
            self.seed,
            index,
            kind=self.kind,
            height=height,
            width=width,
            frames=self.frames,
            look=self.look,
        )


def write_clips(folder: Path, clips: ClipSet, progress: Progress = silent) -> Path:
    """Write `clips` to `folder`, which must be new or empty; returns the manifest's path.

    `metadata.json` lists {"file_path", "text", "type"} for every clip and language, with paths
    relative to `folder`. The first control is its "control_file_path"; each further one has its own
    manifest, metadata_NAME.json. A clip in which nothing moves has no tracks, and no control path
    for them. `contact_sheet.png` shows the first clips. The folder appears complete or not at all.
    """
    check_folder(folder, "place for new clips", lambda _: False)
    with atomic_folder(folder) as scratch:
        _write_all(scratch, clips, progress)
    return folder / "metadata.json"


def _write_all(folder: Path, clips: ClipSet, progress: Progress) -> None:
    from ...media import contact_sheet, write_json, write_png

    names: tuple[str | None, ...] = clips.controls or (None,)
    manifests: dict[str | None, list[dict[str, str]]] = {name: [] for name in names}
    rows: list[tuple[str, Tensor]] = []
    for index in range(clips.count):
        scene, stem = clips.scene(index), f"{index:06d}"
        rendered = render(scene)
        frames = _tensor(rendered.frames) / 255
        video = _write_video(folder, "clips", stem, frames)
        if index < _SHEET_ROWS:
            rows.append((caption(scene), frames))
        for name, entries in manifests.items():
            control = None if name is None else _write_control(folder, name, stem, scene, rendered)
            entries.extend(_entries(scene, video, control, clips.languages))
        progress("draw", index + 1, clips.count)
    write_png(folder / "contact_sheet.png", contact_sheet(rows, cell_width=_SHEET_CELL))
    for name in names[1:]:
        write_json(folder / f"metadata_{name}.json", manifests[name])
    write_json(folder / "metadata.json", manifests[names[0]])


def _entries(
    scene: Scene, video: str, control: str | None, languages: Sequence[str]
) -> Iterator[dict[str, str]]:
    for language in languages:
        entry = {"file_path": video, "text": caption(scene, language), "type": "video"}
        yield entry if control is None else entry | {"control_file_path": control}


def _write_control(
    folder: Path, name: str, stem: str, scene: Scene, rendered: Rendered
) -> str | None:
    """Write a control file; its path relative to `folder`, or None if the scene has none."""
    from ...files import atomic_file
    from ...paths.camera import write_camera_file
    from ...paths.trajectory import tracks_to_json

    if name == "camera":
        write_camera_file(folder / name / f"{stem}.txt", camera_of(scene))
        return f"{name}/{stem}.txt"
    if name == "tracks":
        tracks = tracks_of(scene)
        if not tracks:
            return None
        with atomic_file(folder / name / f"{stem}.json") as temporary:
            temporary.write_text(tracks_to_json(tracks), encoding="utf-8")
        return f"{name}/{stem}.json"
    if name == "masks":
        masks_FHW1 = _tensor(rendered.masks)[..., None]
        return _write_video(folder, name, stem, masks_FHW1.expand(-1, -1, -1, 3))
    return _write_video(folder, name, stem, _tensor(control_video(scene, name)))


def _write_video(folder: Path, part: str, stem: str, frames: Tensor) -> str:
    from ...media import write_mp4

    write_mp4(folder / part / f"{stem}.mp4", frames, fps=FPS)
    return f"{part}/{stem}.mp4"


def _tensor(values: NDArray[Any]) -> Tensor:
    import torch

    return torch.from_numpy(values).to(torch.float32)
