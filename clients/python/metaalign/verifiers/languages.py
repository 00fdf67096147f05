"""Languages by code and name, which one a text is in, and how each greets."""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator

from metaalign.verifiers.reading import without_fences

__all__ = ["CODES", "GREETINGS", "CodeOrName", "code_of", "is_in"]

_NAMES = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic العربية", "az": "azerbaijani", "be": "belarusian",
    "bg": "bulgarian български", "bn": "bengali bangla বাংলা", "ca": "catalan català", "cs": "czech čeština",
    "cy": "welsh cymraeg", "da": "danish dansk", "de": "german deutsch", "el": "greek ελληνικά", "en": "english",
    "eo": "esperanto", "es": "spanish español castilian", "et": "estonian eesti", "eu": "basque euskara",
    "fa": "persian farsi فارسی", "fi": "finnish suomi", "fr": "french français", "ga": "irish gaeilge",
    "gl": "galician galego", "gu": "gujarati ગુજરાતી", "he": "hebrew עברית", "hi": "hindi हिन्दी",
    "hr": "croatian hrvatski", "hu": "hungarian magyar", "hy": "armenian", "id": "indonesian",
    "is": "icelandic íslenska",
    "it": "italian italiano", "ja": "japanese 日本語", "ka": "georgian", "kk": "kazakh", "km": "khmer",
    "kn": "kannada ಕನ್ನಡ", "ko": "korean 한국어", "la": "latin", "lo": "lao", "lt": "lithuanian lietuvių",
    "lv": "latvian latviešu", "mk": "macedonian", "ml": "malayalam മലയാളം", "mn": "mongolian", "mr": "marathi मराठी",
    "ms": "malay", "my": "burmese", "ne": "nepali नेपाली", "nl": "dutch nederlands", "no": "norwegian norsk",
    "pa": "punjabi ਪੰਜਾਬੀ", "pl": "polish polski", "pt": "portuguese português", "ro": "romanian română",
    "ru": "russian русский", "si": "sinhala", "sk": "slovak slovenčina", "sl": "slovenian slovene slovenščina",
    "sq": "albanian shqip", "sr": "serbian српски", "sv": "swedish svenska", "sw": "swahili kiswahili",
    "ta": "tamil தமிழ்", "te": "telugu తెలుగు", "th": "thai ไทย", "tl": "tagalog filipino", "tr": "turkish türkçe",
    "uk": "ukrainian українська", "ur": "urdu اردو", "vi": "vietnamese", "zh": "chinese mandarin 中文",
}  # fmt: skip
CODES = {name: code for code, names in _NAMES.items() for name in (code, *names.split())}
"""Lower-case name, own name or ISO 639-1 code -> code."""

_SCRIPTS = {
    **dict.fromkeys(("ar", "fa", "ur"), ("ARABIC",)),
    **dict.fromkeys(("be", "bg", "kk", "mk", "mn", "ru", "uk"), ("CYRILLIC",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("DEVANAGARI",)),
    "am": ("ETHIOPIC",),
    "bn": ("BENGALI",),
    "el": ("GREEK",),
    "gu": ("GUJARATI",),
    "he": ("HEBREW",),
    "hy": ("ARMENIAN",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ka": ("GEORGIAN",),
    "km": ("KHMER",),
    "kn": ("KANNADA",),
    "ko": ("HANGUL", "CJK"),
    "lo": ("LAO",),
    "ml": ("MALAYALAM",),
    "my": ("MYANMAR",),
    "pa": ("GURMUKHI",),
    "si": ("SINHALA",),
    "sr": ("CYRILLIC", "LATIN"),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
    "zh": ("CJK",),
}
"""Code -> how Unicode's names of its letters begin; any other language is written in Latin letters."""

GREETINGS: dict[str, tuple[str, ...]] = {
    "ar": ("مرحبا", "أهلا", "السلام عليكم"),
    "cs": ("ahoj", "dobrý den"),
    "da": ("hej", "goddag", "god morgen"),
    "de": (
        "hallo", "guten tag", "guten morgen", "guten abend", "grüß gott", "moin", "servus", "grüezi", "sehr geehrte",
        "sehr geehrter",
    ),
    "el": ("γεια", "γειά", "καλημέρα", "καλησπέρα"),
    "en": (
        "hello", "hi", "hey", "greetings", "good morning", "good afternoon", "good evening", "good day", "dear",
        "welcome", "howdy", "ahoy", "g'day",
    ),
    "es": (
        "hola", "buenos días", "buenas tardes", "buenas noches", "buen día", "buenas", "saludos", "estimado",
        "estimada",
    ),
    "fi": ("hei", "moi", "terve", "hyvää päivää", "hyvää huomenta"),
    "fr": ("bonjour", "bonsoir", "salut", "coucou", "bienvenue"),
    "he": ("שלום", "היי", "בוקר טוב"),
    "hi": ("नमस्ते", "नमस्कार"),
    "hu": ("szia", "helló", "jó napot", "sziasztok"),
    "id": ("halo", "hai", "selamat pagi", "selamat siang", "selamat malam"),
    "it": ("ciao", "buongiorno", "buonasera", "buon giorno", "salve"),
    "ja": ("こんにちは", "こんばんは", "おはよう", "やあ", "はじめまして"),
    "ko": ("안녕하세요", "안녕"),
    "la": ("salve", "salvete", "ave"),
    "nl": ("hallo", "hoi", "goedendag", "goedemorgen", "goedemiddag", "goedenavond", "dag", "geachte"),
    "no": ("hei", "god dag", "god morgen", "hallo"),
    "pl": ("cześć", "dzień dobry", "witaj", "witam", "dobry wieczór", "hej"),
    "pt": ("olá", "oi", "bom dia", "boa tarde", "boa noite", "prezado", "prezada"),
    "ro": ("bună", "salut", "bună ziua"),
    "ru": ("привет", "здравствуйте", "здравствуй", "добрый день", "доброе утро", "добрый вечер"),
    "sv": ("hej", "hallå", "god dag", "god morgon", "tjena"),
    "sw": ("habari", "jambo", "hujambo", "mambo"),
    "th": ("สวัสดี",),
    "tr": ("merhaba", "selam", "günaydın", "iyi günler"),
    "uk": ("привіт", "вітаю", "добрий день", "добридень"),
    "vi": ("xin chào", "chào"),
    "zh": ("你好", "您好", "早上好", "大家好", "嗨"),
}  # fmt: skip
"""Code -> how an answer in the language may greet, in lower case."""


def code_of(language: str) -> str | None:
    """Return the ISO 639-1 code of a language by code, English name or own name; None if we do not know it.

    A country may follow (`pt-BR`, `English (UK)`) or an adjective may stand before (`Brazilian Portuguese`).
    """
    key = language.strip().casefold()
    whole = re.split(r"[-_(]", key, maxsplit=1)[0].strip()
    last = whole.split()[-1] if whole else ""
    return CODES.get(key) or CODES.get(whole) or (CODES.get(last) if len(last) > 3 else None)


def _known(language: str) -> str:
    code = code_of(language)
    if code is None:
        raise ValueError(
            "no such language; give an ISO 639-1 code such as `fr`, or an English name such as `French`"
        )
    return code


CodeOrName = Annotated[str, AfterValidator(_known)]
"""A language by code or name; it becomes the code."""

_SAMPLE = 20_000
"""Characters that are looked at: more would tell nothing new."""
_SHORT, _MARGIN_SHORT, _MARGIN = 24, 2.0, 0.5
"""How far behind the likeliest language one may be, in log-likelihood over the root of the bytes, and still be it.

On sentences of ten words the right language is first, or 0.2 behind a sister (Portuguese and Galician), and a wrong
one more than 0.8 behind. "Sí." and "Hi!" leave 1.5.
"""
_NOISE = re.compile(r"`[^`\n]*`|https?://[!-~]+|[\w.+-]{1,64}@[\w.-]{1,255}")


def is_in(text: str, code: str) -> tuple[bool, str]:
    """Return whether most of a text is in a language, and what was found.

    Code, addresses and case do not count. A text without letters is in every language; one of a word or two is in each
    of its script that it may well be in.
    """
    start = text[:_SAMPLE]
    prose = _NOISE.sub(" ", "\n".join(without_fences(start)))
    sample = next((part for part in (prose, start) if any(c.isalpha() for c in part)), None)
    if sample is None:
        return True, "no letters"
    lowered = sample.lower()
    letters = sum(c.isalpha() for c in lowered)
    scripts = Counter(re.split("[ -]", unicodedata.name(c, ""))[0] for c in lowered if c.isalpha())
    scores = {
        language: score
        for language, score in _identifier().rank(lowered)
        if sum(scripts[script] for script in _SCRIPTS.get(language, ("LATIN",))) * 2 >= letters
    }
    if code not in scores:
        return False, "another script"
    best = max(scores, key=scores.__getitem__)
    distance = (scores[best] - scores[code]) / math.sqrt(len(lowered.encode()))
    margin = _MARGIN_SHORT if letters < _SHORT else _MARGIN
    return distance <= margin, f"{best} detected"


_LOADING = threading.Lock()


def _identifier() -> Any:
    with _LOADING:  # loading takes seconds; two threads must not do it twice
        return _load()


@lru_cache(maxsize=1)
def _load() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ImportError(
            "checks of a language need py3langid: pip install 'metaalign[verifiers]'"
        ) from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(_NAMES)
    return identifier
