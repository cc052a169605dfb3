"""The modes: what a user provides besides the prompt, and how it becomes the model's inputs."""

from .camera import Camera
from .control import Control
from .image_to_video import ImageToVideo
from .loaded import DEFAULT_FRAMES, Loaded, Target
from .modes import TASKS, check_head
from .region_edit import RegionEdit
from .task import Task
from .text_to_video import TextToVideo
from .trajectory import Trajectory
from .video_to_video import VideoToVideo

__all__ = [
    "DEFAULT_FRAMES",
    "TASKS",
    "Camera",
    "Control",
    "ImageToVideo",
    "Loaded",
    "RegionEdit",
    "Target",
    "Task",
    "TextToVideo",
    "Trajectory",
    "VideoToVideo",
    "check_head",
]
