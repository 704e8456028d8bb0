import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tessera.errors import ImageError, UserError
from tessera.processing.media import (
    MediaLimits,
    frame_indices,
    natural_key,
    pdf_pages,
    video_frames,
)

NUM_FRAMES = 60


def grey(index: int) -> int:
    return 20 + index * 3


def make_video(
    path: Path | io.BytesIO, *, size: tuple[int, int] = (64, 48), kind: str = "mp4", gop: int = 12
) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w", format=kind) as container:
        codec = "libvpx" if kind == "webm" else "mpeg4"
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.bit_rate = 2_000_000
        for index in range(NUM_FRAMES):
            pixels = np.full((size[1], size[0], 3), grey(index), dtype=np.uint8)
            pixels[: size[1] // 2, : size[0] // 2, 1:] = 0  # the upper left quarter is red
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def shown_index(frame: Image.Image) -> int:
    value = np.asarray(frame)[-frame.height // 4 :, -frame.width // 4 :].mean()
    return round((float(value) - 20) / 3)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    make_video(path)
    return path


def published_indices(num_stream_frames: int, num_frames: int) -> list[int]:
    last = num_stream_frames - 1
    segment = float(last - 0) / num_frames
    return [int(0 + (segment / 2) + np.round(segment * k)) for k in range(num_frames)]


@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 16, 32])
def test_frame_indices_follow_the_published_formula(num_frames: int) -> None:
    for total in (1, 2, 3, 8, 9, 30, 61, 100, 999, 12345):
        indices = frame_indices(total, num_frames)
        assert indices == published_indices(total, num_frames)
        assert indices == sorted(indices)
        assert 0 <= min(indices) <= max(indices) < total


def test_a_clip_limits_the_indices() -> None:
    assert frame_indices(100, 2, clip=(10, 20)) == [12, 17]
    with pytest.raises(ImageError, match="outside"):
        frame_indices(100, 2, clip=(200, 300))
    with pytest.raises(ImageError, match="one or more"):
        frame_indices(100, 0)


@pytest.mark.parametrize("num_frames", [1, 4, 8, 30])
def test_frames_of_an_mp4_are_the_ones_of_the_formula(video: Path, num_frames: int) -> None:
    frames = video_frames(video, num_frames)
    assert [frame.mode for frame in frames] == ["RGB"] * num_frames
    assert [shown_index(frame) for frame in frames] == frame_indices(NUM_FRAMES, num_frames)


def test_a_video_in_memory_with_one_key_frame_or_as_webm_gives_the_same_frames() -> None:
    for kind, gop in (("mp4", 1000), ("webm", 12), ("avi", 12)):
        file = io.BytesIO()
        make_video(file, kind=kind, gop=gop)
        frames = video_frames(file.getvalue(), 6)
        wanted = frame_indices(NUM_FRAMES, 6)
        shown = [shown_index(frame) for frame in frames]
        assert max(abs(a - b) for a, b in zip(shown, wanted, strict=True)) <= 1, (kind, shown)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4"), ("mpegts", "libx264")],
)
def test_the_frames_are_exactly_those_of_reading_everything(kind: str, codec: str) -> None:
    """AVI and MPEG-TS jump by the time of decoding, which is another one where B-frames are."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size, stream.max_b_frames = 12, 2
        for index in range(50):
            pixels = np.full((48, 64, 3), 20 + index * 37 % 200, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    with av.open(io.BytesIO(file.getvalue())) as container:
        every = [np.asarray(frame.to_image()) for frame in container.decode(video=0)]
    for num_frames in (1, 3, 8, 16):
        frames = video_frames(file.getvalue(), num_frames)
        for frame, index in zip(frames, frame_indices(50, num_frames), strict=True):
            assert np.array_equal(np.asarray(frame), every[index]), (num_frames, index)


def test_a_clip_in_seconds_takes_frames_of_that_span(video: Path) -> None:
    frames = video_frames(video, 3, clip_s=(2.0, 3.0))
    assert [shown_index(frame) for frame in frames] == frame_indices(60, 3, clip=(20, 30))
    with pytest.raises(ImageError, match=r"between 100\.0 s"):
        video_frames(video, 3, clip_s=(100.0, 200.0))


def test_a_video_held_upright_by_the_phone_is_turned(video: Path) -> None:
    data = bytearray(video.read_bytes())
    unity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    track = data.index(unity, data.index(b"tkhd"))
    data[track : track + len(quarter)] = quarter  # shown turned by 90 degrees with the clock
    frame = video_frames(bytes(data), 1)[0]
    assert frame.size == (48, 64)
    red = frame.getpixel((40, 5))
    assert red[0] > red[1] + 30, red


def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for index in range(1, 13):
        Image.new("L", (8, 8), index * 10).save(tmp_path / f"clip_{index}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    frames = video_frames(tmp_path, 4)
    shown = [frame.getpixel((0, 0))[0] // 10 - 1 for frame in frames]
    assert shown == frame_indices(12, 4)
    assert sorted(["a_10.jpg", "a_9.jpg", "a_1.jpg"], key=natural_key)[-1] == "a_10.jpg"


def test_an_empty_folder_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no frames.*frame_1\.jpg"):
        video_frames(tmp_path)


def make_gif(num_frames: int = 10) -> bytes:
    frames = [Image.new("RGB", (20, 10), (grey(i), grey(i), grey(i))) for i in range(num_frames)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=50)
    return file.getvalue()


def test_an_animated_gif_is_a_video() -> None:
    frames = video_frames(make_gif(), 5)
    assert [shown_index(frame) for frame in frames] == frame_indices(10, 5)
    assert {frame.mode for frame in frames} == {"RGB"}


def test_frames_and_pixels_beyond_the_limits_are_refused(video: Path) -> None:
    with pytest.raises(ImageError, match="at most 512"):
        video_frames(video, 10_000)
    with pytest.raises(ImageError, match="frames to decode"):
        video_frames(make_gif(), 4, limits=MediaLimits(max_stream_frames=5))
    with pytest.raises(ImageError, match="limit is 100"):
        video_frames(make_gif(), 4, limits=MediaLimits(max_frame_pixels=100))
    with pytest.raises(ImageError, match="limit is 100"):
        video_frames(video, 4, limits=MediaLimits(max_frame_pixels=100))
    with pytest.raises(ImageError, match="frames to decode"):
        video_frames(video, 4, limits=MediaLimits(max_stream_frames=5))
    with pytest.raises(ImageError, match="too long to decode"):
        video_frames(video, 4, limits=MediaLimits(max_decoded_pixels=4 * 64 * 48))


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("#EXTM3U\nfile:///etc/hostname\n")
    with pytest.raises(ImageError, match=r"clip\.mp4 is text, not a video"):
        video_frames(tmp_path / "clip.mp4")
    with pytest.raises(ImageError, match="0 bytes"):
        video_frames(b"")
    with pytest.raises(ImageError, match="does not exist"):
        video_frames(tmp_path / "none.mp4")


def test_damaged_videos_raise_only_image_errors(video: Path) -> None:
    data = video.read_bytes()
    random = np.random.default_rng(0)
    outcomes = []
    for step in range(40):
        broken = bytearray(data if step % 2 else data[: len(data) * step // 40])
        for position in random.integers(0, max(len(broken), 1), 20 if broken else 0):
            broken[position] = random.integers(0, 256)
        try:
            outcomes.append(len(video_frames(bytes(broken), 3)))
        except ImageError:
            outcomes.append(0)
    assert 0 in outcomes


def test_videos_without_the_extra_say_how_to_install_it(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'tessera-vl\[media\]'"):
        video_frames(video)
    assert len(video_frames(make_gif(), 2)) == 2


def make_pdf(num_pages: int = 3, size: tuple[int, int] = (300, 400)) -> bytes:
    pages = []
    for index in range(num_pages):
        page = Image.new("RGB", size, "white")
        ImageDraw.Draw(page).rectangle((0, 0, 149, 199), fill=(grey(index * 10), 0, 0))
        pages.append(page)
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=72, quality=95)
    return file.getvalue()


def test_pages_of_a_pdf_are_drawn_at_the_asked_resolution(tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2")
    (tmp_path / "paper.pdf").write_bytes(make_pdf())
    pages = pdf_pages(tmp_path / "paper.pdf", dpi=144)
    assert [page.size for page in pages] == [(600, 800)] * 3
    reds = [page.getpixel((100, 100))[0] for page in pages]
    assert all(abs(red - grey(i * 10)) < 12 for i, red in enumerate(reds)), reds
    assert pages[0].getpixel((500, 700)) == (255, 255, 255)


def test_a_range_of_pages_counts_from_one() -> None:
    pytest.importorskip("pypdfium2")
    pages = pdf_pages(make_pdf(), first=2, last=2, dpi=72)
    assert len(pages) == 1
    assert abs(pages[0].getpixel((50, 50))[0] - grey(10)) < 12
    with pytest.raises(ImageError, match="has 3 pages, so 4"):
        pdf_pages(make_pdf(), first=4)
    with pytest.raises(ImageError, match="too many at once, the limit is 2"):
        pdf_pages(make_pdf(), limits=MediaLimits(max_pages=2))


def test_a_huge_page_is_drawn_smaller() -> None:
    pytest.importorskip("pypdfium2")
    page = pdf_pages(make_pdf(1), dpi=600, limits=MediaLimits(max_page_pixels=120_000))[0]
    assert page.width * page.height <= 122_000
    assert abs(page.width / page.height - 0.75) < 0.01


def test_what_is_no_pdf_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is text, not a PDF"):
        pdf_pages(b"hello")
    with pytest.raises(ImageError, match="0 bytes"):
        pdf_pages(b"")
    with pytest.raises(ImageError, match="limit of 0 MiB"):
        pdf_pages(make_pdf(), limits=MediaLimits(max_document_bytes=10))
    with pytest.raises(ImageError, match="dpi 5000"):
        pdf_pages(make_pdf(), dpi=5000)


def test_damaged_documents_raise_only_image_errors() -> None:
    pytest.importorskip("pypdfium2")
    data = make_pdf(1, (40, 40))
    random = np.random.default_rng(1)
    failures = 0
    for step in range(60):
        broken = bytearray(data[: len(data) * (step % 20 + 1) // 20])
        for position in random.integers(0, len(broken), 10):
            broken[position] = random.integers(0, 256)
        try:
            pdf_pages(bytes(broken))
        except ImageError:
            failures += 1
    assert failures


def test_a_locked_document_is_said_to_be_locked(tmp_path: Path) -> None:
    pypdfium2 = pytest.importorskip("pypdfium2")

    def refuse(*_: object) -> None:
        raise pypdfium2.PdfiumError("secret", err_code=4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pypdfium2, "PdfDocument", refuse)
        with pytest.raises(ImageError, match="locked by a password"):
            pdf_pages(make_pdf(1))


def test_documents_without_the_extra_say_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(UserError, match=r"pip install 'tessera-vl\[media\]'"):
        pdf_pages(make_pdf(1))
