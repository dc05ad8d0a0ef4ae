"""Phrases that engines are known to invent where nobody speaks: closings, credits, notes on sounds. Pure.

From public reports on Whisper in silence (arXiv 2501.11378, 2505.12969): it learned them from subtitles of
films. A list can only be short of some; it is one sign among others, and people say these things, too.
"""

from __future__ import annotations

import re
import unicodedata

_WHOLE = """
    thank you
    thank you so much
    thank you very much
    thanks for watching
    thank you for watching
    thank you so much for watching
    thanks for listening
    thank you for listening
    thanks for watching and i'll see you next time
    thanks for watching and see you in the next video
    i'll see you in the next video
    see you in the next video
    see you next time
    see you next week
    please subscribe
    please subscribe to my channel
    please like and subscribe
    like and subscribe
    don't forget to like and subscribe
    bye
    bye bye
    you
    the end
    music
    applause
    silence
    laughter
    music playing
    upbeat music
    blank audio
    vielen dank
    vielen dank fürs zuschauen
    vielen dank für's zuschauen
    danke fürs zuschauen
    bis zum nächsten mal
    das war's für heute
    merci
    merci d'avoir regardé cette vidéo
    merci d'avoir regardé
    à bientôt
    gracias
    gracias por ver
    gracias por ver el video
    gracias por ver el vídeo
    suscríbete al canal
    suscríbete
    hasta la próxima
    grazie
    grazie per la visione
    grazie a tutti
    obrigado
    obrigado por assistir
    bedankt voor het kijken
    dziękuję
    dziękuję za oglądanie
    dziękuję za uwagę
    спасибо за просмотр
    продолжение следует
    до новых встреч
    дякую за перегляд
    ご視聴ありがとうございました
    最後までご視聴ありがとうございました
    ありがとうございました
    おやすみなさい
    チャンネル登録お願いします
    字幕
    谢谢观看
    谢谢大家
    感谢观看
    谢谢
    謝謝觀看
    請不吝點贊訂閱轉發打賞支持明鏡與點點欄目
    请不吝点赞订阅转发打赏支持明镜与点点栏目
    시청해주셔서 감사합니다
    감사합니다
    구독과 좋아요 부탁드립니다
    شكرا للمشاهدة
    اشتركوا في القناة
    ترجمة نانسي قنقر
    תודה רבה
    altyazı m k
    izlediğiniz için teşekkürler
    teşekkür ederim
    """
_CREDITS = re.compile(
    r"""
    amara\.?\s?org | opensubtitles | \bsubtitles?\ (?:by|created\ by) | \bcaption(?:s|ed|ing)?\ by\b
    | \btranscri(?:bed|ption|pts?)\ by\b | \btranslated\ by\b
    | untertitel(?:ung)?\ (?:der|von|im\ auftrag|des)
    | sous-?titr(?:es|age) | subt[ií]tulos\ (?:realizados|por|creados)
    | sottotitoli\ (?:creati|e\ revisione|a\ cura)
    | legendas?\ (?:pela|por) | ondertitel(?:s|d|ing) | napisy\ (?:stworzone|wykonane)
    | субтитры | редактор\ субтитров
    | 字幕(?:由|by|志愿者|組|组) | 자막\s?제공 | copyright\ .{0,20}\b(?:zdf|wdr|swr|ard|br)\b | ^www\.
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_stock(sentence: str) -> bool:
    """Whether a sentence is one of the phrases, whatever its case, marks and brackets."""
    return _fold(sentence) in _PHRASES or bool(_CREDITS.search(sentence))


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFC", text).casefold().replace("’", "'")
    return " ".join("".join(char if char.isalnum() or char == "'" else " " for char in folded).split())


_PHRASES = frozenset(filter(None, map(_fold, _WHOLE.splitlines())))
