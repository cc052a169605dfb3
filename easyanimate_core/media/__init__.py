"""Pictures and videos: reading, aligning and writing."""

from ..files import atomic_file
from .align import (
    AlignedClip,
    AlignmentReport,
    align_clip,
    align_mask,
    available_frames,
    check_mask,
    check_pixels,
    pick_frames,
    resize_cover,
)
from .canvas import drawn_pixels
from .contact_sheet import contact_sheet
from .lines import ground_of_lines, resize_lines
from .reader import (
    Clip,
    StreamedFrame,
    VideoFacts,
    read_facts,
    read_image,
    read_mask,
    read_metadata,
    read_video,
    stream_frames,
)
from .writer import DEFAULT_FPS, open_mp4, to_bytes, write_frames, write_json, write_mp4, write_png

__all__ = [
    "DEFAULT_FPS",
    "AlignedClip",
    "AlignmentReport",
    "Clip",
    "StreamedFrame",
    "VideoFacts",
    "align_clip",
    "align_mask",
    "atomic_file",
    "available_frames",
    "check_mask",
    "check_pixels",
    "contact_sheet",
    "drawn_pixels",
    "ground_of_lines",
    "open_mp4",
    "pick_frames",
    "read_facts",
    "read_image",
    "read_mask",
    "read_metadata",
    "read_video",
    "resize_cover",
    "resize_lines",
    "stream_frames",
    "to_bytes",
    "write_frames",
    "write_json",
    "write_mp4",
    "write_png",
]
