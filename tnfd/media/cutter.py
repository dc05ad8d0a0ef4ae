"""Follows the sound and ends one piece after the other where it is quiet; child process only.

Owns the audio between the earliest and the latest end of a piece (some seconds, whatever the recording's
length), and the files of the pieces. Where to look, and what is quiet, is for ``rules.cuts``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from operator import mul

from tnfd.errors import Fault
from tnfd.media.encode import CutFile, cut_name, encoding_of
from tnfd.media.limits import MAX_AUDIO_S
from tnfd.model import SAMPLE_RATE_HZ, Cut, Encoding
from tnfd.rules.cuts import OVERLAP, STEP_S, Aim, Lengths, Limits, Stretch, quietest

_STEP = round(STEP_S * SAMPLE_RATE_HZ)
_HALF = OVERLAP // 2
_MAX_SAMPLES = int(MAX_AUDIO_S * SAMPLE_RATE_HZ)
# What stays within 16 of 32,768 around its mean (-66 dB of full scale) nobody hears; room noise is louder.
_INAUDIBLE = 2 * 16

Tell = Callable[[Cut], None]


class Ear:
    """Whether anything audible has been heard."""

    def __init__(self) -> None:
        self.heard = False

    def listen(self, data: bytes) -> None:
        """Take s16 samples."""
        if not self.heard and data.count(0) != len(data):
            samples = memoryview(data).cast("h")
            self.heard = max(samples) - min(samples) > _INAUDIBLE


class Piece:
    """One piece on its way to disk. A silent one leaves no file."""

    def __init__(self, scratch_fd: int, name: str, start: int, encoding: Encoding, max_bytes: int) -> None:
        self.start = start
        self.samples = 0
        self._name = name
        self._max_bytes = max_bytes
        self._ear = Ear()
        self._file = CutFile(scratch_fd, name, encoding)

    def write(self, data: bytes) -> None:
        """Append s16 samples.

        Raises:
            Fault: ``output.*``; ``media.too_long`` beyond the bytes of one request.
        """
        self._ear.listen(data)
        self._file.write(data)
        self.samples += len(data) // 2
        self._check()

    def publish(self) -> tuple[str, int]:
        """Give the file its name; return that and its size, or ("", 0) for silence."""
        self._file.complete()
        self._check()
        if not self._ear.heard:
            self.abandon()
            return "", 0
        return self._name, self._file.publish()

    def abandon(self) -> None:
        """Leave nothing behind; harmless after ``publish``."""
        self._file.close()

    def _check(self) -> None:
        if self._file.size_bytes > self._max_bytes:
            taken_s = self.samples / SAMPLE_RATE_HZ
            detail = f"{taken_s:.1f} s take more than the {self._max_bytes} bytes of one request"
            raise Fault("media.too_long", detail)


class Known:
    """A cut of an earlier run, encoded again."""

    def __init__(self, scratch_fd: int, cut: Cut, max_bytes: int, tell: Tell) -> None:
        self.start, self.end = cut.start_sample, cut.end_sample
        self.done = False
        self._cut = cut
        self._tell = tell
        self._scratch_fd = scratch_fd
        self._max_bytes = max_bytes
        self._piece: Piece | None = None

    def feed(self, data: bytes) -> None:
        """Take the next samples within [start, end)."""
        if self._piece is None:
            file = self._cut.file
            self._piece = Piece(self._scratch_fd, file, self.start, encoding_of(file), self._max_bytes)
        self._piece.write(data)
        if self._piece.samples >= self.end - self.start:
            self.finish()

    def finish(self) -> None:
        """There is no more."""
        if self.done or self._piece is None:
            return
        self.done = True
        file, size_bytes = self._piece.publish()
        self._piece.abandon()
        cut = self._cut
        self._tell(
            Cut(
                cut.index,
                self.start,
                self.end,
                file,
                size_bytes,
                cut.torn_start,
                cut.torn_end,
                silent=not file,
            )
        )

    def abandon(self) -> None:
        """Leave nothing unfinished behind."""
        if self._piece is not None:
            self._piece.abandon()


class Cutting:
    """One stretch, cut. ``number`` gives the index of the next piece."""

    def __init__(
        self, scratch_fd: int, stretch: Stretch, duration_s: float | None, limits: Limits,
        encoding: Encoding, max_bytes: int, number: Callable[[], int], tell: Tell,
    ) -> None:  # fmt: skip
        self.start, self.end = stretch.start, stretch.end
        self.done = False
        self._stretch = stretch
        self._lengths = Lengths(stretch.start, stretch.end, duration_s, limits)
        self._number = number
        self._tell = tell
        self._make: Callable[[int, int], Piece] = lambda index, start: Piece(
            scratch_fd, cut_name(index, encoding), start, encoding, max_bytes
        )
        self._held = bytearray()  # of this piece, not written yet
        self._from = stretch.start  # the sample that it begins with
        self._torn = stretch.torn_start
        self._piece: Piece | None = None
        self._index = -1
        self._aim: Aim | None = self._lengths.aim(stretch.start)

    def feed(self, data: bytes) -> None:
        """Take the next samples within [start, end)."""
        self._held += data
        while self._aim is not None and self._heard >= self._aim.latest + _HALF:
            self._cut(self._aim)
        free = self._heard if self._aim is None else self._aim.earliest - _HALF
        self._write(min(free, self._heard) - self._from)
        if self.end is not None and self._heard >= self.end:
            self.finish()

    def border(self) -> None:
        """End a piece here: what follows is another channel's."""
        self._write(len(self._held) // 2)
        if self._piece is not None:
            self._publish(torn=False)
            self._torn = False
            self._aim = self._lengths.aim(self._from)

    def finish(self) -> None:
        """There is no more."""
        if self.done:
            return
        self.done = True
        self._write(len(self._held) // 2)
        if self._piece is not None:
            self._publish(torn=self._stretch.torn_end)

    def abandon(self) -> None:
        """Leave nothing unfinished behind."""
        if self._piece is not None:
            self._piece.abandon()

    @property
    def _heard(self) -> int:
        return self._from + len(self._held) // 2

    def _cut(self, aim: Aim) -> None:
        start = self._from if self._piece is None else self._piece.start
        search = self._held[2 * (aim.earliest - self._from) : 2 * (aim.latest - self._from)]
        place = quietest(powers(bytes(search)))
        at = aim.earliest + place.step * _STEP
        # In the middle of sound both pieces get some of the other's.
        torn = not place.quiet and at - start >= 4 * OVERLAP
        self._write(at + (_HALF if torn else 0) - self._from, keep=OVERLAP if torn else 0)
        self._publish(torn=torn)
        self._torn = torn
        self._aim = self._lengths.aim(self._from)

    def _write(self, samples: int, *, keep: int = 0) -> None:
        """Write so many of the held samples and drop them, but the last ``keep``."""
        if samples <= 0:
            return
        if self._piece is None:
            self._index = self._number()
            self._piece = self._make(self._index, self._from)
        self._piece.write(bytes(self._held[: 2 * samples]))
        del self._held[: 2 * (samples - keep)]
        self._from += samples - keep

    def _publish(self, *, torn: bool) -> None:
        piece, self._piece = self._piece, None
        assert piece is not None  # noqa: S101  something was written
        end = piece.start + piece.samples
        try:
            file, size_bytes = piece.publish()
        finally:
            piece.abandon()
        self._tell(Cut(self._index, piece.start, end, file, size_bytes, self._torn, torn, silent=not file))


class Pieces:
    """Everything that is owed of one recording, fed with all of its sound.

    A context manager: what is not whole on leaving leaves no file.
    """

    def __init__(self, owed: list[Known | Cutting]) -> None:
        self._owed = owed
        self.samples = 0

    @property
    def done(self) -> bool:
        """Whether nothing more is owed."""
        return all(one.done for one in self._owed)

    def feed(self, data: bytes) -> None:
        """Take the next s16 samples of the recording.

        Raises:
            Fault: ``output.*``, ``media.too_long``.
        """
        begin, end = self.samples, self.samples + len(data) // 2
        if end > _MAX_SAMPLES:
            raise too_long()
        self.samples = end
        for one in self._owed:
            low, high = max(begin, one.start), end if one.end is None else min(end, one.end)
            if low < high and not one.done:
                whole = (low, high) == (begin, end)
                one.feed(data if whole else data[2 * (low - begin) : 2 * (high - begin)])

    def border(self) -> None:
        """The channel ends; the sound of the next one follows."""
        for one in self._owed:
            if isinstance(one, Cutting) and not one.done:
                one.border()

    def finish(self) -> None:
        """There is no more sound."""
        for one in self._owed:
            one.finish()

    def abandon(self) -> None:
        """Leave nothing unfinished behind."""
        for one in self._owed:
            one.abandon()


def too_long() -> Fault:
    """The fault of a recording without a sensible end."""
    return Fault("media.too_long", f"more than {MAX_AUDIO_S / 3600:.0f} hours")


def powers(data: bytes) -> list[float]:
    """The mean square of each whole step of s16 samples, without what is constant in it."""
    found = []
    for at in range(0, len(data) - 2 * _STEP + 1, 2 * _STEP):
        samples = array("h", data[at : at + 2 * _STEP])
        mean = sum(samples) / _STEP
        found.append(sum(map(mul, samples, samples)) / _STEP - mean * mean)
    return found
