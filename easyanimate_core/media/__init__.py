"""Reading, aligning and writing images and videos."""

from .align import (
    AlignedClip,
    AlignmentReport,
    align_clip,
    align_mask,
    available_frames,
    pick_frames,
)
from .canvas import drawn_pixels
from .clip import Clip, Fit, Masks, VideoFacts
from .contact_sheet import contact_sheet
from .film import StreamedFrame, damaged
from .given import Source, load_clip, load_image, load_masks, load_picture
from .lines import ground_of_lines, resize_lines
from .paths import PICTURE_SUFFIXES, VIDEO_SUFFIXES, find_sequence, media_path
from .pictures import NotAPictureError, PictureFacts, is_animation, picture_facts
from .reader import (
    read_any,
    read_facts,
    read_image,
    read_mask,
    read_masks,
    read_metadata,
    read_still,
    read_video,
    stream_frames,
)
from .scale import check_mask, check_pixels, resize_cover
from .times import DEFAULT_FPS, Timing
from .writer import open_mp4, to_bytes, write_frames, write_json, write_mp4, write_png

__all__ = [
    "DEFAULT_FPS",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "AlignedClip",
    "AlignmentReport",
    "Clip",
    "Fit",
    "Masks",
    "NotAPictureError",
    "PictureFacts",
    "Source",
    "StreamedFrame",
    "Timing",
    "VideoFacts",
    "align_clip",
    "align_mask",
    "available_frames",
    "check_mask",
    "check_pixels",
    "contact_sheet",
    "damaged",
    "drawn_pixels",
    "find_sequence",
    "ground_of_lines",
    "is_animation",
    "load_clip",
    "load_image",
    "load_masks",
    "load_picture",
    "media_path",
    "open_mp4",
    "pick_frames",
    "picture_facts",
    "read_any",
    "read_facts",
    "read_image",
    "read_mask",
    "read_masks",
    "read_metadata",
    "read_still",
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
