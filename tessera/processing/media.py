"""Videos and documents become lists of pictures.

Frames are taken at the middle of equal segments, as the published recipe does. Only containers
named in `_CONTAINERS` are opened, each by its own demuxer: a playlist that points at other files is
none of them. Needs the extra `media`, except for GIF and folders of frames.
"""

from __future__ import annotations

import io
import os
import re
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from PIL import GifImagePlugin, Image

from tessera.errors import ImageError, UserError
from tessera.processing.image import ImageLimits, ImageMode, open_image, printable
from tessera.processing.picture_colour import FOREIGN_FAILURES, to_upright_rgb
from tessera.processing.picture_header import describe, read_header

MediaSource = str | os.PathLike[str] | bytes
_FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic")
_NO_JUMPS = ("mpeg",)  # FFmpeg gives frames behind a jump the times of their neighbours
_PDFIUM_LOCK = threading.Lock()  # PDFium is not thread-safe
_PDF_PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD
_CONTAINERS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("mov", lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")),
    ("matroska", lambda head: head.startswith(b"\x1a\x45\xdf\xa3")),
    ("avi", lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI "),
    ("mpegts", lambda head: len(head) > 376 and head[0] == head[188] == head[376] == 0x47),
    ("mpeg", lambda head: head.startswith(b"\0\0\x01\xba")),
    ("flv", lambda head: head.startswith(b"FLV\x01")),
    ("ogg", lambda head: head.startswith(b"OggS")),
    ("asf", lambda head: head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
)


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What a video or a document may cost."""

    max_frames: int = 512  # taken from one video
    max_stream_frames: int = 2_000_000  # in one video; 18 hours at 30 per second
    max_frame_pixels: int = 36_000_000  # 8K
    max_decoded_pixels: int = 60_000_000_000  # between key frames too; minutes of decoding
    max_pages: int = 64  # taken from one document
    max_page_pixels: int = 20_000_000  # larger pages are drawn smaller
    max_document_bytes: int = 256 * 2**20


def frame_indices(
    num_stream_frames: int, num_frames: int, *, clip: tuple[int, int] | None = None
) -> list[int]:
    """Choose the frames in the middle of `num_frames` equal segments of the video.

    `clip` holds the first and the last index to consider, both included. A video shorter than
    `num_frames` repeats some, as the published recipe does.
    """
    if num_frames < 1:
        raise ImageError(f"{num_frames} frames cannot be taken from a video; ask for one or more")
    last = num_stream_frames - 1
    start, end = clip or (0, last)
    start, end = max(0, start), min(end, last)
    if not start <= end:
        raise ImageError(f"the clip {clip} lies outside a video of {num_stream_frames} frames")
    segment = (end - start) / num_frames
    return [int(start + segment / 2 + round(segment * step)) for step in range(num_frames)]


def video_frames(
    source: MediaSource,
    num_frames: int = 8,
    *,
    clip_s: tuple[float, float] | None = None,
    mode: ImageMode = "upright",
    limits: MediaLimits | None = None,
) -> list[Image.Image]:
    """Take RGB frames, evenly spread, from a video file, a GIF or a folder of numbered pictures.

    `clip_s` limits them to a span in seconds, of a video file only. Raises ImageError for what
    cannot be read, UserError when the extra `media` is missing.
    """
    limits = limits or MediaLimits()
    if num_frames > limits.max_frames:
        raise ImageError(f"{num_frames} frames are too many; at most {limits.max_frames} are taken")
    if not isinstance(source, bytes) and os.path.isdir(source):
        return _folder_frames(Path(source), num_frames, mode=mode)
    name = "video (bytes)" if isinstance(source, bytes) else printable(os.fspath(source))
    with _open_binary(source, name) as file:
        head = file.read(4096)
        file.seek(0)
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _gif_frames(file, num_frames, limits=limits, name=name)
        container = next((kind for kind, fits in _CONTAINERS if fits(head)), None)
        if container is None:
            what = "empty (0 bytes)" if not head else describe(head)
            raise ImageError(f"{name} is {what}, not a video that can be opened; give MP4 or WebM")
        return _stream_frames(_Video(file, container, name, limits), num_frames, clip_s)


def _open_binary(source: MediaSource, name: str) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not os.path.isfile(source):
        problem = "is not an ordinary file" if os.path.exists(source) else "does not exist"
        raise ImageError(f"{name} {problem}; check the path")
    try:
        return open(source, "rb")
    except OSError:
        raise ImageError(f"{name} cannot be read; check its permissions") from None


def _folder_frames(folder: Path, num_frames: int, *, mode: ImageMode) -> list[Image.Image]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in _FRAME_SUFFIXES]
    if not found:
        raise ImageError(
            f"{printable(str(folder))} holds no frames; put pictures there named like frame_1.jpg"
        )
    frames = sorted(found, key=lambda path: natural_key(path.name))
    return [open_image(frames[i], mode=mode) for i in frame_indices(len(frames), num_frames)]


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key by which frame_2 comes before frame_10."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    return [(int(part), "") if part[0].isdecimal() else (-1, part) for part in parts]


def _gif_frames(
    file: IO[bytes], num_frames: int, *, limits: MediaLimits, name: str
) -> list[Image.Image]:
    data = file.read(ImageLimits().max_bytes + 1)
    header = read_header(data)
    if len(data) > ImageLimits().max_bytes or header is None or header.size is None:
        raise ImageError(f"{name} is a GIF that is too large or damaged; convert it to MP4")
    width, height = header.size
    _check_cost(width * height, header.num_frames, limits, name)
    wanted = frame_indices(max(header.num_frames, 1), num_frames)
    taken: dict[int, Image.Image] = {}
    try:
        with GifImagePlugin.GifImageFile(io.BytesIO(data)) as gif:
            for index in sorted(set(wanted)):
                gif.seek(index)
                gif.load()
                _check_cost(gif.width * gif.height, 1, limits, name)
                taken[index] = to_upright_rgb(gif)
    except FOREIGN_FAILURES:
        raise ImageError(f"{name} is a damaged GIF; save or download it again") from None
    return [taken[index] for index in wanted]


def _check_cost(pixels: int, num_frames: int, limits: MediaLimits, name: str) -> None:
    if pixels > limits.max_frame_pixels:
        raise ImageError(
            f"{name} has frames of {pixels:,} pixels, the limit is {limits.max_frame_pixels:,};"
            " make it smaller"
        )
    if pixels * num_frames > limits.max_decoded_pixels or num_frames > limits.max_stream_frames:
        raise ImageError(f"{name} has {num_frames:,} frames to decode, too many; cut it shorter")


@dataclass(frozen=True)
class _Video:
    file: IO[bytes]
    container: str
    name: str
    limits: MediaLimits


def _import_av() -> Any:
    try:
        import av
    except ImportError:
        raise UserError("videos need PyAV; pip install 'tessera-vl[media]'") from None
    return av


def _stream_frames(
    video: _Video, num_frames: int, clip_s: tuple[float, float] | None
) -> list[Image.Image]:
    av = _import_av()
    try:
        with _open_container(av, video) as container:
            stream = container.streams.video[0]
            times, key_times = _presentation_times(container, stream, video)
            clip = None if clip_s is None else _clip(times, clip_s, float(stream.time_base))
        wanted = [times[index] for index in frame_indices(len(times), num_frames, clip=clip)]
        jumps = [] if video.container in _NO_JUMPS else key_times
        with _open_container(av, video) as container:
            decoder = _Decoder(container, container.streams.video[0], jumps, video)
            taken = {time: decoder.frame_at(time) for time in sorted(set(wanted))}
    except (av.FFmpegError, *FOREIGN_FAILURES):
        raise ImageError(f"{video.name} is a damaged video; save or download it again") from None
    return [taken[time] for time in wanted]


def _open_container(av: Any, video: _Video) -> Any:
    video.file.seek(0)
    container = av.open(video.file, format=video.container, metadata_errors="replace")
    if not container.streams.video:
        container.close()
        raise ImageError(f"{video.name} has sound but no picture; give a video")
    return container


def _presentation_times(container: Any, stream: Any, video: _Video) -> tuple[list[int], list[int]]:
    """List when each frame and each key frame is shown, from the packets; nothing is decoded."""
    pixels = stream.codec_context.width * stream.codec_context.height
    _check_cost(pixels, 1, video.limits, video.name)
    times, key_times = [], []
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None and not packet.is_discard:
            times.append(packet.pts)
            if packet.is_keyframe:
                key_times.append(packet.pts)
        if len(times) > video.limits.max_stream_frames:
            _check_cost(pixels, len(times), video.limits, video.name)
    if not times:
        raise ImageError(f"{video.name} holds no frames; save or download it again")
    return sorted(set(times)), sorted(key_times)


def _clip(times: Sequence[int], clip_s: tuple[float, float], time_base: float) -> tuple[int, int]:
    seconds = [(time - times[0]) * time_base for time in times]
    inside = [i for i, second in enumerate(seconds) if clip_s[0] <= second <= clip_s[1]]
    if not inside:
        raise ImageError(f"no frame lies between {clip_s[0]} s and {clip_s[1]} s; check the clip")
    return inside[0], inside[-1]


class _Decoder:
    """Frames by the time they are shown, asked for in order; jumps where a key frame allows it."""

    def __init__(
        self, container: Any, stream: Any, key_times: Sequence[int], video: _Video
    ) -> None:
        self._container, self._stream, self._video = container, stream, video
        self._key_times = key_times
        self._frames: Iterator[Any] = iter(())
        self._position: int | None = None  # when the frame decoded last is shown
        self._decoded_pixels = 0

    def frame_at(self, time: int) -> Image.Image:
        index = bisect_right(self._key_times, time) - 1
        is_ahead = index >= 0 and (
            self._position is None or self._key_times[index] > self._position
        )
        if self._position is None or is_ahead:
            self._frames = self._frames_from(index, time)
        last = None
        for frame in self._frames:
            self._charge(frame)
            last = frame
            if frame.pts is not None and frame.pts >= time:
                break
        if last is None:
            raise ImageError(f"{self._video.name} ends too early; save or download it again")
        self._position = last.pts if last.pts is not None else time
        return _upright(last)

    def _frames_from(self, index: int, time: int) -> Iterator[Any]:
        """Decode from key frame `index`, or from an earlier one if that starts behind `time`.

        AVI and MPEG-TS look for the time of decoding, so a jump may land behind what it aimed at.
        """
        back = 0
        while back <= index:
            self._container.seek(self._key_times[index - back], stream=self._stream)
            frames = self._container.decode(self._stream)
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts <= time:
                return chain([first], frames)
            back = 2 * back + 1
        if back:
            self._container.seek(0)
        return iter(self._container.decode(self._stream))

    def _charge(self, frame: Any) -> None:
        pixels = frame.width * frame.height
        _check_cost(pixels, 1, self._video.limits, self._video.name)
        self._decoded_pixels += pixels
        if self._decoded_pixels > self._video.limits.max_decoded_pixels:
            raise ImageError(f"{self._video.name} takes too long to decode; cut it shorter")


def _upright(frame: Any) -> Image.Image:
    image = frame.to_image()
    turn = round(frame.rotation or 0)  # degrees against the clock, from the display matrix
    return image.rotate(turn, expand=True) if turn else image


def pdf_pages(
    source: MediaSource,
    *,
    first: int = 1,
    last: int | None = None,
    dpi: int = 150,
    limits: MediaLimits | None = None,
) -> list[Image.Image]:
    """Draw pages `first` to `last` of a PDF, counted from 1, both included, in RGB over white.

    Pages beyond `max_page_pixels` are drawn smaller. Raises ImageError for what cannot be drawn,
    UserError when the extra `media` is missing.
    """
    limits = limits or MediaLimits()
    if not 10 <= dpi <= 600:
        raise ImageError(f"dpi {dpi} is not between 10 and 600; 150 reads ordinary print")
    name = "document (bytes)" if isinstance(source, bytes) else printable(os.fspath(source))
    with _open_binary(source, name) as file:
        data = file.read(limits.max_document_bytes + 1)
    if len(data) > limits.max_document_bytes:
        size = limits.max_document_bytes // 2**20
        raise ImageError(f"{name} is larger than the limit of {size} MiB; split it")
    if b"%PDF-" not in data[:1024]:
        what = describe(data) if data else "empty (0 bytes)"
        raise ImageError(f"{name} is {what}, not a PDF document; give a PDF")
    try:
        import pypdfium2
    except ImportError:
        raise UserError("PDF documents need pypdfium2; pip install 'tessera-vl[media]'") from None
    try:
        with _PDFIUM_LOCK, closing(pypdfium2.PdfDocument(data)) as document:
            pages = _page_range(len(document), first, last, limits=limits, name=name)
            return [_draw_page(document, page, dpi, limits.max_page_pixels) for page in pages]
    except FOREIGN_FAILURES as error:
        if getattr(error, "err_code", None) == _PDF_PASSWORD_ERROR:
            raise ImageError(f"{name} is locked by a password; save it without one") from None
        raise ImageError(f"{name} is a damaged PDF; save or download it again") from None


def _page_range(
    num_pages: int, first: int, last: int | None, *, limits: MediaLimits, name: str
) -> range:
    end = num_pages if last is None else min(last, num_pages)
    if not 1 <= first <= end:
        raise ImageError(f"{name} has {num_pages} pages, so {first} to {last or num_pages} is none")
    if end - first + 1 > limits.max_pages:
        raise ImageError(
            f"{name}: {end - first + 1} pages are too many at once, the limit is"
            f" {limits.max_pages}; choose a first and a last page"
        )
    return range(first - 1, end)


def _draw_page(document: Any, index: int, dpi: int, max_pixels: int) -> Image.Image:
    with closing(document[index]) as page:
        width, height = page.get_size()  # points, 72 to the inch
        scale = dpi / 72
        area = max(width * scale, 1) * max(height * scale, 1)
        if area > max_pixels:
            scale *= (max_pixels / area) ** 0.5
        with closing(page.render(scale=scale)) as bitmap:
            return bitmap.to_pil().convert("RGB").copy()
