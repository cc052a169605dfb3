"""Video files read by FFmpeg: decodes the stream that a player shows, with its frame times."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import MediaError, counted
from ..files.packages import pip_command
from .colours import ColourSpace
from .film import Film, StreamedFrame
from .paths import check_is_file
from .seen import MAX_PIXELS, UNSPECIFIED, Look, Orientation, check_pixels_of, see, shown_size
from .times import Timing

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.filter import Graph
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

REENCODE = "Re-encode it, for example with: ffmpeg -i input -r 24 output.mp4"

# Without a whitelist FFmpeg also "plays" text files, playlists that open other files, and images.
_CONTAINERS = "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,yuv4mpegpipe,h264,hevc"

# A file that ends this long before its declared end is truncated; container clocks are coarse.
_MISSING_SECONDS = 0.5

# A shorter duration is a tick of the container's clock, not a frame's real duration.
_SHORTEST_SECONDS = 0.002

# Frames that are decoded before the first one needed: deinterlacing looks at its neighbours.
_RUN_UP = 2
# How far the order of decoding may differ from that of display; more is a jump of the clock.
_MAX_REORDERED = 32

# Dolby Vision profiles that need a Dolby player; others, as from phones, carry HLG or PQ.
_DOLBY_ALONE = ("dvh1", "dvhe", "dva1", "dvav", "dav1")

# FFmpeg's native decoders drop the alpha of these.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@contextmanager
def open_container(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a file with FFmpeg, converting its errors to `MediaError`."""
    import av

    file = check_is_file(path)
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    # Metadata that is not valid UTF-8 is decoded with replacements; PyAV 19 does so itself.
    texts: dict[str, Any] = {}
    if int(av.__version__.split(".")[0]) < 19:
        texts = {"metadata_errors": "replace"}
    try:
        with av.open(f"file:{file}", options=options, **texts) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{file} is not a video in a known format, or is damaged or cut off: {error.strerror}."
        ) from error


@contextmanager
def open_film(
    path: str | os.PathLike[str], *, threads: int = 0, start: float = 0.0
) -> Iterator[Film]:
    """Open a video file; `threads` is the number of decoder threads, 0 for automatic.

    Frames that end well before `start` may be left out; the others are numbered as without it.

    Raises:
        MediaError: The file is missing, not a video, without frames, damaged or truncated; some of
            this is only found while the frames are read.
    """
    entry = _entry(path, start) if start else None
    if entry is not None:
        with open_container(path) as container:
            stream = film_stream(path, container)
            notes: list[str] = []
            frames = _frames(path, container, stream, notes, threads, entry)
            first = _first_at(entry, container, stream, frames)
            if first is not None:
                yield Film(declared_rate(path, stream), chain([first], frames), notes)
                return
    with open_container(path) as container:
        stream = film_stream(path, container)
        notes = []
        frames = _frames(path, container, stream, notes, threads)
        yield Film(declared_rate(path, stream), frames, notes)


def film_stream(path: str | os.PathLike[str], container: InputContainer) -> VideoStream:
    """The stream that a player shows: preferably not a still, the default one, the largest.

    Cover art of audio files does not count as video.
    """
    import av

    streams = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None
        and not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        if not len(container.streams) and _is_cut_off(Path(path).expanduser()):
            raise MediaError(f"{path} is cut off: its index is incomplete. Copy it again.")
        raise MediaError(f"{path} has no video stream.")

    def importance(stream: VideoStream) -> tuple[bool, bool, int]:
        context = stream.codec_context
        default = bool(stream.disposition & av.stream.Disposition.default)
        return stream.frames != 1, default, context.width * context.height

    return max(streams, key=importance)


def declared_rate(path: str | os.PathLike[str], stream: VideoStream) -> float:
    """Frames per second as declared in the file."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise MediaError(f"{path} does not declare a frame rate. {REENCODE}")
    return float(rate)


def film_times(path: str | os.PathLike[str]) -> tuple[int, float, float, float, bool]:
    """Frames, seconds, declared rate, constant rate that hits the frames, and whether it is exact.

    Taken from the header if possible; otherwise the whole file is demuxed, without decoding.
    """
    with open_container(path) as container:
        stream = film_stream(path, container)
        rate, tick = declared_rate(path, stream), float(stream.time_base or 0)
        is_even = abs(float(stream.base_rate or rate) / rate - 1) < 0.005
        if stream.frames and stream.duration and tick and is_even:
            return stream.frames, stream.duration * tick, rate, rate, True
        packets = [(p.pts, p.duration) for p in container.demux(stream) if p.size]
        if not packets:
            raise MediaError(f"{path} has a video stream without frames.")
        clock = _Clock(rate, tick)
        packets.sort(key=lambda packet: -1 if packet[0] is None else packet[0])
        times = [clock.times(i, pts, duration) for i, (pts, duration) in enumerate(packets)]
        timing = Timing.of_frames([start for start, _ in times], times[-1][1], rate)
        return len(times), timing.end, rate, timing.even_rate(rate), timing.is_even


def _is_cut_off(file: Path) -> bool:
    """Whether a box of an MP4 extends past the end of the file."""
    size, place = file.stat().st_size, 0
    with file.open("rb") as opened:
        while place + 8 <= size:
            opened.seek(place)
            head = opened.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:  # extends to the end, or is not a box
                return False
            place += length
    return place != size


class _Entry(NamedTuple):
    """A keyframe where decoding can begin: its timestamp, and the times of frames by theirs."""

    pts: int
    number: int
    times: Mapping[int, tuple[float, float]]


def _entry(path: str | os.PathLike[str], start: float) -> _Entry | None:
    """The last keyframe before `start`; None if only decoding from the first frame is exact.

    The file is demuxed, which is quick, so that frames are numbered and timed as in a full decode.
    """
    with open_container(path) as container:
        stream = film_stream(path, container)
        clock = _Clock(declared_rate(path, stream), float(stream.time_base or 0))
        packets = []
        for packet in container.demux(stream):
            if packet.size:
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    return None
                packets.append((packet.pts, len(packets), packet.duration, packet.is_keyframe))
    packets.sort()
    shuffled = any(abs(i - order) > _MAX_REORDERED for i, (_, order, *_) in enumerate(packets))
    times = {pts: clock.times(i, pts, took) for i, (pts, _, took, _) in enumerate(packets)}
    if shuffled or len(times) < len(packets):  # timestamps that jump, or occur twice
        return None
    shown = bisect_right([begin for begin, _ in times.values()], start) - 1
    keys = [i for i, packet in enumerate(packets) if packet[3] and 0 < i <= shown - _RUN_UP]
    return _Entry(packets[keys[-1]][0], keys[-1], times) if keys else None


def _first_at(
    entry: _Entry,
    container: InputContainer,
    stream: VideoStream,
    frames: Iterator[StreamedFrame],
) -> StreamedFrame | None:
    """Seek to a keyframe and decode it; None if the file does not give it."""
    import av

    try:
        container.seek(entry.pts, stream=stream)
        first = next(frames, None)
    except (av.FFmpegError, MediaError):
        return None
    return first if first is not None and first.start == entry.times[entry.pts][0] else None


class _Clock:
    """Computes frame times in seconds after the first frame, in order."""

    def __init__(self, rate: float, tick: float) -> None:
        self._rate, self._tick = rate, tick
        # A frame within the clock's resolution of the declared rate counts as on it.
        self._tolerance = min(1.01 * tick, 0.25 / rate)
        self._first: int | None = None
        self._jump = 0.0
        self._last, self._gap = 0.0, 1 / rate

    def times(self, number: int, pts: int | None, duration: int | None) -> tuple[float, float]:
        """Start and end; timestamps that run backwards continue from the previous frame."""
        even = number / self._rate
        start = even
        if pts is not None and self._tick:
            self._first = pts if self._first is None else self._first
            start = (pts - self._first) * self._tick + self._jump
            if start < self._last:
                self._jump += self._last + self._gap - start
                start = self._last + self._gap
            start = self._on_rate(start, number)
        self._gap = (start - self._last) or self._gap
        self._last = start
        seconds = (duration or 0) * self._tick
        if seconds < _SHORTEST_SECONDS:
            seconds = self._gap
        return start, self._on_rate(start + seconds, number + 1)

    def _on_rate(self, moment: float, number: int) -> float:
        even = number / self._rate
        return even if abs(moment - even) <= self._tolerance else moment


def _frames(
    path: str | os.PathLike[str],
    container: InputContainer,
    stream: VideoStream,
    notes: list[str],
    threads: int,
    entry: _Entry | None = None,
) -> Iterator[StreamedFrame]:
    """Yield every frame with its time; `MediaError` if the file ends before its declared end.

    With `entry`, the file has been sought to it, and frames before it are dropped.
    """
    clock = _Clock(declared_rate(path, stream), float(stream.time_base or 0))
    decoder = _decoder(path, stream, threads)
    look, is_damaged = None, False
    pictures = _decoded(path, container, stream, decoder)
    if entry is not None:
        pictures = (picture for picture in pictures if (picture.pts or 0) >= entry.pts)
    decoded = _without_fields(pictures, notes)
    for number, picture in enumerate(decoded, 0 if entry is None else entry.number):
        if look is None:
            look = _look_of(stream, decoder)
            notes += look.notes(picture.frame)
        if entry is None:
            start, end = clock.times(number, picture.pts, picture.duration)
        elif picture.pts in entry.times:
            start, end = entry.times[picture.pts]
        else:
            raise MediaError(f"{path} is damaged: it has frames at unknown times. {REENCODE}")
        seen = partial(see, path, picture.frame, look, picture.orientation)
        size = shown_size(path, picture.frame, look, picture.orientation)
        if picture.is_damaged and not is_damaged:
            is_damaged = True
            notes.append(f"It is damaged from frame {number} on; missing parts are filled in.")
        yield StreamedFrame(number, start, end, seen, picture.is_damaged, size)


class _Decoded(NamedTuple):
    """A frame as stored, with the properties that filters may lose."""

    frame: VideoFrame
    orientation: Orientation
    pts: int | None
    duration: int | None
    is_damaged: bool


def _decoded(
    path: str | os.PathLike[str],
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext,
) -> Iterator[_Decoded]:
    durations: dict[int | None, int | None] = {}
    number, size, picture = 0, None, None
    orientations: dict[int, Orientation] = {}
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise MediaError(
                f"{path} is damaged or cut off after {counted(number, 'frame')}. {REENCODE}"
            )
        durations[packet.pts] = packet.duration
        for frame in decoder.decode(packet):
            if size not in (None, (frame.height, frame.width)):
                raise MediaError(f"{path} changes its picture size within the video. {REENCODE}")
            size = (frame.height, frame.width)
            pts = frame.dts if frame.pts is None else frame.pts
            # Reading side data creates a reference cycle that keeps the frame (12 MB in 4K) until
            # the next garbage collection.
            if frame.rotation not in orientations:
                orientations[frame.rotation] = Orientation.of(path, frame)
            upright = orientations[frame.rotation]
            duration = durations.pop(pts, None)
            picture = _Decoded(frame, upright, pts, duration, frame.is_corrupt)
            yield picture
            number += 1
    if picture is None:
        raise MediaError(f"{path} has a video stream without frames.")
    if stream.duration and stream.time_base and picture.pts is not None:
        end = (stream.start_time or 0) + stream.duration
        missing = float((end - picture.pts - (picture.duration or 0)) * stream.time_base)
        if missing > _MISSING_SECONDS + 2 / float(stream.average_rate or 1):
            raise MediaError(
                f"{path} is cut off: it ends {missing:.1f} seconds before its declared end, after "
                f"{counted(number, 'frame')}. Copy it again, or re-encode what is left."
            )


def _without_fields(decoded: Iterator[_Decoded], notes: list[str]) -> Iterator[_Decoded]:
    """Deinterlace: keep the first field of each interlaced frame and fill in its lines."""
    graph, waiting = None, deque[_Decoded]()
    for picture in decoded:
        if graph is None:
            if not picture.frame.interlaced_frame:
                yield picture
                continue
            graph = _deinterlacer(picture.frame)
            notes.append(
                "It is interlaced: each picture holds two moments in alternating lines. It was "
                "deinterlaced."
            )
        waiting.append(picture)
        graph.push(picture.frame)
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, waiting)


def _deinterlacer(frame: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    # One output frame per input frame; progressive frames pass through.
    filtered = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Graph, waiting: deque[_Decoded]) -> Iterator[_Decoded]:
    import av

    while waiting:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield waiting.popleft()._replace(frame=frame)


def _decoder(path: str | os.PathLike[str], stream: VideoStream, threads: int) -> VideoCodecContext:
    """A decoder for the stream that keeps transparency, with limited memory."""
    import av
    from av.codec.codec import UnknownCodecError

    context = stream.codec_context
    check_pixels_of(path, context.height, context.width)
    if context.codec_tag in _DOLBY_ALONE and int(context.color_trc) == UNSPECIFIED:
        raise MediaError(
            f"{path} is Dolby Vision without a fallback for other players, so its colours cannot "
            "be decoded. Export it as HDR10, HLG or SDR from the camera or the editor."
        )
    if stream.metadata.get("alpha_mode") == "1" and context.name in _ALPHA_DECODERS:
        try:
            alpha: Any = av.CodecContext.create(_ALPHA_DECODERS[context.name], "r")
        except UnknownCodecError as error:
            raise MediaError(
                f"{path} has transparency that this PyAV cannot decode (it lacks libvpx). Install "
                f"PyAV from PyPI: {pip_command('--force-reinstall', 'av')}"
            ) from error
        alpha.extradata = context.extradata
        context = alpha
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_type = "AUTO"
    if threads:
        context.thread_count = threads
    return context


def _look_of(stream: VideoStream, decoder: VideoCodecContext) -> Look:
    """The colour properties stated by the decoder, which has seen the frames, or the container."""
    container = stream.codec_context

    def stated(name: str) -> int:
        values = [int(getattr(context, name)) for context in (decoder, container)]
        return next((value for value in values if value != UNSPECIFIED), UNSPECIFIED)

    return Look(
        aspect=Fraction(stream.sample_aspect_ratio or 1),
        colours=ColourSpace(stated("color_trc"), stated("color_primaries")),
        matrix=stated("colorspace"),
    )
