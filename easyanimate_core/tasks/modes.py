"""The table of modes, and which model can run which."""

from __future__ import annotations

from ..conditioning.channels import takes_no_reference
from ..errors import HeadError
from ..models.specs import Head, TransformerConfig, Version
from .camera import Camera
from .control import Control
from .image_to_video import ImageToVideo
from .region_edit import RegionEdit
from .task import Task
from .text_to_video import TextToVideo
from .trajectory import Trajectory
from .video_to_video import VideoToVideo

#: Mode name to task class.
TASKS: dict[str, type[Task]] = {
    task.mode: task
    for task in (
        TextToVideo,
        ImageToVideo,
        VideoToVideo,
        RegionEdit,
        Control,
        Camera,
        Trajectory,
    )
}


def check_head(task: Task, config: TransformerConfig) -> None:
    """Raise `HeadError`, naming the required head, unless the model's head can do the task."""
    name = task.mode.replace("_", " ")
    if config.head not in task.heads:
        needed = " or ".join(head.value for head in task.heads)
        version = Version.V5_1 if Head.CAMERA in task.heads else config.version
        raise HeadError(
            f"A {config.head.value} checkpoint cannot do {name}: it needs the {needed} head. "
            f"Load an EasyAnimate {version.value} checkpoint with that head."
        )
    if task.reference is not None and not config.has_reference:
        raise takes_no_reference(config)
