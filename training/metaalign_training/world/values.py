"""Names, closings and sources of every shape: what can only be copied, letter by letter.

The demo's first generator (`phrases.copied_value`) knew names of two pieces and closings of two or three known words.
People have titles, hyphens, accents, digits and several words in their names, and end letters with any words.
"""

from __future__ import annotations

import random
import string
import zlib

from metaalign_training.world.patterns import wordings
from metaalign_training.world.phrases import copied_value

__all__ = ["ACCENTED", "NAME_SHAPES", "any_value", "invented_name", "random_word", "shaped_name"]

_ONSETS = (
    "b c d f g h j k l m n p q r s t v w x y z br ch cl cr dr fl fr gl gr kh kl kr ph pl pr qu sc sh sk sl sm sn sp st"
    " sw th tr ts tw vl wh zh"
).split()
_NUCLEI = "a e i o u a e i o u ai au ea ee ei eo ia ie io oa oo ou ua ue ui y".split()
_CODAS = (
    " b d f g k l m n p r s t x z n r s l ck ff ld ll lm ln lt mb nd ng nn nt ph rd rk rl rn rt sh sk ss st th tt tz"
).split(" ")
_PIECES = wordings("values")
_TITLES, _PARTICLES, _KNOWN, _WORDS, _BOOKS = (
    _PIECES[name].split() for name in ("titles", "particles", "known", "words", "books")
)
ACCENTED = "áàâäãåāăąçćčďéèêëēęěğíìîïīıłñńňóòôöõøōőřśšşťúùûüūůűýÿźžżæœßðþ"

NAME_SHAPES = (
    "plain",
    "title",
    "several words",
    "hyphen",
    "apostrophe",
    "accent",
    "digit",
    "capitals",
    "small letters",
    "words",
    "script",
)
_SHAPE_WEIGHTS = (22, 12, 16, 9, 8, 15, 9, 8, 5, 5, 2)
_SCRIPTS = (
    "абвгдежзиклмнопрстуфхцчшыюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗",
    "さくらはるきゆいあおそらひなたけんみ",
    "김이박최정강조윤장임민준서지우하은수",
)


def random_word(rng: random.Random, most: int = 4) -> str:
    """A word in small letters that probably nobody has: syllables, or sometimes just letters."""
    if rng.random() < 0.2:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 9)))
    syllables = rng.choice([n for n in (1, 2, 2, 2, 3, 3, 4) if n <= most])
    return "".join(
        (rng.choice(_ONSETS) if n or rng.random() < 0.8 else "")
        + rng.choice(_NUCLEI)
        + (rng.choice(_CODAS) if rng.random() < 0.45 else "")
        for n in range(syllables)
    )


def invented_name(rng: random.Random) -> str:
    """One capitalised word: the first generator's, or an invented one."""
    if rng.random() < 0.25:
        return copied_value(rng, "name")
    return random_word(rng, 3)[:11].capitalize()


def shaped_name(rng: random.Random, shape: str) -> str:
    """A name of one of `NAME_SHAPES`."""
    name, other = invented_name(rng), invented_name(rng)
    if shape == "title":
        form = rng.choice(("{t} {n}", "{t} {n}", "{t} {n} {o}"))
        return form.format(t=rng.choice(_TITLES), n=name, o=other)
    if shape == "several words":
        form = rng.choice(
            ("{n} {o}",) * 4
            + ("{n} {p} {o}", "{n} {i}. {o}", "{i}. {o}", "{n} {e}", "{n} {p} {o} {k}")
            + ("{n} {o} {k}",) * 3
        )
        return form.format(
            n=name, o=other, p=rng.choice(_PARTICLES), k=invented_name(rng), i=rng.choice(string.ascii_uppercase),
            e=rng.choice(_PIECES["epithets"]),
        )  # fmt: skip
    if shape == "hyphen":
        form = rng.choice(("{n}-{o}",) * 3 + ("{n}-{s}", "{n}-{o} {k}", "{k} {n}-{o}"))
        return form.format(n=name, o=other, s=other.lower(), k=invented_name(rng))
    if shape == "apostrophe":
        form = rng.choice(
            (
                "O'{n}",
                "D'{n}",
                "{n}'{s}",
                "L'{n}",
                "{k} O'{n}",
                "N'{n}",
                "{k} D'{n}",
                "Mc'{n}",
                "d'{n}",
                "{n}'",
            )
        )
        return form.format(n=name, s=other.lower(), k=other)
    if shape == "accent":
        return _accented(rng, name) + rng.choice(
            ("", "", "", f" {other}", f" {_accented(rng, other)}", f"-{_accented(rng, other)}")
        )
    if shape == "digit":
        number = str(
            rng.choice(
                (rng.randint(0, 9), rng.randint(10, 99), rng.randint(100, 9999), 2000 + rng.randint(0, 30))
            )
        )
        form = rng.choice(
            (
                "{n}{d}",
                "{s}{d}",
                "{n} {d}",
                "{n}_{d}",
                "{s}_{d}",
                "{d}{n}",
                "{n}{d}{o}",
                "{i}{d}{j}{d}",
                "{n}-{d}",
                "x{n}{d}x",
                "{n}.{o}",
                "{s}_{o}",
            )
        )
        return form.format(
            n=name, o=other, s=name.lower(), d=number, i=rng.choice("ABCKRTX"), j=rng.choice("DMPQZ")
        )
    if shape == "capitals":
        initials = [rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, 4))]
        camel = (
            rng.choice(("Mc", "Mac", "De", "La", "Le", "Van", "Fitz", "Du", "Al", "Jo", "Ann", name)) + other
        )
        joined = "".join(initials)
        dotted = ".".join(initials[:2]) + "."
        return rng.choice(
            (
                joined,
                dotted,
                f"{dotted} {name}",
                f"{joined[:2]} {name}",
                name.upper(),
                camel,
                camel,
                f"{name} {camel}",
                name.lower() + other,
            )
        )
    if shape == "small letters":
        return rng.choice((name.lower(), f"{name.lower()} {other.lower()}", name.lower()[:4]))
    if shape == "words":
        known = [rng.choice(_KNOWN) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
        if len(known) > 1 and rng.random() < 0.4:
            known[rng.randrange(len(known))] = name
        return " ".join(known)
    if shape == "script":
        letters = rng.choice(_SCRIPTS)
        word = "".join(rng.choice(letters) for _ in range(rng.randint(2, 6)))
        return word.capitalize()
    return name


def _accented(rng: random.Random, name: str) -> str:
    letters = list(name)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        place = rng.choice((0, *range(len(letters))))
        letter = rng.choice(ACCENTED)
        letters[place] = letter.upper() if place == 0 and len(letter.upper()) == 1 else letter
    return "".join(letters)


def any_value(rng: random.Random, dimension: str, *, held_out: bool = False, shape: str = "") -> str:
    """A name, closing or source of any shape; one in ten, by its checksum, is held out of training."""
    while True:
        if dimension == "name":
            drawn = shape or rng.choices(NAME_SHAPES, _SHAPE_WEIGHTS)[0]
            value = shaped_name(rng, drawn)
        else:
            value = _closing(rng) if dimension == "closing" else _source(rng)
        if dimension != "closing" and (len(value) < 2 or value.lower() in _WORDS):
            continue  # a check could not tell it from the rest of an answer
        if (zlib.crc32(value.encode()) % 10 == 0) == held_out:
            return value


def _closing(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.2:
        text = rng.choice(_PIECES["farewells"])
    elif kind < 0.3:
        return copied_value(rng, "closing")
    else:
        words = [
            random_word(rng) if rng.random() < 0.15 else rng.choice(_WORDS)
            for _ in range(rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7)))
        ]
        if rng.random() < 0.12:
            words[rng.randrange(len(words))] = shaped_name(rng, rng.choice(("plain", "several words")))
        if len(words) > 3 and rng.random() < 0.25:
            words[len(words) // 2] += ","
        text = " ".join(words)
        if rng.random() < 0.85:
            text = text[0].upper() + text[1:]
        if rng.random() < 0.06:
            text = text.upper()
    return str(text) + rng.choice(("", "", "!", "!", ".", ".", "?", "...", " :)", "!!"))


def _source(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return copied_value(rng, "source")

    def title_word() -> str:
        return (
            random_word(rng).capitalize() if rng.random() < 0.3 else rng.choice(_WORDS + _KNOWN).capitalize()
        )

    text = rng.choice(_PIECES["source_forms"])
    while "{W}" in text:
        text = text.replace("{W}", title_word(), 1)
    while "{N}" in text:
        text = text.replace(
            "{N}", shaped_name(rng, rng.choice(("plain", "plain", "accent", "several words"))), 1
        )
    return str(text).format(
        B=rng.choice(_BOOKS),
        year=rng.randint(1850, 2025),
        digit=rng.randint(1, 12),
        ABC="".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, 4))),
        domain=random_word(rng) + rng.choice((".org", ".com", ".net", "wiki.org", "-facts.com")),
    )
