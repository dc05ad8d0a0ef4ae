"""How programs and companies that speak the API differ from it, played by the test server.

Each plays what was read in its code or reported in public (docs: engines/kinds.py, profiles.py); only what
concerns tnfd. ``play(server, name)`` makes a server one of QUIRKS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Behaviour, Raw
from tnfd.testing.records import Request

_TEXT = "words of it"


def _json(body: object, status: int = 200, server: str = "") -> Raw:
    headers = {"server": server} if server else {}
    return Raw(json.dumps(body).encode(), status=status, headers=headers, paid=status == 200)


def _field(request: Request, name: str) -> str | None:
    values = request.fields.get(name)
    return values[0] if values else None


def _times(request: Request) -> dict[str, Any]:
    return {
        "task": "transcribe", "language": "english", "duration": request.audio_s, "text": _TEXT,
        "segments": [{"id": 0, "start": 0.0, "end": request.audio_s, "text": f" {_TEXT}"}],
    }  # fmt: skip


def _words(request: Request, key: str) -> list[dict[str, Any]]:
    words = _TEXT.split()
    step_s = request.audio_s / len(words)
    return [{key: word, "start": i * step_s, "end": (i + 1) * step_s} for i, word in enumerate(words)]


def _wants_words(request: Request) -> bool:
    return "word" in request.fields.get("timestamp_granularities[]", [])


def _speaches(request: Request) -> Behaviour:
    if request.response_format != "verbose_json":
        return _json({"text": _TEXT})
    body = _times(request)
    if _field(request, "without_timestamps") not in ("false", "False", "0"):
        body["segments"] = []
    elif _wants_words(request):
        body["words"] = _words(request, "word")
    return _json(body)


def _whisper_cpp(request: Request) -> Behaviour:
    """A missing language means English; words are nested."""
    language = _field(request, "language") or "en"
    body = _times(request)
    body["language"] = "german" if language == "auto" else language
    body["segments"][0]["words"] = _words(request, "word")
    plain = {"text": _TEXT}
    return _json(body if request.response_format == "verbose_json" else plain, server="whisper.cpp")


def _localai(request: Request) -> Behaviour:
    if request.file_bytes > 15 * 1024 * 1024:
        error = {"code": 413, "message": "Request Entity Too Large", "type": ""}
        return _json({"error": error}, 413)
    body = _times(request)
    body["words"] = _words(request, "text")
    return _json(body if request.response_format == "verbose_json" else {"text": _TEXT})


def _vllm(request: Request) -> Behaviour:
    if _wants_words(request):
        error = {
            "message": "Currently do not support timestamp_granularities=word",
            "type": "BadRequestError", "param": None, "code": 400,
        }  # fmt: skip
        return _json({"error": error}, 400)
    body = _times(request)
    body["duration"] = str(request.audio_s)
    return _json(body if request.response_format == "verbose_json" else {"text": _TEXT})


def _groq(request: Request) -> Behaviour:
    body = _times(request) | {"x_groq": {"id": "req_1"}}
    if _wants_words(request):
        body["words"] = _words(request, "word")
    return _json(body if request.response_format == "verbose_json" else {"text": _TEXT})


def _azure(request: Request) -> Behaviour:
    if request.model != "my-deployment":
        message = "The API deployment for this resource does not exist."
        return _json({"error": {"code": "DeploymentNotFound", "message": message}}, 404)
    if request.response_format == "verbose_json":
        message = "response_format 'verbose_json' is not compatible with model. Use 'json' instead."
        return _json({"error": {"code": "unsupported_value", "message": message}}, 400)
    return _json({"text": _TEXT})


def _mistral(request: Request) -> Behaviour:
    """Knows none of the API's own options; times and a language exclude one another."""
    times = "timestamp_granularities[]" in request.fields
    if {"response_format", "prompt"} & set(request.fields) or (times and "language" in request.fields):
        return _json({"object": "error", "message": "Extra inputs are not permitted", "code": "1500"}, 422)
    segments = [{"start": 0.0, "end": request.audio_s, "text": _TEXT, "type": "transcription_segment"}]
    return _json({"model": request.model, "text": _TEXT, "language": None, "segments": segments * times})


def _unknown(request: Request) -> Behaviour:
    """Takes file and model and nothing else, and names what it does not take, one at a time."""
    for name in ("prompt", "language", "timestamp_granularities[]"):
        if name in request.fields:
            return _json({"detail": [{"loc": ["body", name], "msg": "unexpected", "type": "extra"}]}, 422)
    if request.response_format != "json":
        return _json({"detail": "response_format: only json is supported"}, 400)
    return _json({"text": _TEXT})


Answer = Callable[[Request], Behaviour]
_SPEACHES_MODEL = {
    "id": "Systran/faster-whisper-small", "object": "model", "created": 1, "owned_by": "Systran",
    "language": ["en"], "task": "automatic-speech-recognition",
}  # fmt: skip

# Name -> how it answers, what its list of models holds (None: no such route), its Server header.
QUIRKS: dict[str, tuple[Answer, list[dict[str, Any]] | None, str]] = {
    "speaches": (_speaches, [_SPEACHES_MODEL], "uvicorn"),
    "whisper.cpp": (_whisper_cpp, None, "whisper.cpp"),
    "localai": (_localai, [{"id": "whisper-1", "object": "model"}], ""),
    "vllm": (_vllm, [{"id": "w", "object": "model", "owned_by": "vllm", "root": "w"}], "uvicorn"),
    "groq": (_groq, [{"id": "whisper-large-v3", "object": "model", "owned_by": "OpenAI"}], "cloudflare"),
    "azure": (_azure, [{"id": "gpt-4o-transcribe", "object": "model", "owned_by": "x"}], ""),
    "mistral": (_mistral, [{"id": "voxtral-mini-latest", "object": "model", "owned_by": "mistralai"}], ""),
    "unknown": (_unknown, None, ""),
}


def play(server: ApiServer, name: str) -> None:
    """Make the server one of QUIRKS."""
    answer, models, header = QUIRKS[name]
    server.choose, server.models, server.server_header = answer, models, header
