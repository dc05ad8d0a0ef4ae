"""A server's side of the known failures of Whisper: it knows what is said in a recording, and plays it wrong.

Finds out by its loudness which part of a recording an upload is, answers what is said there, and adds what
Whisper adds: closing phrases in silence, loops, the prompt come back. ``Whisperer.choose`` is for
``ApiServer(keeps=True)``.
"""

from __future__ import annotations

import io
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Literal

from tnfd.testing.behaviours import Behaviour, Ok
from tnfd.testing.records import Request

RATE = 16_000
_STEP_S = 0.1
_STEP = int(RATE * _STEP_S)

Failure = Literal["closing", "loop", "echo", "none"]

CLOSINGS = (
    "Thanks for watching!",
    "Thank you.",
    "Please subscribe to my channel.",
    "Subtitles by the Amara.org community",
    "I'll see you in the next video.",
)


@dataclass(frozen=True, slots=True)
class Said:
    """One true sentence and when it is said; seconds."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Played:
    """What was done to one upload: which part of the recording it is, what is true of the answer."""

    offset_s: float
    duration_s: float
    truth: tuple[str, ...]
    invented: tuple[str, ...]


class Scene:
    """A recording and all that is said in it."""

    def __init__(self, samples: array[int], said: Sequence[Said], prompt: str = "") -> None:
        self.said = tuple(said)
        self.prompt = prompt
        self._levels = levels(samples)

    def offset_of(self, samples: array[int]) -> float:
        """Where an upload's sound lies; it may begin with a second of silence of its own."""
        own = levels(samples)
        best = (float("inf"), 0)
        for at in range(-8, max(1, len(self._levels) - len(own) + 9)):
            skip = max(0, -at, 8)
            theirs = self._levels[at + skip : at + len(own)]
            apart = sum(abs(one - two) for one, two in zip(own[skip:], theirs, strict=False))
            missing = len(own) - skip - len(theirs)
            cost = (apart + 20.0 * max(0, missing)) / max(1, len(own) - skip)
            best = min(best, (cost, at))
        return best[1] * _STEP_S

    def truth(self, start_s: float, end_s: float) -> list[Said]:
        """What is said there, sentence by sentence."""
        return [one for one in self.said if start_s <= (one.start_s + one.end_s) / 2 < end_s]


class Whisperer:
    """Plays one scene. ``stubborn``: the share of failures that come again when asked again."""

    def __init__(
        self, scene: Scene, *, seed: int = 0, rate: float = 0.7, stubborn: float = 0.4,
        failures: Sequence[Failure] = ("closing", "loop", "echo"),
    ) -> None:  # fmt: skip
        self._scene = scene
        self._chance = random.Random(seed)  # noqa: S311  a play
        self._rate = rate
        self._stubborn = stubborn
        self._failures = tuple(failures)
        self._before: list[tuple[float, Failure]] = []
        self.played: list[Played] = []

    def choose(self, request: Request) -> Behaviour:
        """Answer one upload."""
        samples = decoded(request.audio)
        duration_s = len(samples) / RATE
        offset_s = self._scene.offset_of(samples)
        truth = self._scene.truth(offset_s, offset_s + duration_s)
        failure = self._failure(offset_s)
        texts = [one.text for one in truth]
        answer, invented = list(texts), list[str]()
        last_s = truth[-1].end_s if truth else offset_s
        if failure == "closing" and (not truth or offset_s + duration_s - last_s >= 1.5):
            invented = [self._chance.choice(CLOSINGS)]
            answer += invented
        elif failure == "loop" and truth:
            invented = [texts[-1]] * self._chance.randint(6, 12)
            answer += invented
        elif failure == "echo" and self._scene.prompt:
            invented = [self._scene.prompt]
            answer = [*invented, *answer]
        self.played.append(Played(offset_s, duration_s, tuple(texts), tuple(invented)))
        return Ok(text=" ".join(answer))

    def _failure(self, offset_s: float) -> Failure:
        """The same cut asked again fails again now and then."""
        for place, former in self._before:
            if abs(place - offset_s) < 3.0:
                return former if self._chance.random() < self._stubborn else "none"
        failed = self._chance.random() < self._rate
        failure: Failure = self._chance.choice(self._failures) if failed else "none"
        self._before.append((offset_s, failure))
        return failure


def levels(samples: array[int]) -> list[float]:
    """The loudness of each tenth of a second, roughly in decibels, never below what codecs keep."""
    found = []
    for at in range(0, len(samples) - _STEP + 1, _STEP):
        part = samples[at : at + _STEP : 4]
        power = sum(map(mul, part, part)) / len(part)
        found.append(3.0 * int(max(power, 400.0)).bit_length())
    return found


def decoded(audio: bytes) -> array[int]:
    """The whole upload, s16 mono at 16 kHz."""
    import av

    samples = array("h")
    with av.open(io.BytesIO(audio)) as container:
        resampler = av.AudioResampler("s16", "mono", RATE)
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: 2 * part.samples])
        for part in resampler.resample(None):
            samples.frombytes(bytes(part.planes[0])[: 2 * part.samples])
    return samples
