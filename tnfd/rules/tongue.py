"""Which language a text is in, for engines that do not say: by its script and its commonest words. Pure.

Names a language only where the text leaves little doubt; a list of expected ones makes that easier.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_MUCH = 30  # letters; of less nobody can tell
_SHARE = 0.06  # of the words must be the commonest of the language; of running text a third is
_PART = 0.1  # of a recording's text: less is a mistake, or a quotation
_AHEAD = 1.5  # times as many as of the next language

_WORD = re.compile(r"[^\W\d_]+")
# One script, one language, as far as people speak into recorders.
_SCRIPTS = {
    "HANGUL": "ko", "THAI": "th", "GREEK": "el", "HEBREW": "he", "DEVANAGARI": "hi", "BENGALI": "bn",
    "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn", "MALAYALAM": "ml", "GUJARATI": "gu", "GURMUKHI": "pa",
    "GEORGIAN": "ka", "ARMENIAN": "hy", "KHMER": "km", "LAO": "lo", "MYANMAR": "my", "SINHALA": "si",
    "TIBETAN": "bo", "ETHIOPIC": "am",
}  # fmt: skip
_COMMON = {
    "en": "the and to of that is it in you was for this have with not are but what they",
    "de": "der die und das ist ich nicht ein zu es den mit sie wir auf auch dass eine war wo er wie im",
    "fr": "le la les et des est que une dans pas pour qui vous nous je ce sur avec mais",
    "es": "el los las que y es una para con por lo como pero más muy está del esto porque",
    "it": "il che di e non è una per sono con gli della anche come più questo ma del ho",
    "pt": "o os que e não uma para com mais mas muito você isso está são do da em eu",
    "nl": "de het een en van ik dat niet is zijn met voor maar op ook wat je er naar",
    "pl": "nie to się jest na że do w z co jak tak ale po czy przez tym może już",
    "cs": "je se to na že v s ale jako jsem tak by co který jsou bylo když už pro",
    "sv": "och att det är jag som en på inte för har med vi om så den till av men",
    "da": "og det er at jeg ikke en som på til har vi med for der af den så men",
    "no": "og det er jeg ikke en som på til har vi med for av den så men å hva",
    "fi": "ja on ei se että hän oli niin kun mutta ovat myös minä olen kuin joka sitten nyt",
    "tr": "bir ve bu çok da de için ne ama var ben o gibi değil daha olarak kadar sonra",
    "hu": "a az és hogy nem is egy ez de van meg volt csak már mint még ha azt",
    "ro": "și de la nu în că este cu o un pe mai pentru din sunt care dar ce",
    "ru": "и в не на что я с он это как по но они мы из у за так кто его ему если или вот",
    "uk": "і в не на що я з він це як по але вони ми та у за так є хто його йому якщо або ось",
    "bg": "и в не на че се от това да за са по но ще как са ли",
    "ar": "في من على أن هذا ما إلى لا التي مع كان عن هذه هو كل",
    "fa": "و در به از که این را با است می برای آن یک خود تا ها",
    "ur": "کے میں کی ہے اور سے کا کو یہ ہیں نے پر اس بھی نہیں",
}  # fmt: skip
_DIFFERENT = 3  # of them at the least
_WORDS = {code: frozenset(words.split()) for code, words in _COMMON.items()}
_SHARED = Counter(word for words in _WORDS.values() for word in words)


def language_of(text: str, expected: Sequence[str] = ()) -> str | None:
    """Return the code of the text's language, of the ``expected`` where there are some; None: cannot tell."""
    letters = [char for char in text[:20_000] if char.isalpha()]
    if len(letters) < _MUCH // (2 if expected else 1):
        return None
    if len(expected) == 1:
        return expected[0]
    found = _by_script(letters) or _by_words(text[:20_000], expected)
    known = {code.partition("-")[0]: code for code in expected}
    return known.get(found) if known and found else found


def languages_of(texts: Sequence[str], expected: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the languages of a recording's pieces in order of appearance; what is a tenth of it counts."""
    if len(expected) == 1:
        return tuple(expected)
    letters: Counter[str] = Counter()
    for text in texts:
        if (found := language_of(text, expected)) is not None:
            letters[found] += len(text)
    most = sum(letters.values())
    found_all = tuple(code for code, count in letters.items() if count >= _PART * most)
    if found_all:
        return found_all
    whole = language_of(" ".join(texts), expected)
    return () if whole is None else (whole,)


def _by_script(letters: Sequence[str]) -> str | None:
    scripts = Counter(unicodedata.name(char, "").partition(" ")[0] for char in letters)
    script, count = scripts.most_common(1)[0]
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * len(letters):
        return "ja"
    if count < 0.6 * len(letters):
        return None
    return "zh" if script == "CJK" else _SCRIPTS.get(script)


def _by_words(text: str, expected: Sequence[str]) -> str | None:
    words = Counter(word.casefold() for word in _WORD.findall(text))
    codes = {code.partition("-")[0] for code in expected} & _WORDS.keys() or _WORDS.keys()
    ranked = sorted(((_weight(words, code), code) for code in codes), reverse=True)
    most, code = ranked[0]
    next_most = ranked[1][0] if len(ranked) > 1 else 0.0
    different = sum(word in _WORDS[code] for word in words)
    if different < _DIFFERENT or most < _SHARE * words.total() or most < _AHEAD * next_most:
        return None
    return code


def _weight(words: Counter[str], code: str) -> float:
    """Count a language's commonest words; what is one in several languages counts less."""
    own = _WORDS[code]
    return sum(count / _SHARED[word] for word, count in words.items() if word in own)
