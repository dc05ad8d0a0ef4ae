"""One multipart upload as it streams in: fields, the file's hash and seconds, and the file if asked."""

from __future__ import annotations

import hashlib
import re
import struct

_HEAD_BYTES = 4096
_TAIL_BYTES = 128 * 1024  # an Ogg page is at most 65,307 bytes
_FIELD_MAX_BYTES = 1024 * 1024


class BadUpload(ValueError):
    """The body is not the multipart form that its header promises."""


class Upload:
    """Feed it the body's bytes in any pieces; read its attributes after ``finish``."""

    def __init__(self, content_type: str, *, keep: bool = False) -> None:
        found = re.search(r'boundary="?([^";]+)', content_type)
        if not content_type.startswith("multipart/form-data") or not found:
            raise BadUpload("no multipart form")
        self._mark = b"\r\n--" + found[1].encode("latin-1")
        self._buffer = b"\r\n"  # the first mark has no line end before it
        self._in_body = False
        self._ended = False
        self._name = ""
        self._is_file = False
        self._text = bytearray()
        self._hash = hashlib.sha256()
        self._head = b""
        self._tail = b""
        self.audio: bytearray | None = bytearray() if keep else None  # the whole file
        self.fields: dict[str, list[str]] = {}
        self.file_name: str | None = None
        self.file_type = ""
        self.file_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadUpload: they break the form.
        """
        self._buffer += data
        while not self._ended and (self._take_body() if self._in_body else self._take_head()):
            pass

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            BadUpload: the form had not.
        """
        if not self._ended:
            raise BadUpload("the form does not end")

    @property
    def sha256(self) -> str:
        """Of the file's bytes, lower-case hex."""
        return self._hash.hexdigest()

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the file (Ogg/Opus or WAV); 0 for anything else."""
        return audio_seconds(self._head, self._tail, self.file_bytes)

    def _take_body(self) -> bool:
        at = self._buffer.find(self._mark)
        if at < 0:
            keep = len(self._mark) - 1
            self._emit(self._buffer[:-keep])
            self._buffer = self._buffer[-keep:]
            return False
        self._emit(self._buffer[:at])
        self._buffer = self._buffer[at:]
        self._end_part()
        self._in_body = False
        return True

    def _take_head(self) -> bool:
        after = self._buffer[len(self._mark) : len(self._mark) + 2]
        if len(after) < 2:
            return False
        if not self._buffer.startswith(self._mark):
            raise BadUpload("the form does not begin with its boundary")
        if after == b"--":
            self._ended = True
            return False
        head, mark, rest = self._buffer[len(self._mark) + 2 :].partition(b"\r\n\r\n")
        if not mark:
            if len(head) > 16384:
                raise BadUpload("a part's head does not end")
            return False
        self._begin_part(head.decode("utf-8", "replace"))
        self._buffer = rest
        self._in_body = True
        return True

    def _begin_part(self, head: str) -> None:
        name = re.search(r'\bname="([^"]*)"', head)
        file_name = re.search(r'filename="([^"]*)"', head)
        kind = re.search(r"(?im)^content-type: *(\S+)", head)
        self._name = name[1] if name else ""
        self._is_file = file_name is not None
        self._text.clear()
        if file_name:
            self.file_name = file_name[1]
            self.file_type = kind[1] if kind else ""

    def _emit(self, data: bytes) -> None:
        if not self._is_file:
            self._text += data
            if len(self._text) > _FIELD_MAX_BYTES:
                raise BadUpload("a field is too long")
            return
        self._hash.update(data)
        self.file_bytes += len(data)
        if self.audio is not None:
            self.audio += data
        if len(self._head) < _HEAD_BYTES:
            self._head += data[: _HEAD_BYTES - len(self._head)]
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    def _end_part(self) -> None:
        if not self._is_file:
            self.fields.setdefault(self._name, []).append(self._text.decode("utf-8", "replace"))


def audio_seconds(head: bytes, tail: bytes, size_bytes: int) -> float:
    """Length of an Ogg/Opus or WAV file from its first and last bytes; 0 where it is neither."""
    if head.startswith(b"OggS"):
        return _ogg_seconds(head, tail)
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return _wav_seconds(head, size_bytes)
    return 0.0


def _ogg_seconds(head: bytes, tail: bytes) -> float:
    opus = head.find(b"OpusHead")
    if opus < 0 or len(head) < opus + 12:
        return 0.0
    (pre_skip,) = struct.unpack_from("<H", head, opus + 10)
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        if len(tail) >= at + 14 and tail[at + 4] == 0:
            (granule,) = struct.unpack_from("<q", tail, at + 6)
            if granule >= 0:  # -1: no packet ends on this page
                return float(max(granule - pre_skip, 0)) / 48_000  # granules count 48 kHz (RFC 7845)
    return 0.0


def _wav_seconds(head: bytes, size_bytes: int) -> float:
    at = 12
    bytes_per_s = 0
    while at + 8 <= len(head):
        name, length = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        if name == b"fmt " and len(head) >= at + 20:
            bytes_per_s = struct.unpack_from("<I", head, at + 16)[0]
        if name == b"data":
            return float(min(length, size_bytes - at - 8)) / bytes_per_s if bytes_per_s else 0.0
        at += 8 + length + length % 2
    return 0.0
