"""Where a line of text may end, how good a place that is, and how wide text is on a screen.

Owns the rules of scripts: spaces, sentence marks, words that belong to what follows them, and text without
spaces. Knows no time and no file format; never changes a character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from tnfd.rules.columns import char_width, width
from tnfd.rules.text import clean

COLUMNS = 42  # of a line; wider stretches without spaces are cut where their script allows it
_PHRASE = 20  # columns of a phrase without spaces that stays whole; no dictionary tells its words

# What a break costs, best first; the numbers only matter beside each other.
SENTENCE, CLAUSE, JOINING, WORD, CLINGING, NAME, INSIDE = 0, 2, 5, 9, 14, 18, 24

# No-break spaces hold together what they stand in ("10 000", "Quoi ?"): they are no place to break.
_SPACES = re.compile(r"[^\S\u00a0\u2007\u202f]+")
_CLOSING = "\"'”’»›)]}」』）】》〉"
_OPENING = "\"'“‘«‹([{¿¡„「『（【《〈"
_SENTENCE_MARKS = frozenset("!?…。！？؟۔।॥‼⁇")
_CLAUSE_MARKS = frozenset(",;:，、；：،؛–—")
_DASHES = frozenset("-–—")
_HANGUL = re.compile(
    r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff]"
)  # two columns wide, but written with spaces
_HIRAGANA, _KATAKANA = re.compile(r"[\u3041-\u309f]"), re.compile(r"[\u30a0-\u30ff]")
# Unicode's line breaking class SA, as far as people speak it: Thai, Lao, Tibetan, Burmese, Khmer.
_SPACELESS = re.compile(r"[\u0e00-\u109f\u1780-\u17ff\u30a0-\u30ff]")
_SYLLABLE_STARTS = frozenset("เแโใไເແໂໃໄ")  # vowels that are written before their syllable
# JIS X 4051: what may not begin a line, what may not end one.
_NOT_FIRST = frozenset(
    "、。，．・：；？！‐ー々〻ゝゞヽヾぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ゛゜％…‥,.;:?!%—–~〜" + _CLOSING
)
_JOINERS = frozenset("\u00a0\u2007\u202f\u2060\u200d\ufeff")
_NOT_LAST = frozenset("￥＄$¥#＃" + _OPENING)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# They open a clause or a phrase: a line breaks better before them than after. English, German, French,
# Spanish, Italian, Portuguese, Dutch, all in one: in another language such a word costs a little beauty.
_CONJUNCTIONS = _words(
    """
    and but or nor because although though while when where which who whose that if unless until since so than
    as before after
    und oder aber sondern denn weil dass daß wenn ob als während obwohl damit bevor nachdem wo wie
    et ou mais donc car que qui quand si comme parce puisque lorsque
    y o pero sino porque cuando como aunque donde
    e ma che perché quando se mas
    en maar want omdat dat terwijl
    """
)
_PREPOSITIONS = _words(
    """
    in on at for with from to into of by about through over under between without
    mit von für auf bei nach zu aus durch über unter zwischen ohne um im am zum zur vom beim
    dans avec pour sur par sans chez vers con para por sin desde hasta di da su per tra em com até
    met van voor bij naar uit
    """
)
_LEADING = _CONJUNCTIONS | _PREPOSITIONS
_ARTICLES = _words(
    """
    a an the my your his her its our their this these those no very
    der die das den dem des ein eine einen einem einer eines mein sein kein keine
    le la les un une du des ce cette ces mon ma mes el los las una lo gli il mi su tu os um uma het een
    de del della do da dos
    """
)
_PRONOUNS = _words(
    "i we you he she it they not ich wir du er sie es ihr nicht je tu il elle nous vous ils elles ne"
)
_TITLES = _words(
    """
    mr mrs ms miss dr prof gen col sen rep gov lt sgt capt rev hon st herr herrn frau hr fr mme mlle sra srta
    dott
    """
)
_ABBREVIATIONS = _words(
    """
    jr sr vs mt ft approx etc fig vol nr bzw ca inkl evtl ggf usw str abs art bd jh mio mrd tel ud uds sig
    """
)


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Give what no line end may divide, each with whether a space stands before it in the text."""
    for word in filter(None, map(str.strip, _SPACES.split(clean(text)))):
        spaced = True
        for piece in _divided(word):
            yield piece, spaced
            spaced = False


def break_cost(left: str, right: str, *, spaced: bool) -> int:
    """Return what it costs to end a line or a cue between two pieces; 0 is a sentence's end."""
    bare = left.rstrip(_CLOSING) or left
    if _ends_sentence(bare, right):
        return SENTENCE
    if bare[-1] in _CLAUSE_MARKS or (spaced and right[0] in _DASHES):
        return CLAUSE
    if not spaced:
        return _unspaced_cost(left[-1], right[0])
    word = left.strip(_OPENING + _CLOSING).casefold()
    stem = word.rstrip(".")
    if stem in _TITLES or (left[-1] == "." and _abbreviated(stem)):
        return INSIDE  # "Mr Smith", "J. Smith", "z. B."
    if _is_name(left, right):
        return NAME
    leads = right.strip(_OPENING).casefold() in _LEADING
    if leads and word not in _CONJUNCTIONS and word not in _ARTICLES:
        return JOINING  # also after what belongs to a verb: "move on | to the next"
    if word in _LEADING or word in _ARTICLES or word in _PRONOUNS or stem.isdecimal():
        return CLINGING
    return WORD


def _is_name(left: str, right: str) -> bool:
    """Whether two words look like parts of one name: both capitalised, with nothing between ("New York")."""
    first, second = left.lstrip(_OPENING), right.lstrip(_OPENING)
    return (
        first[:1].isupper()
        and second == right
        and second[:1].isupper()
        and first.casefold() not in _LEADING | _ARTICLES | _PRONOUNS
        and second.casefold() not in _PRONOUNS
        and left[-1].isalnum()
    )


def _ends_sentence(left: str, right: str) -> bool:
    """Whether ``left``, without closing quotes, ends a sentence; "Dr. Who", "z. B." and "3. Mai" do not."""
    if left[-1] in _SENTENCE_MARKS:
        return left[-1] != "…" or not right[0].islower()
    if left[-1] != "." or right[0].islower():
        return False
    word = left.rstrip(".").lstrip(_OPENING).casefold()
    if word.isdecimal():
        return len(word) > 2
    return not _abbreviated(word)


def _abbreviated(word: str) -> bool:
    """Whether a word, without the stop at its end, has that stop for being short."""
    return word in _TITLES or word in _ABBREVIATIONS or "." in word or (len(word) == 1 and word.isalpha())


def _unspaced_cost(last: str, first: str) -> int:
    """Return the cost of a break in text without spaces."""
    if last == "\u200b" or (_HIRAGANA.match(last) and not _HIRAGANA.match(first)):
        return WORD  # hiragana are particles and endings: most Japanese phrases end with them
    if last.isascii() != first.isascii() or bool(_KATAKANA.match(last)) != bool(_KATAKANA.match(first)):
        return CLINGING
    return INSIDE


def _divided(word: str) -> Iterator[str]:
    """Give the parts between which a word of text without spaces may break; else the word itself."""
    if word.isascii():
        yield word
        return
    for phrase in _split(word, _ends_phrase):
        if width(phrase) <= _PHRASE:
            yield phrase
        else:
            for part in _split(phrase, _may_break):
                yield from _chopped(part)


def _split(text: str, between: Callable[[str, str], bool]) -> Iterator[str]:
    start = 0
    for at in range(1, len(text)):
        if between(text[at - 1], text[at]):
            yield text[start:at]
            start = at
    yield text[start:]


def _ends_phrase(before: str, after: str) -> bool:
    """Whether a phrase ends there: after punctuation, before brackets, after a Japanese ending."""
    if not _may_break(before, after):
        return False
    if not before.isalnum() or after in _OPENING:
        return True
    # The honorific prefixes belong to what follows.
    return bool(_HIRAGANA.match(before) and not _HIRAGANA.match(after)) and before not in "おご"


def _may_break(before: str, after: str) -> bool:
    if before == "\u200b" or (before == "—" and after.isalnum()):
        return True
    if (
        after in _NOT_FIRST
        or before in _NOT_LAST
        or before in _JOINERS
        or after in _JOINERS
        or _clings(after)
    ):
        return False
    if before.isdecimal() and not after.isdecimal():
        return False  # a number and its unit
    if _KATAKANA.match(before) and _KATAKANA.match(after):
        return False
    return _ideographic(before) or _ideographic(after)


def _ideographic(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF" and not _HANGUL.match(char)


def _clings(char: str) -> bool:
    """Whether a character is one with what stands before it: marks, joiners, skin tones."""
    return unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf") or "\U0001f3fb" <= char <= "\U0001f3ff"


def _chopped(part: str) -> Iterator[str]:
    """Cut a stretch that no line could hold, if its script has no spaces; words of others stay whole."""
    start, taken = 0, 0
    if _SPACELESS.search(part) and width(part) > COLUMNS:
        for at, char in enumerate(part):
            taken += char_width(char)
            # Before a leading vowel a syllable begins; elsewhere, at least before a base character.
            good = char in _SYLLABLE_STARTS and taken > COLUMNS // 2
            full = taken > COLUMNS - 4 and not _clings(char) and char not in _NOT_FIRST
            if at and part[at - 1] not in _SYLLABLE_STARTS and (good or full):
                yield part[start:at]
                start, taken = at, char_width(char)
    yield part[start:]
