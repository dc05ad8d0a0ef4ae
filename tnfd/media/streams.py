"""Which audio stream of a film is the one to transcribe. Pure: facts in, an index out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What the container says of one audio stream. ``index`` counts all streams of the container."""

    index: int
    language: str = ""  # as tagged: "ger", "deu", "de-AT", "und" or empty
    default: bool = False
    aside: bool = False  # a commentary, or a description for the blind
    channels: int = 0
    duration_s: float = 0.0
    decodable: bool = True


def decide_stream(streams: Sequence[AudioFacts], languages: Sequence[str]) -> AudioFacts | None:
    """Pick the best stream: by the languages asked for, in their order, else the container's default.

    Among equals the one with most channels, then the longest, then the first. None: nothing is decodable.
    """
    wanted = [canonical_language(language) for language in languages]

    def rank(stream: AudioFacts) -> tuple[int, bool, bool, int, float, int]:
        tag = canonical_language(stream.language)
        place = wanted.index(tag) if tag in wanted else len(wanted)
        return place, stream.aside, not stream.default, -stream.channels, -stream.duration_s, stream.index

    return min((stream for stream in streams if stream.decodable), key=rank, default=None)


def canonical_language(tag: str) -> str:
    """Bring a language tag (ISO 639-1, 639-2 B or T, BCP 47) to ISO 639-2/T; unknown ones stay."""
    primary = tag.strip().lower().replace("_", "-").partition("-")[0]
    return _CANONICAL.get(primary, primary)


# ISO 639-1 to 639-2/T (https://www.loc.gov/standards/iso639-2/php/code_list.php).
_TWO_LETTERS = """
aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul
bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym
da:dan de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij
fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat
hu:hun hy:hye hz:her ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav
ka:kat kg:kon ki:kik kj:kua kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir
la:lat lb:ltz lg:lug li:lim ln:lin lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon
mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya
oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus
rw:kin sa:san sc:srd sd:snd se:sme sg:sag si:sin sk:slk sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw
st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso
tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol wa:wln wo:wol xh:xho yi:yid yo:yor
za:zha zh:zho zu:zul
"""
# The bibliographic (B) codes that differ from the terminological (T) ones; films carry both.
_BIBLIOGRAPHIC = """
alb:sqi arm:hye baq:eus bur:mya chi:zho cze:ces dut:nld fre:fra geo:kat ger:deu gre:ell ice:isl mac:mkd
mao:mri may:msa per:fas rum:ron slo:slk tib:bod wel:cym
"""
_CANONICAL = {
    pair.partition(":")[0]: pair.partition(":")[2] for pair in (_TWO_LETTERS + _BIBLIOGRAPHIC).split()
}
