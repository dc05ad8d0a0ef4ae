"""Language names as servers write them, turned into codes. Owns the list of names that Whisper uses."""

from __future__ import annotations

import re

# Whisper's verbose_json names languages in English ("english"); codes are ISO 639.
_NAMES = """
af afrikaans|am amharic|ar arabic|as assamese|az azerbaijani|ba bashkir|be belarusian|bg bulgarian
bn bengali|bo tibetan|br breton|bs bosnian|ca catalan|ca valencian|cs czech|cy welsh|da danish
de german|el greek|en english|es spanish|es castilian|et estonian|eu basque|fa persian|fi finnish
fo faroese|fr french|gl galician|gu gujarati|ha hausa|haw hawaiian|he hebrew|hi hindi|hr croatian
ht haitian creole|ht haitian|hu hungarian|hy armenian|id indonesian|is icelandic|it italian
ja japanese|jv javanese|ka georgian|kk kazakh|km khmer|kn kannada|ko korean|la latin
lb luxembourgish|lb letzeburgesch|ln lingala|lo lao|lt lithuanian|lv latvian|mg malagasy|mi maori
mk macedonian|ml malayalam|mn mongolian|mr marathi|ms malay|mt maltese|my myanmar|my burmese
ne nepali|nl dutch|nl flemish|nn nynorsk|no norwegian|oc occitan|pa punjabi|pa panjabi|pl polish
ps pashto|ps pushto|pt portuguese|ro romanian|ro moldavian|ro moldovan|ru russian|sa sanskrit
sd sindhi|si sinhala|si sinhalese|sk slovak|sl slovenian|sn shona|so somali|sq albanian|sr serbian
su sundanese|sv swedish|sw swahili|ta tamil|te telugu|tg tajik|th thai|tk turkmen|tl tagalog
tr turkish|tt tatar|uk ukrainian|ur urdu|uz uzbek|vi vietnamese|yi yiddish|yo yoruba|yue cantonese
zh chinese|zh mandarin
"""

_CODE_OF = {
    name: code for code, _, name in (entry.partition(" ") for entry in re.split(r"[|\n]", _NAMES.strip()))
}
_CODE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,3}")


def code_of(language: object) -> str | None:
    """Return the lower-case code of a language as a server names it; None for whatever is none.

    Codes end up in file names: nothing but letters, digits and hyphens passes.
    """
    if not isinstance(language, str):
        return None
    name = language.strip().lower().replace("_", "-")
    if name in _CODE_OF:
        return _CODE_OF[name]
    return name if _CODE.fullmatch(name) and name != "auto" else None
