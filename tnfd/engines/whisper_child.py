"""The worker that holds faster-whisper, run by ``child_host.py`` in a process of its own.

Stands alone: the standard library, faster-whisper and what that brings, nothing of tnfd. It takes a model's
folder, never a name, so that it has no reason to go to the network.

Request: ``{"model": hex of the folder's path, "device", "compute_type", "threads"}`` loads the model; with
``"path"`` (hex; raw s16le at 16 kHz, mono), ``"languages"``, ``"hints"`` and ``"words"`` besides it
transcribes. Answer: ``{"device", "compute_type"}``, or an object as servers answer with ``verbose_json`` and
``"flags"``; where it cannot, ``{"error": text, "code": code}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

RATE_HZ = 16_000
_SHORTEST_SAMPLES = RATE_HZ // 10
_WINDOW_SAMPLES = 30 * RATE_HZ
_WINDOWS = 5  # that are listened to where the language is one of several
_HINT_TOKENS = 200  # of the 448 that hint and text share
_REPEATS = 2.4  # a text that zlib shrinks more than this repeats itself (the model's own threshold)
# Silence makes the model invent text, so only what may be speech is given to it. More is taken for speech
# than by default (0.5), and with wide margins: a word that is lost is worse.
_VAD = {"threshold": 0.3, "speech_pad_ms": 400, "min_silence_duration_ms": 2000}
_ABOUT_DEVICE = ("cuda", "cublas", "cudnn", "compute type", "device", "driver")

Tell = Callable[[object], None]


class _Cannot(Exception):
    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


def open_worker() -> Callable[[dict[str, Any], Tell], dict[str, Any]]:
    """See ``child_host``; the model is loaded at the first request and kept."""
    loaded: dict[tuple[str, ...], tuple[Any, dict[str, Any]]] = {}

    def work(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
        wanted = (request["model"], request["device"], request["compute_type"], str(request["threads"]))
        try:
            if wanted not in loaded:
                loaded.clear()
                loaded[wanted] = _load(*wanted, tell)
            model, about = loaded[wanted]
            return _transcribe(model, request, tell) if "path" in request else about
        except _Cannot as error:
            return {"error": str(error), "code": error.code}

    return work


# -- the model ------------------------------------------------------------------------------------------


def _load(
    folder: str, device: str, compute_type: str, threads: str, tell: Tell
) -> tuple[Any, dict[str, Any]]:
    import ctranslate2
    from faster_whisper import WhisperModel

    ctranslate2.set_random_seed(1)  # for what is tried again at other temperatures
    cuda = ctranslate2.get_cuda_device_count() > 0
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    if device == "cuda" and not cuda:
        raise _Cannot("engine.no_device", "no CUDA device can be used here")
    if compute_type == "auto":
        compute_type = "int8" if device == "cpu" else _best(ctranslate2.get_supported_compute_types(device))
    about = {"device": device, "compute_type": compute_type}
    tell(about)  # where a driver ends this process, the other side knows which one
    try:
        model = WhisperModel(
            bytes.fromhex(folder).decode("utf-8", "surrogateescape"),
            device=device,
            compute_type=compute_type,
            cpu_threads=int(threads),
            local_files_only=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # the libraries raise what they like, also bare Exception (tokenizers)
        said = str(error)
        about_device = any(word in said.lower() for word in _ABOUT_DEVICE)
        raise _Cannot("engine.no_device" if about_device else "engine.model_broken", said) from error
    return model, about


def _best(supported: Iterable[str]) -> str:
    return "float16" if "float16" in supported else "auto"


# -- speech ---------------------------------------------------------------------------------------------


def _transcribe(model: Any, request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    import numpy

    with open(bytes.fromhex(request["path"]), "rb") as pcm:
        raw = pcm.read()
    samples = numpy.frombuffer(raw[: len(raw) - len(raw) % 2], "<i2").astype(numpy.float32) / 32768
    tell({"read": len(raw)})
    nothing: dict[str, Any] = {"text": "", "segments": [], "language": None, "flags": []}
    if len(samples) < _SHORTEST_SAMPLES:
        return nothing
    speech = _speech(samples)
    if not len(speech):
        return nothing
    found, info = model.transcribe(
        samples,
        language=_language(model, request["languages"], speech),
        beam_size=5,
        condition_on_previous_text=False,  # loops feed on carried context
        word_timestamps=request["words"],
        vad_filter=True,
        vad_parameters=_VAD,
        # Unlike initial_prompt these go with every window of 30 s, not with the first alone.
        hotwords=_hints(model, request["hints"]),
    )
    segments, repeats = [], False
    for segment in found:
        tell({"at_s": float(segment.end)})
        repeats = repeats or segment.compression_ratio > _REPEATS
        segments.append(
            {
                "start": float(segment.start),
                "end": float(segment.end),
                "text": segment.text,
                "words": [
                    {"start": float(word.start), "end": float(word.end), "word": word.word}
                    for word in segment.words or ()
                ],
            }
        )
    return {
        "text": "".join(segment["text"] for segment in segments),
        "segments": segments,
        "language": info.language if segments else None,
        "flags": ["repetition"] if repeats else [],
    }


def _speech(samples: Any) -> Any:
    """What may be speech of the samples, in one piece."""
    import numpy
    from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

    found = get_speech_timestamps(samples, VadOptions(**_VAD))
    return numpy.concatenate(collect_chunks(samples, found)[0]) if found else samples[:0]


def _language(model: Any, languages: list[str], speech: Any) -> str | None:
    """The one to transcribe in: None lets the model find it out; of several the likeliest in this audio."""
    if not languages:
        return None
    known = set(model.supported_languages)
    usable = list(
        dict.fromkeys(code for code in (_base(language) for language in languages) if code in known)
    )
    if not usable:
        which = "English alone" if known == {"en"} else "no such language"
        raise _Cannot("engine.language", f"{', '.join(languages)}; the model knows {which}")
    if len(usable) == 1:
        return usable[0]
    count = max(1, min(_WINDOWS, round(len(speech) / _WINDOW_SAMPLES)))
    step = max(1, (len(speech) - _WINDOW_SAMPLES) // max(1, count - 1)) if count > 1 else 0
    total = dict.fromkeys(usable, 0.0)
    for index in range(count):
        window = speech[index * step : index * step + _WINDOW_SAMPLES]
        _, _, likely = model.detect_language(window)
        for code, probability in likely:
            if code in total:
                total[code] += float(probability)
    return max(usable, key=lambda code: total[code])


def _base(language: str) -> str:
    return language.lower().replace("_", "-").partition("-")[0]


def _hints(model: Any, hints: list[str]) -> str | None:
    """As many of the hints, whole ones, as there is room for; the first is cut where it is too long."""
    taken: list[str] = []
    room = _HINT_TOKENS
    for hint in hints:
        words = hint.split(" ")
        if not taken:
            while len(words) > 1 and _length(model, " ".join(words)) > room:
                words.pop()
        text = " ".join(words)
        length = _length(model, text) + 2
        if taken and length > room:
            break
        taken.append(text)
        room -= length
    return ", ".join(taken) or None


def _length(model: Any, text: str) -> int:
    return len(model.hf_tokenizer.encode(f" {text}", add_special_tokens=False).ids)
