"""What an answer makes one doubt: loops, echoes, words where nobody speaks. Pure.

Finds doubts and says where they lie; picks the better of two answers. Never changes a text, and never prefers
an answer that lacks a sentence of the other which nothing speaks against.
"""

from __future__ import annotations

import difflib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tnfd.model import ChunkResult, Doubt, Segment, Word
from tnfd.rules.columns import width
from tnfd.rules.hearing.phrases import Sound
from tnfd.rules.stock import is_stock

# The names are public (README, "Flags").
REPETITION = "repetition"
PROMPT_ECHO = "prompt_echo"
NO_SPEECH_TEXT = "no_speech_text"
STOCK_PHRASE = "stock_phrase"
FEW_WORDS = "few_words"
MANY_WORDS = "many_words"
DOUBTS = (REPETITION, PROMPT_ECHO, NO_SPEECH_TEXT, STOCK_PHRASE, FEW_WORDS, MANY_WORDS)

_RATIO = 2.4  # compression; Whisper's own threshold
_WINDOW = 480  # characters: what is said in 30 s, for which that threshold was made
_DISTINCT = 0.5  # of the words in a stretch that compresses so well
_TIMES = {1: 8, 2: 5}  # an n-gram in a row: "no, no, no, no" is said
_TIMES_LONGER, _LONGEST = 4, 40
_SPREAD_WORDS = 4  # a sentence of so many, as often anywhere in a cut
_ECHO_WORDS, _ECHO_SHARE = 4, 0.8
_MOST_CPS, _LEAST_CPS = 32.0, 2.0  # columns a second of speech; people say 10 to 20
_MUCH_SPEECH_S = 8.0
_NO_SPEECH_S = 0.25
_NEAR_S = 1.0  # how wrong an engine's times may be
_QUIET_END_S = 1.5  # silence at an end of the cut, from which engines make closing phrases
_SLOW = 4.0  # a phrase with so many times the sound that it needs did not make it
_USUAL_CPS = 12.0
_KEPT = 0.85  # of the undoubted words must be in the other answer

_SENTENCE = re.compile(r"(?<=[.!?…؟।])[\"'”’»)\]]*\s+|(?<=[。！？])[\"'”’»)\]」』]*\s*")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_UNSPACED = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said to the engine beside the audio, and may come back as if it had been spoken."""

    prompt: str = ""
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str  # folded
    at: int  # in the text
    end: int


@dataclass(frozen=True, slots=True)
class _Range:
    """A doubtful stretch of tokens."""

    flag: str
    begin: int
    end: int


def examine(result: ChunkResult, sound: Sound | None, asked: Asked, duration_s: float) -> tuple[Doubt, ...]:
    """Return what is doubtful in an answer, in seconds of the cut; ``sound`` None: nobody listened."""
    tokens = _tokens(result.text)
    places = _Places(result, tokens, duration_s)
    found = [
        Doubt(one.flag, *places.of(one.begin, one.end)) for one in _ranges(result.text, tokens, asked, sound)
    ]
    if sound is not None:
        found += _against_sound(result, tokens, sound, duration_s)
        if any(doubt.flag == REPETITION for doubt in found):  # which explains their number
            found = [doubt for doubt in found if doubt.flag != MANY_WORDS]
    return _merged(found)


def better(first: ChunkResult, second: ChunkResult, sound: Sound | None, asked: Asked) -> ChunkResult:
    """Return the answer with fewer doubts, unless it lacks what nothing speaks against in the other.

    Both come with their ``doubts``.
    """
    if _weight(second.doubts) >= _weight(first.doubts):
        return first
    solid = _solid(first, sound, asked)
    said = [token.text for token in _tokens(second.text)]
    matcher = difflib.SequenceMatcher(None, solid, said, autojunk=False)
    kept = sum(block.size for block in matcher.get_matching_blocks())
    return second if kept >= _KEPT * len(solid) else first


def _weight(doubts: Iterable[Doubt]) -> float:
    """How bad doubts are together: each flag once, and how much they cover a little."""
    flags = {doubt.flag for doubt in doubts}
    return len(flags) + min(0.9, sum(doubt.end_s - doubt.start_s for doubt in doubts) / 10_000)


def _solid(result: ChunkResult, sound: Sound | None, asked: Asked) -> list[str]:
    """Return the words that nothing speaks against."""
    tokens = _tokens(result.text)
    if sound is not None and not sound.steady and sound.speech_s < _NO_SPEECH_S:
        return []
    doubtful: set[int] = set()
    for one in _ranges(result.text, tokens, asked, sound):
        doubtful.update(range(one.begin, one.end))
    return [token.text for at, token in enumerate(tokens) if at not in doubtful]


# -- in the text ----------------------------------------------------------------------------------------


def _tokens(text: str) -> list[_Token]:
    """Words; characters where no spaces are written."""
    found: list[_Token] = []
    for match in _TOKEN.finditer(text):
        word = match[0].casefold().replace("’", "'")
        if _UNSPACED.search(word) and len(word) == len(match[0]):
            found += [_Token(char, match.start() + n, match.start() + n + 1) for n, char in enumerate(word)]
        else:
            found.append(_Token(word, match.start(), match.end()))
    return found


def _ranges(text: str, tokens: Sequence[_Token], asked: Asked, sound: Sound | None) -> Iterator[_Range]:
    words = [token.text for token in tokens]
    loops = list(_loops(words))
    yield from loops
    sentences = list(_sentences(text, tokens))
    if not loops:
        yield from _again(words, sentences)
        yield from _compressed(text, tokens)
    yield from _echoes(words, sentences, asked)
    yield from _stock(text, tokens, sentences, sound)


def _loops(words: Sequence[str]) -> Iterator[_Range]:
    """N-grams said again and again in a row; the first time may be true."""
    at = 0
    while at < len(words):
        for n in range(1, min(_LONGEST, (len(words) - at) // _TIMES_LONGER) + 1):
            times = 1
            while words[at + times * n : at + (times + 1) * n] == words[at : at + n]:
                times += 1
            if times >= _TIMES.get(n, _TIMES_LONGER):
                yield _Range(REPETITION, at + n, at + times * n)
                at += times * n - 1
                break
        at += 1


def _sentences(text: str, tokens: Sequence[_Token]) -> Iterator[tuple[int, int]]:
    """Token ranges of the sentences."""
    begin = 0
    for match in [*_SENTENCE.finditer(text), None]:
        place = len(text) if match is None else match.end()
        end = begin
        while end < len(tokens) and tokens[end].end <= place:
            end += 1
        if end > begin:
            yield begin, end
        begin = end


def _again(words: Sequence[str], sentences: Sequence[tuple[int, int]]) -> Iterator[_Range]:
    """One sentence many times in a cut, with others between."""
    said = [tuple(words[begin:end]) for begin, end in sentences]
    often = {
        one for one, times in Counter(said).items() if times >= _TIMES_LONGER and len(one) >= _SPREAD_WORDS
    }
    seen: set[tuple[str, ...]] = set()
    for one, (begin, end) in zip(said, sentences, strict=True):
        if one in often and one in seen:
            yield _Range(REPETITION, begin, end)
        seen.add(one)


def _compressed(text: str, tokens: Sequence[_Token]) -> Iterator[_Range]:
    """Stretches that say the same in other words: they compress as no speech does."""
    for at in range(0, max(1, len(text) - _WINDOW // 2), _WINDOW // 2):
        window = text[at : at + _WINDOW]
        if len(window) >= _WINDOW // 4 and _ratio(window) > _RATIO:
            inside = [n for n, token in enumerate(tokens) if at <= token.at < at + _WINDOW]
            said = [tokens[n].text for n in inside]
            if inside and len(set(said)) <= _DISTINCT * len(said):  # counting compresses, too
                yield _Range(REPETITION, inside[0], inside[-1] + 1)


def _ratio(text: str) -> float:
    """Compression with one byte a character, whatever the script: UTF-8 would punish all but Latin."""
    alphabet = {char: n % 256 for n, char in enumerate(dict.fromkeys(text))}
    data = bytes(alphabet[char] for char in text)
    return len(data) / len(zlib.compress(data))


def _echoes(words: Sequence[str], sentences: Sequence[tuple[int, int]], asked: Asked) -> Iterator[_Range]:
    """Sentences that stand in the prompt, or are made of keywords alone."""
    prompt = [token.text for token in _tokens(asked.prompt)]
    listed = [token.text for keyword in asked.keywords for token in _tokens(keyword)]
    sources = [source for source in (prompt, listed, [*prompt, *listed]) if source]
    keys = set(listed)
    for begin, end in sentences:
        said = words[begin:end]
        alone = len(said) >= 2 and len(asked.keywords) >= 2 and keys.issuperset(said) and len(set(said)) >= 2
        if alone or any(_within(said, source) for source in sources):
            yield _Range(PROMPT_ECHO, begin, end)


def _within(said: Sequence[str], source: Sequence[str]) -> bool:
    """Whether a sentence is mostly runs of another text."""
    if len(said) < _ECHO_WORDS:
        return False
    matcher = difflib.SequenceMatcher(None, list(source), list(said), autojunk=False)
    runs = [block.size for block in matcher.get_matching_blocks() if block.size >= _ECHO_WORDS]
    return sum(runs) >= _ECHO_SHARE * len(said)


def _stock(
    text: str, tokens: Sequence[_Token], sentences: Sequence[tuple[int, int]], sound: Sound | None
) -> Iterator[_Range]:
    """Phrases that engines are known to invent, at an end where it is silent or with nothing else beside."""
    known = [is_stock(text[tokens[begin].at : tokens[end - 1].end]) for begin, end in sentences]
    if not any(known):
        return
    if all(known):
        need_s = sum(width(token.text) + 1 for token in tokens) / _USUAL_CPS
        if (
            sound is None
            or sound.steady
            or sound.speech_s > _SLOW * need_s + 1
            or _silence(sound, last=True) >= _QUIET_END_S
            or _silence(sound, last=False) >= _QUIET_END_S
        ):
            yield _Range(STOCK_PHRASE, 0, len(tokens))
        return
    if sound is None:
        return
    for order, last in ((range(len(known) - 1, -1, -1), True), (range(len(known)), False)):
        if _silence(sound, last=last) < _QUIET_END_S:
            continue
        for n in order:
            if not known[n]:
                break
            yield _Range(STOCK_PHRASE, *sentences[n])


def _silence(sound: Sound, *, last: bool) -> float:
    if not sound.phrases:
        return sound.duration_s
    return sound.duration_s - sound.phrases[-1].end_s if last else sound.phrases[0].start_s


# -- against the sound ----------------------------------------------------------------------------------


def _against_sound(
    result: ChunkResult, tokens: Sequence[_Token], sound: Sound, duration_s: float
) -> Iterator[Doubt]:
    columns = sum(width(token.text) + 1 for token in tokens)
    if not sound.steady and sound.speech_s < _NO_SPEECH_S:
        if tokens:
            yield Doubt(NO_SPEECH_TEXT, 0.0, duration_s)
        return
    if result.timestamps == "engine" and not sound.steady:
        for segment in result.segments:
            heard_s = sound.speech_between(segment.start_s - _NEAR_S, segment.end_s + _NEAR_S)
            if segment.text.strip() and heard_s <= 0:
                yield Doubt(NO_SPEECH_TEXT, segment.start_s, segment.end_s)
    if columns > _MOST_CPS * (sound.speech_s + 1.0):
        yield Doubt(MANY_WORDS, 0.0, duration_s)
    if not sound.steady and sound.speech_s >= _MUCH_SPEECH_S and columns < _LEAST_CPS * sound.speech_s:
        yield Doubt(FEW_WORDS, 0.0, duration_s)


class _Places:
    """Where tokens lie in time: by the segments where there are some, else by length."""

    def __init__(self, result: ChunkResult, tokens: Sequence[_Token], duration_s: float) -> None:
        self._duration_s = duration_s
        self._spans: list[tuple[float, float]] = []
        for segment in result.segments:
            own = _tokens(segment.text)
            share_s = (segment.end_s - segment.start_s) / max(len(own), 1)
            self._spans += [
                (segment.start_s + n * share_s, segment.start_s + (n + 1) * share_s) for n in range(len(own))
            ]
        if len(self._spans) != len(tokens):
            share_s = duration_s / max(len(tokens), 1)
            self._spans = [(n * share_s, (n + 1) * share_s) for n in range(len(tokens))]

    def of(self, begin: int, end: int) -> tuple[float, float]:
        inside = self._spans[begin:end]
        if not inside:
            return 0.0, self._duration_s
        return inside[0][0], max(inside[0][0], inside[-1][1])


def _merged(doubts: Iterable[Doubt]) -> tuple[Doubt, ...]:
    """Sort doubts, and make one of neighbours with the same flag that overlap or touch."""
    merged: list[Doubt] = []
    for doubt in sorted(doubts, key=lambda one: (one.flag, one.start_s, one.end_s)):
        last = merged[-1] if merged else None
        if last is not None and last.flag == doubt.flag and doubt.start_s <= last.end_s + 0.5:
            merged[-1] = replace(last, end_s=max(last.end_s, doubt.end_s))
        else:
            merged.append(doubt)
    return tuple(sorted(merged, key=lambda one: (one.start_s, one.end_s, one.flag)))


# -- asking once more -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shift:
    """Another cut of the same speech: from ``start_s`` to ``end_s``, with silence before it; seconds."""

    start_s: float
    end_s: float
    pad_s: float


_EDGE_S, _WORTH_S, _PAD_S = 0.25, 0.4, 0.7


def plan_shift(sound: Sound | None, duration_s: float) -> Shift:
    """Leave out the silence at both ends, or where there is none, put some before: no speech is lost."""
    if sound is None or not sound.phrases or sound.steady:
        return Shift(0.0, duration_s, _PAD_S)
    start_s = max(0.0, sound.phrases[0].start_s - _EDGE_S)
    end_s = min(duration_s, sound.phrases[-1].end_s + _EDGE_S)
    return Shift(start_s, end_s, 0.0 if start_s >= _WORTH_S else _PAD_S)


def shifted_back(result: ChunkResult, shift: Shift, duration_s: float) -> ChunkResult:
    """Return an answer to a shifted cut in the times of the cut itself."""

    def place(at_s: float) -> float:
        return min(max(at_s - shift.pad_s, 0.0) + shift.start_s, duration_s)

    def moved(segment: Segment) -> Segment:
        words = segment.words and tuple(
            Word(place(word.start_s), place(word.end_s), word.text) for word in segment.words
        )
        return replace(segment, start_s=place(segment.start_s), end_s=place(segment.end_s), words=words)

    return replace(result, segments=tuple(map(moved, result.segments)))
