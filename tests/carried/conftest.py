"""One input for each row of the table of what is kept, made by PyAV; the bytes of what it cannot encode by hand."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.stream import Disposition

MS = Fraction(1, 1000)
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class Maker:
    """Writes inputs into one folder.  ``base`` is the clip that all of them start from: 12 frames at 25 fps."""

    def __init__(self, folder: Path, clip: Callable[..., Path], draw: Callable[..., np.ndarray]) -> None:
        self.folder = folder
        self.clip = clip
        self.draw = draw

    def base(self, name: str = "base.mkv", **how: Any) -> Path:
        return self.clip(name, **{"frames": 12, "title": "A film", **how})

    def with_streams(self, name: str, add: Callable[[Any], list[Packet]], base: Path | None = None, **how: Any) -> Path:
        """The base clip with what ``add`` puts into the open container; it returns the packets."""
        target = self.folder / name
        with av.open(base or self.base()) as source, av.open(target, "w", **how) as out:
            copies = {}
            for stream in source.streams:
                copies[stream.index] = copy = out.add_stream_from_template(stream, opaque=True)
                copy.metadata.update(stream.metadata)
                copy.disposition = stream.disposition
            out.metadata.update(source.metadata)
            added = add(out)
            packets = []
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[packet.stream.index]
                    packets.append(packet)
            # The order of a file: every stream's own, merged by time.
            packets += added
            for packet in packets:
                packet.dts = packet.pts if packet.dts is None else packet.dts
            for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
                out.mux_one(packet)
        return target


def packet_of(stream: Any, data: bytes, at: int, duration: int, time_base: Fraction = MS) -> Packet:
    packet = Packet(data)
    packet.stream, packet.time_base = stream, time_base
    packet.pts = packet.dts = at
    packet.duration = duration
    packet.is_keyframe = True
    return packet


def sound(
    out: Any, codec: str, *, start: int = 0, tags: dict[str, str] | None = None, pitch: int = 440
) -> list[Packet]:
    stream = out.add_stream(codec, rate=48000, layout="stereo")
    stream.metadata.update(tags or {})
    kind = stream.codec_context.format.name
    packets = []
    size = 960 if codec == "libopus" else 1024
    for index in range(24000 // size):
        at = np.arange(index * size, (index + 1) * size)
        wave = 0.2 * np.sin(2 * np.pi * pitch * at / 48000)
        both = np.stack([wave, wave])
        if kind.startswith("flt"):
            samples = both.astype(np.float32)
        else:
            samples = (both * 2**15).astype(np.int16) if "16" in kind else (both * 2**31).astype(np.int32)
        if not kind.endswith("p"):
            samples = samples.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=kind, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start + index * size, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def text(out: Any, codec: str, lines: list[tuple[int, int, bytes]], **tags: str) -> list[Packet]:
    stream = out.add_mux_stream(codec)
    stream.time_base = MS
    stream.metadata.update(tags)
    return [packet_of(stream, line, start, end - start) for start, end, line in lines]


def frame_times(make: Maker) -> Path:
    return make.base("in.mov", pts=[0, 1001, 1002, 5005, 9000, 40000, 40100, 90000], time_base=Fraction(1, 30000))


def late_start(make: Maker) -> Path:
    return make.base("in.mov", pts=[30000 + 1001 * i for i in range(12)], time_base=Fraction(1, 30000))


def sound_offset(make: Maker) -> Path:
    silent = make.base("silent.mp4")
    return make.with_streams("in.mp4", lambda out: sound(out, "aac", start=12345), silent, options=KEEP)


KEEP = {"avoid_negative_ts": "disabled"}


def edit_list(make: Maker) -> Path:
    """Half a second lies before time 0, which MP4 hides with an edit list."""
    whole = make.base("whole.mp4", frames=30, audio=True, options={"g": "5"})
    with av.open(whole) as source, av.open(make.folder / "in.mp4", "w", options=KEEP) as out:
        copies = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                earlier = int(Fraction(1, 2) / packet.time_base)
                packet.pts, packet.dts = packet.pts - earlier, packet.dts - earlier
                packet.stream = copies[packet.stream.index]
                out.mux_one(packet)
    return make.folder / "in.mp4"


def sound_aac(make: Maker) -> Path:
    return make.with_streams("in.mkv", lambda out: sound(out, "aac"))


def sound_opus(make: Maker) -> Path:
    return make.with_streams("in.mkv", lambda out: sound(out, "libopus"))


def sound_flac(make: Maker) -> Path:
    return make.with_streams("in.mkv", lambda out: sound(out, "flac"))


def sound_pcm(make: Maker) -> Path:
    return make.with_streams("in.mkv", lambda out: sound(out, "pcm_s16le"))


def sound_ac3(make: Maker) -> Path:
    return make.with_streams("in.mkv", lambda out: sound(out, "ac3"))


def several_sounds(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        packets = sound(out, "aac", tags={"language": "jpn", "title": "Japanese"})
        out.streams[-1].disposition = Disposition.default
        packets += sound(out, "aac", tags={"language": "ger", "title": "Deutsch"}, pitch=550)
        return packets + sound(out, "aac", tags={"language": "eng", "title": "Commentary"}, pitch=660)

    return make.with_streams("in.mp4", add, make.base("base.mp4"))


def flags(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        out.streams[0].disposition = Disposition.default | Disposition.comment | Disposition.hearing_impaired
        return []

    return make.with_streams("in.mkv", add)


def subtitles_srt(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        plain = [(40, 140, "Guten Tag, <i>schöne</i> Welt".encode()), (200, 400, b"two\nlines")]
        packets = text(out, "subrip", plain, language="ger", title="Deutsch")
        out.streams[-1].disposition = Disposition.default
        return packets + text(out, "subrip", [(0, 300, b"Hello")], language="eng")

    return make.with_streams("in.mkv", add)


def subtitles_ass(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        stream = out.add_stream("ass")
        stream.codec_context.subtitle_header = ASS_HEADER
        stream.time_base = MS
        stream.metadata["language"] = "eng"
        lines = [
            (40, 140, rb"0,0,Default,,0,0,0,,{\i1}Hello{\i0} there"),
            (200, 400, rb"1,0,Default,,0,0,0,,two\Nlines"),
        ]
        return [packet_of(stream, line, start, end - start) for start, end, line in lines]

    return make.with_streams("in.mkv", add)


def subtitles_mov_text(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        stream = out.add_stream("mov_text")
        stream.codec_context.subtitle_header = ASS_HEADER
        stream.time_base = MS
        stream.metadata["language"] = "fra"
        lines = [(40, 140, "déjà vu".encode()), (200, 400, b"two\nlines")]
        return [packet_of(stream, struct.pack(">H", len(t)) + t, start, end - start) for start, end, t in lines]

    return make.with_streams("in.mp4", add, make.base("base.mp4"))


def subtitles_pgs(make: Maker) -> Path:
    """An empty display set: a presentation composition, its window, the end."""
    composition = b"\x16\x00\x0b\x07\x80\x04\x38\x10\x00\x00\x80\x00\x00\x00"
    segments = composition + b"\x17\x00\x0a\x01\x00\x00\x00\x00\x00\x00\x00\x10\x00\x10"
    lines = [(40, 140, segments + b"\x80\x00\x00"), (240, 100, segments + b"\x80\x00\x00")]
    return make.with_streams(
        "in.mkv", lambda out: text(out, "hdmv_pgs_subtitle", [(a, a + d, s) for a, d, s in lines], language="eng")
    )


def subtitles_vobsub(make: Maker) -> Path:
    packet = b"\x00\x0a\x00\x04\x00\x00\x00\x04\x02\xff"
    return make.with_streams(
        "in.mkv", lambda out: text(out, "dvd_subtitle", [(40, 140, packet), (200, 300, packet)], language="eng")
    )


def fonts(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        out.add_attachment("Antiqua.ttf", "font/ttf", b"\x00\x01\x00\x00 not really a font" * 30)
        out.add_attachment("notes.txt", "text/plain", b"read me")
        return []

    return make.with_streams("in.mkv", add)


def image(codec: str, pixels: str, draw: Callable[..., np.ndarray]) -> bytes:
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = 48, 32, pixels, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(draw(3, 48, 32), "rgb24").reformat(format=pixels)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in context.encode(frame) + context.encode(None))


def cover(make: Maker) -> Path:
    picture = image("mjpeg", "yuvj420p", make.draw)

    def add(out: Any) -> list[Packet]:
        out.add_attachment("cover.jpg", "image/jpeg", picture)
        return []

    return make.with_streams("in.mkv", add)


def chapters(make: Maker) -> Path:
    return make.base("in.mkv", frames=25, chapters=True)


def further_video(make: Maker) -> Path:
    other = make.clip("other.mkv", frames=12, width=32, height=32)

    def add(out: Any) -> list[Packet]:
        with av.open(other) as source:
            stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
            stream.metadata["title"] = "another angle"
            packets = [packet for packet in source.demux() if packet.size]
        for index, packet in enumerate(packets):
            packet.stream, packet.dts = stream, 40 * (index - 3)
        return packets

    return make.with_streams("in.mkv", add)


def timecode(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        out.streams[0].metadata["timecode"] = "01:02:03:04"
        return []

    return make.with_streams("in.mov", add, make.base("base.mov"))


def data(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        stream = out.add_data_stream("bin_data")
        stream.time_base = Fraction(1, 90000)
        return [packet_of(stream, bytes([i] * 32), 3600 * i, 3600, Fraction(1, 90000)) for i in range(12)]

    return make.with_streams("in.mp4", add, make.base("base.mp4"))


def file_tags(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        out.metadata.update({"ARTIST": "the director", "COMMENT": "ripped in 2020", "MY_OWN_TAG": "anything"})
        return []

    return make.with_streams("in.mkv", add)


def stream_tags(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        out.streams[0].metadata.update({"language": "jpn", "title": "the picture"})
        return []

    return make.with_streams("in.mkv", add)


def colour(make: Maker) -> Path:
    tags = {"colorspace": 6, "color_primaries": 6, "color_trc": 6, "color_range": 2}
    return make.base("in.mkv", tags=tags, options={"chroma_sample_location": "topleft"})


def rotation(make: Maker) -> Path:
    def add(out: Any) -> list[Packet]:
        out.streams[0].set_display_rotation(90, hflip=True)
        return []

    return make.with_streams("in.mp4", add, make.base("base.mp4"))


def sample_aspect(make: Maker) -> Path:
    return make.base("in.mkv", tags={"sample_aspect_ratio": Fraction(16, 11)})


def hdr(make: Maker) -> Path:
    params = (
        "log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):"
        "max-cll=1000,400"
    )
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    return make.base("in.mkv", codec="libx265", pixel_format="yuv420p10le", tags=tags, options={"x265-params": params})


def captions(make: Maker) -> Path:
    """SEI messages as in ATSC A/53, put in front of every picture's first slice."""
    whole = make.base("whole.ts", title=None)
    target = make.folder / "in.ts"
    with av.open(whole) as source, av.open(target, "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for index, packet in enumerate(p for p in source.demux(video=0) if p.size):
            bits = bytes(packet)
            slice_at = re.search(rb"\x00?\x00\x00\x01[\x01\x21\x41\x61\x25\x45\x65]", bits).start()
            made = Packet(bits[:slice_at] + caption_sei(index) + bits[slice_at:])
            made.pts, made.dts, made.time_base, made.stream = packet.pts, packet.dts, packet.time_base, stream
            made.is_keyframe = packet.is_keyframe
            out.mux_one(made)
    return target


def caption_sei(index: int) -> bytes:
    message = b"\xb5\x00\x31GA94\x03\x41\xff" + bytes([0xFC, 0x80 | index, 0x20 + index]) + b"\xff"
    escaped = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", bytes([4, len(message)]) + message + b"\x80")
    return b"\x00\x00\x00\x01\x06" + escaped


CASES = {
    made.__name__: made
    for made in (
        frame_times, late_start, sound_offset, edit_list,
        sound_aac, sound_opus, sound_flac, sound_pcm, sound_ac3, several_sounds, flags, subtitles_srt,
        subtitles_ass, subtitles_mov_text, subtitles_pgs, subtitles_vobsub, fonts, cover, chapters,
        further_video, timecode, data, file_tags, stream_tags, colour, rotation, sample_aspect, hdr, captions,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def made(session_clip: Callable[..., Path], reading: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The input of one case, made once."""
    known: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in known:
            folder = tmp_path_factory.mktemp(case)

            def clip(name: str, **how: Any) -> Path:
                return session_clip(folder / name, **how)

            known[case] = CASES[case](Maker(folder, clip, reading.draw))
        return known[case]

    return make
