"""A tiny whisper model with random weights, as faster-whisper loads it: made here, without torch.

It says nonsense, but it is loaded, and gives segments and word times, like a real one. Run as a program it
writes one: ``python tests/whisper_model.py FOLDER [english]``. What it imports stays in that process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

_WIDTH, _MELS, _HEADS, _LAYERS = 16, 80, 2, 1
_LANGUAGES = ("en", "de", "es", "fr", "it", "ja", "zh", "pt", "ru", "sw")
_WORDS = [
    f"Ġ{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "i", "o", "un", "al", "or")
]


def build_model(folder: Path, *, english: bool = False) -> Path:
    """Write a model into ``folder``, in a process of its own; return the folder."""
    command = [sys.executable, __file__, str(folder), *(["english"] if english else [])]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def _vocabulary(*, english: bool) -> list[str]:
    # An empty token tells ctranslate2 that a model knows more than English (read in its 4.8.5).
    text = ["Ġ", ".", ",", *_WORDS, *([] if english else [""])]
    languages = [f"<|{code}|>" for code in _LANGUAGES]
    tasks = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>"]
    stamps = ["<|notimestamps|>", *(f"<|{index * 0.02:.2f}|>" for index in range(1501))]
    return [*text, "<|endoftext|>", "<|startoftranscript|>", *languages, *tasks, *stamps]


def _write(folder: Path, *, english: bool) -> None:
    import numpy
    import tokenizers
    from ctranslate2.specs import whisper_spec

    random = numpy.random.default_rng(7)
    vocabulary = _vocabulary(english=english)
    place = {token: index for index, token in enumerate(vocabulary)}

    def some(*shape: int) -> Any:
        return (random.standard_normal(shape) / shape[-1] ** 0.5).astype("float32")

    def norm(layer: Any) -> None:
        layer.gamma, layer.beta = numpy.ones(_WIDTH, "float32"), numpy.zeros(_WIDTH, "float32")

    def linear(layer: Any, rows: int, columns: int = _WIDTH) -> None:
        layer.weight, layer.bias = some(rows, columns), numpy.zeros(rows, "float32")

    def block(layer: Any) -> None:
        norm(layer.self_attention.layer_norm)
        linear(layer.self_attention.linear[0], 3 * _WIDTH)
        linear(layer.self_attention.linear[1], _WIDTH)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, 4 * _WIDTH)
        linear(layer.ffn.linear_1, _WIDTH, 4 * _WIDTH)

    spec = whisper_spec.WhisperSpec(_LAYERS, _HEADS, _LAYERS, _HEADS)
    encoder, decoder = spec.encoder, spec.decoder
    for conv, channels in ((encoder.conv1, _MELS), (encoder.conv2, _WIDTH)):
        conv.weight, conv.bias = some(_WIDTH, channels, 3), numpy.zeros(_WIDTH, "float32")
    encoder.position_encodings.encodings = some(1500, _WIDTH)
    decoder.position_encodings.encodings = some(448, _WIDTH)
    decoder.embeddings.weight = some(len(vocabulary), _WIDTH)
    linear(decoder.projection, len(vocabulary))
    # Sure of itself, so that nothing is tried again at another temperature, and of few words.
    decoder.projection.weight *= 6
    decoder.projection.bias[3 : len(_WORDS)] += 9
    decoder.projection.bias[place["<|endoftext|>"]] += 15
    norm(encoder.layer_norm)
    norm(decoder.layer_norm)
    for layer in (*encoder.layer, *decoder.layer):
        block(layer)
    for layer in decoder.layer:
        norm(layer.attention.layer_norm)
        linear(layer.attention.linear[0], _WIDTH)
        linear(layer.attention.linear[1], 2 * _WIDTH)
        linear(layer.attention.linear[2], _WIDTH)
    spec.register_vocabulary(vocabulary)
    config = spec.config
    config.suppress_ids = [place["Ġ"], *([] if english else [place[""]])]
    config.suppress_ids_begin = [place["Ġ"], place["<|endoftext|>"]]
    config.lang_ids = [place[f"<|{code}|>"] for code in _LANGUAGES]
    config.alignment_heads = [[0, head] for head in range(_HEADS)]
    spec.validate()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(place, unk_token="."))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    _write(Path(sys.argv[1]), english="english" in sys.argv[2:])
