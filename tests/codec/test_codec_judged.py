"""Changed goldens, judged by us and by a BEAM: the same ones are terms, and they are the same terms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from codec_frames import write_frames
from test_codec_hostile import GOLDENS, golden

from erlbridge.codec import DecodeError, Local, binary_to_term, tags, term_to_binary

# Every tag, the counts and signs around the edges, and 73 and 75, by which a BEAM names its own atoms to itself.
CHANGES = sorted({*(value for name, value in vars(tags).items() if name.isupper() and type(value) is int)}
    | {0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 73, 75, 127, 128, 192, 254, 255})  # fmt: skip

OWN_ATOM_TAGS = (73, 75)


def changed_goldens() -> list[bytes]:
    """Every golden with every byte set to every one of the changes. Exports stay out: OTP 25 may crash on odd ones."""
    frames = []
    for name in GOLDENS:
        data = bytearray(golden(name))
        for index, byte in enumerate(bytes(data)):
            for change in CHANGES:
                data[index] = change
                if tags.EXPORT_EXT not in data:
                    frames.append(bytes(data))
            data[index] = byte
    return frames


def test_changed_goldens_get_the_verdict_of_the_beam(
    elixir: Callable[..., list[str]], beam_verdicts: Callable[..., list[str]], tmp_path: Path
) -> None:
    frames = changed_goldens()
    write_frames(tmp_path / "frames", frames)
    accepted, ours, wrong = [], [], []
    for frame, judged in zip(frames, elixir("judge_frames.exs", tmp_path / "frames"), strict=True):
        # A term that ends before the frame does is refused by us on purpose.
        expected = judged == f"ok {len(frame)}"
        try:
            term = binary_to_term(frame)
        except DecodeError as error:
            refused_tag = frame[error.offset] if error.offset < len(frame) else None
            deliberate = refused_tag in OWN_ATOM_TAGS or "reference of 0 words" in error.message
            if expected and not deliberate:
                wrong.append((frame.hex(), judged, str(error)))
        else:
            if expected:
                accepted.append(frame)
                ours.append(term_to_binary(term))
            elif not isinstance(term, Local):  # OTP 26 and later write LOCAL_EXT, this one does not know it
                wrong.append((frame.hex(), judged, repr(term)))
    assert not wrong[:5]
    assert len(accepted) > 5000
    assert set(beam_verdicts(accepted, ours)) == {"same"}
