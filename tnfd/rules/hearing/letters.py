"""How an English word might be said that no dictionary knows, in the phones of CMUdict. Pure.

A guess by letters is right often enough for its purpose: a name takes up its own sound in an alignment, so
that its neighbours need not. Nothing is ever recognised with it.
"""

from __future__ import annotations

# Longest spelling first within a letter; "^" begins a word, "$" ends one.
_SPELLINGS: tuple[tuple[str, str], ...] = tuple(
    (spelling, phones.strip())
    for spelling, _, phones in (
        line.strip().partition(" ")
        for line in """
        tsch CH
        ough AO
        augh AO
        eigh EY
        tion SH AH N
        sion ZH AH N
        sch SH
        tch CH
        dge JH
        igh AY
        ^kn N
        ^wr R
        ^ps S
        ^x Z
        ^mc M AH K
        ch CH
        ck K
        sh SH
        th TH
        ph F
        wh W
        gh G
        ng NG
        qu K W
        ce$ S
        ge$ JH
        ss S
        zz Z
        tt T
        pp P
        bb B
        dd D
        gg G
        ff F
        ll L
        mm M
        nn N
        rr R
        cc K
        kk K
        ee IY
        ea IY
        oo UW
        ou AW
        ow OW
        oi OY
        oy OY
        ai EY
        ay EY
        au AO
        aw AO
        ei AY
        ey$ IY
        ie IY
        eu Y UW
        oa OW
        ue UW
        er ER
        ir ER
        ur ER
        ar AA R
        or AO R
        ce S EH
        ci S IH
        cy S IY
        a$ AH
        e$
        y$ IY
        i$ IY
        o$ OW
        ^y Y
        's$ Z
        """.splitlines()
        if line.strip()
    )
)  # fmt: skip
_SINGLE = {
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH",
    "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T",
    "u": "AH", "v": "V", "w": "W", "x": "K S", "y": "IH", "z": "Z",
}  # fmt: skip
_NAMES = {
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH",
    "i": "AY", "j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY",
    "q": "K Y UW", "r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW", "v": "V IY",
    "w": "D AH B AH L Y UW", "x": "EH K S", "y": "W AY", "z": "Z IY",
}  # fmt: skip
_VOWELS = frozenset("aeiouy")


def phones_of(word: str, *, letters: bool = False) -> str:
    """Return the phones of a word of a-z and apostrophes, parted by spaces; ``letters``: one by one."""
    if letters or not _VOWELS.intersection(word):
        return " ".join(_NAMES[char] for char in word if char in _NAMES)
    found: list[str] = []
    at = 0
    while at < len(word):
        spelling, phones = _next(word, at)
        found.append(phones)
        at += len(spelling)
    return " ".join(filter(None, found)) or phones_of(word, letters=True)


def _next(word: str, at: int) -> tuple[str, str]:
    """Return the letters that are said together from ``at`` on, and how."""
    for pattern, phones in _SPELLINGS:
        spelling = pattern.strip("^$")
        if (
            word.startswith(spelling, at)
            and (pattern[0] != "^" or at == 0)
            and (pattern[-1] != "$" or (at + len(spelling) == len(word) and at > 0))
        ):
            return spelling, phones
    return word[at], _SINGLE.get(word[at], "")
