"""Which piece of a text a field wants: by the kind that its name and description ask for, then by its role.

Main path: text_leaf(schema, name, desc, text) and number_leaf(...): the piece, within the limits of the
schema, or None where the text does not hold it. The role is told by the words beside a piece: `from Rome` is
where one starts, `due 3 May` a deadline, `aged 47` an age. Where a name says no kind, meaning decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.asked import told
from course_lib.lm.simulator.skills.candidates import TABLES, Piece, candidates
from course_lib.lm.simulator.skills.limits import (
    UNSTATED,
    first_number,
    formatted,
    limited,
    matching,
    plainest,
    within,
)
from course_lib.lm.simulator.skills.quantities import (
    NUMBER,
    factor,
    in_figures,
    kind_of,
    number,
    quantities,
    unit_of,
)

MOST_COMPARED = 12  # phrases of one text, since each new one takes some 10 ms
MEANS = 0.36  # how near a phrase must be to a field's name to be of its kind
_KINDS = {word: kind for kind, listed in reversed(TABLES["kinds"].items()) for word in listed.split()}
_CUES = {word: tuple(words.stem(cue) for cue in listed.split()) for word, listed in TABLES["cues"].items()}
_STRICT = frozenset(
    [
        "email",
        "url",
        "phone",
        "hashtag",
        "handle",
        "date",
        "time",
        "percent",
        "id",
        "gate",
        "zip",
        "street",
        "city",
        "country",
        "money",
        "duration",
        "number",
        "currency",
        "size",
        "colour",
        "quoted",
    ]
)
"""Kinds that only a piece of theirs can fill."""
_VAGUE = re.compile(
    r"(?:\w+_)?(?:text|output|content|result|answer|value|data|response|info|information|code)"
)
"""Names that ask for nothing in particular."""
_NAMED_KINDS = frozenset(("person", "company", "entity", "title", "place", "city"))
_EDGES = frozenset(
    (
        "start",
        "end",
        "begin",
        "finish",
        "from",
        "to",
        "opens",
        "closes",
        "starts",
        "ends",
        "beginning",
        "until",
        "arrival",
        "departure",
    )
)
_BEFORE = {
    "from": r"\bfrom:? $|\bleav\w+ $|\b(?:love|regards|wishes|cheers|thanks|yours|sincerely|best),?\s+$",
    "to": r"\b(?:dear|hi|hello|to:?|for|into|until|till|through|towards) $|[-\u2013] ?$|\band $",
}
_SENTENCES = re.compile(
    r"complaints?|problems?|issues?|reasons?|requests?|wish|claims?|statements?|questions?|points?"
    r"|details?|needs?|concerns?"
    r"|feedback|suggestions?|observations?|evidence|quotes?|instructions?"
    r"|action|next_step|decision"
    r"|conclusion|finding|lesson|requirement|remarks?|comments?|notes?|message|sentence|description|rule"
    r"|definition|event"
)


def spread(name: str) -> str:
    """Return a field's name as words.

    >>> spread("dueDate"), spread("customer_name")
    ('due date', 'customer name')
    """
    return re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").replace("-", " ").lower().strip()


@lru_cache(maxsize=1024)
def kinds_of(name: str, desc: str = "") -> tuple[str, ...]:
    """Return the kinds of piece that a field wants, best first: by its name, then by its description."""
    said = spread(name)
    kinds = _kinds_in(
        reversed([word for word in said.split() if word not in ("name", "names")])
    )  # the last word says what it is
    if not kinds and re.search(r"\bcodes?$", said) and said not in ("code", "codes"):
        kinds = ["id"]
    if re.search(r"\b(?:house|street|building) number\b", said):
        kinds = ["house"]
    if not kinds and re.search(r"\bnames?$", said):
        kinds = ["person", "entity"]
    if re.search(
        r"\b(?:number|count|amount|quantity) of\b|\bhow many\b|^(?:num|n|no) ", f"{said} {desc.lower()}"
    ):
        kinds.insert(0, "number")
    if said in _EDGES:
        kinds = (
            ["city", "place", "date", "time"]
            if said in ("from", "to")
            else ["date", "time", "city"]
            if said not in ("arrival", "departure")
            else ["time", "date", "city", "place"]
        )
    if not kinds:
        kinds = _kinds_in(re.findall(r"[a-z-]+", re.split(r"[.;(]| of the | of ", desc.lower())[0]))
    return tuple(dict.fromkeys(kinds))


def _kinds_in(spoken: Iterable[str]) -> list[str]:
    return [_KINDS[one] for word in spoken for one in (word, word.removesuffix("s")) if one in _KINDS]


@lru_cache(maxsize=1024)
def _wanted(name: str, desc: str) -> dict[str, float]:
    """Return the words that speak for a piece when they stand beside it, with their weights."""
    wanted: dict[str, float] = {}
    for word in re.findall(r"[a-z]+", desc.lower()):
        if word not in words.STOP:
            wanted[words.stem(word)] = 0.4
    for word in spread(name).split():
        for cue in _CUES.get(word, ()):
            wanted[cue] = 0.8
        wanted[words.stem(word)] = 1.0
    return wanted


def _nearness(piece: Piece, wanted: dict[str, float], text: str) -> float:
    """Return how strongly the words beside a piece speak for it; one before says more than one behind."""
    score = 0.0
    before = re.split(r"[.!?]\s|\n", text[max(piece.start - 80, 0) : piece.start])[-1]
    after = re.split(r"[.!?,;]\s|\n", text[piece.end : piece.end + 50])[0]
    for at, word in enumerate(reversed(re.findall(r"[^\W\d_][\w'-]*|[,;%°]", before.lower()))):
        score += wanted.get(words.stem(word), 0.0) / (1 + at) - 0.02 * (word in ",;")
    for at, word in enumerate(re.findall(r"[^\W\d_][\w'-]*|%|°", after.lower())):
        score += 0.7 * wanted.get(words.stem(word), 0.0) / (1 + at)
    inside = (words.stem(word) for word in re.findall(r"[a-z]+", piece.text.lower()))
    return score + sum(0.5 * wanted.get(word, 0.0) for word in inside)


def best(
    pieces: Sequence[Piece], name: str, desc: str, text: str, taken: Collection[object] = ()
) -> Piece | None:
    """Return the piece whose neighbours speak most for the field; the first on a tie, one not yet taken."""
    wanted = _wanted(name, desc)
    role = next((way for word in spread(name).split() for way in _role(word)), "")

    def score(piece: Piece) -> float:
        cued = role and re.search(_BEFORE[role], text[max(piece.start - 12, 0) : piece.start], re.IGNORECASE)
        other = role and re.search(
            _BEFORE["to" if role == "from" else "from"], text[max(piece.start - 9, 0) : piece.start]
        )
        return _nearness(piece, wanted, text) + 2 * bool(cued) - bool(other) - 1.5 * (piece.text in taken)

    return max(pieces, key=score, default=None)


def _role(word: str) -> list[str]:
    cues = _CUES.get(word, ())
    return ["from"] if "from" in cues else ["to"] if "to" in cues else []


# -- texts -------------------------------------------------------------------------------------------------


def text_leaf(
    schema: Schema,
    name: str,
    desc: str,
    text: str,
    *,
    must: bool = False,
    taken: Collection[object] = (),
    whole: bool = False,
) -> str | None:
    """Return the text that the field wants, in the format of the schema; None if it is not there.

    `whole`: the text is already the field's own part (the value of its line, an item of its list).
    """
    if wanted := schema.get("format"):
        pieces = (
            candidates(text).pieces({"date-time": "date", "date": "date"}.get(wanted, "time"))
            if "t" in wanted
            else ()
        )
        first = (
            best(pieces, name, desc, text, taken) if len(pieces) > 1 and wanted in ("date", "time") else None
        )
        return formatted(wanted, first.text if first else text) or (plainest(wanted, name) if must else None)
    if pattern := schema.get("pattern"):
        return matching(pattern, text, must=must)
    result = _text(name, desc, text, taken, whole=whole)
    if result is None and not must:
        return None
    return within(schema, UNSTATED if result is None else result)


def _text(name: str, desc: str, text: str, taken: Collection[object], *, whole: bool) -> str | None:
    """Return the piece of `text` that a field of this name is about."""
    if not text.strip():
        return None
    if known := _shaped_like(desc, text) or _beside(name, text) or _of_type(name, text):
        return known
    kinds = kinds_of(name, desc)
    for kind in kinds:
        found = _of_kind(kind, name, desc, text, taken, whole=whole)
        if found is not None:
            return found or None
    if whole and len(text) <= 60 and "\n" not in text.strip():
        return _bare(text)
    if said := _said(name, text):
        return said
    is_strict = kinds and (kinds[0] in _STRICT or spread(name) in _EDGES)
    return None if is_strict else _unsorted(name, desc, text, taken)


def _of_kind(
    kind: str, name: str, desc: str, text: str, taken: Collection[object], *, whole: bool
) -> str | None:
    """Return the best piece of a kind; None if there is none, an empty text if it is all that there is."""
    pieces = _pieces(kind, name, text, whole=whole)
    if kind == "place" and not pieces:
        near = [re.sub(r"^(?:the|an?|our|my) ", "", where) for where in told("where", "", text)]
        return near[0] if near and near[0][0].islower() else None
    if whole and len(pieces) > 1 and len(text) <= 40 and kind in _STRICT:
        return _bare(text)
    piece = best(pieces, name, desc, text, taken)
    if piece is None:
        return None
    found = _part_of_name(name, piece.text) if kind == "person" else piece.text
    is_all = kind in _NAMED_KINDS and not whole and len(found) > 0.7 * len(text.strip())
    return "" if is_all else re.sub(r"^\d+\w? ", "", found) if name == "street_name" else found


def _pieces(kind: str, name: str, text: str, *, whole: bool) -> Sequence[Piece]:
    """Return the pieces of a kind, or of the kind that stands in for it."""
    if kind == "number" and not whole:
        return _measured(text)
    pieces = candidates(text).pieces(kind)
    if kind == "id":
        own = tuple(sorted(pieces, key=lambda piece: piece.text[:1].lower() != name[:1].lower()))
        is_call = re.search(r"call|number|ring|contact", name)
        return own or (candidates(text).pieces("phone") if is_call else ())
    if kind == "date":
        return pieces or candidates(text).pieces("day")
    first = re.match(r"[A-Z][\w-]+(?= [a-z])", text) if kind in ("company", "entity") else None
    if not pieces and first and not _is_ordinary(first.group()):
        return (Piece(first.group(), 0, first.end()),)
    return pieces


def _unsorted(name: str, desc: str, text: str, taken: Collection[object]) -> str | None:
    """Return the sentence, or the phrase near in meaning, for a field that wants no piece of a known kind."""
    if _SENTENCES.fullmatch(name) or _SENTENCES.fullmatch(name.rsplit("_", 1)[-1]):
        return bearing_sentence(f"{spread(name)} {desc}", text) if len(text.split()) > 4 else None
    if _VAGUE.fullmatch(name):
        return None
    near = [one for one in _by_meaning(spread(name), candidates(text).phrases) if one.text not in taken]
    names = candidates(text).named
    if near and near[0] in names:  # how near an unknown name is says little: the first one is the subject
        near = [one for one in names if one.start <= near[0].start and one.text not in taken] or near
    return near[0].text if near and near[0].text != text.strip() else None


def _of_type(name: str, text: str) -> str | None:
    """Return the words before what a field wants the type of: `double` for a room type in "a double room"."""
    head = re.fullmatch(r"(\w+) (?:type|kind|style|category|class)", spread(name))
    found = re.search(rf"\b((?:[a-z-]+ )?[a-z-]+) {head.group(1)}s?\b", text) if head else None
    return (
        " ".join(word for word in found.group(1).split() if word not in words.STOP) or None if found else None
    )


def _is_ordinary(word: str) -> bool:
    return (
        word.lower() in words.STOP
        or word.lower() in words.ENGLISH["common"].split()
        or word.endswith(("ed", "ing", "ly"))
    )


def _measured(text: str) -> tuple[Piece, ...]:
    """Return the results and the plain quantities of a text, as they are written."""
    scores = [
        Piece(m.group(), m.start(), m.end()) for m in re.finditer(r"\b\d{1,3}\s?[-:\u2013]\s?\d{1,3}\b", text)
    ]
    found = (Piece(text[one.start : one.end].strip(), one.start, one.end) for one in quantities(text))
    return (
        *scores,
        *(one for one in found if not any(a < one.end and one.start < b for a, b in candidates(text).busy)),
    )


def _part_of_name(name: str, whole: str) -> str:
    """Return the first, middle or last part of a person's name, where a field wants only that."""
    parts = whole.split()
    if "middle" in name:
        return " ".join(parts[1:-1])
    return (
        parts[0]
        if re.search(r"first|given", name)
        else parts[-1]
        if re.search(r"last_?name|surname|family", name)
        else whole
    )


def _bare(text: str) -> str:
    return re.sub(r"^(?:an?|the)\s+", "", text.strip().strip("\"'*").rstrip(".,;"), flags=re.IGNORECASE)


def _shaped_like(desc: str, text: str) -> str | None:
    """Return the word of a text that is built like the example in a description (`looks like K-1234`)."""
    example = re.search(
        r"(?:like|such as|as in|e\.g\.|for example|format:?|as)\s+[\"'`(]*((?=\S*\d)[\w#-]{3,20})", desc
    )
    if not example:
        return None
    shape = re.sub(r"[A-Z]", "[A-Z]", re.sub(r"\d+", "0", re.escape(example.group(1)))).replace("0", r"\d+")
    found = re.search(rf"(?<![\w-]){shape}(?![\w-])", text)
    return found.group() if found else None


def _said(name: str, text: str) -> str | None:
    """Return what the text says that the field is: `the breed is ...`, `breed: ...`, `of the breed ...`."""
    spelled = spread(name).replace(" ", "[ _-]?")
    said = re.search(
        rf"\b{spelled}s?\b\s*(?:is|was|are|were|will be|=|:|\u2013|called|named)\s*(?:(?:now|an?"
        rf"|the)\s+)?([^.,;\n]{{2,60}})",
        text,
        re.IGNORECASE,
    )
    return _bare(said.group(1)) if said else None


def _beside(name: str, text: str) -> str | None:
    """Return the name that an apposition explains: `Tallinn, the capital of Estonia`."""
    spelled = spread(name).replace(" ", "[ _-]?")
    ranks = r"first|second|third|fourth|fifth|sixth|top|ground|\d+(?:st|nd|rd|th)"
    if ordinal := re.search(rf"\b({ranks}) {spelled}\b", text):
        return ordinal.group(1)
    beside = re.search(
        rf"\b([A-Z][\w'-]+(?: [A-Z][\w'-]+)*), (?:the|an?|our|his|her|its) (?:\w+ )?{spelled}\b", text
    )
    return beside.group(1) if beside else None


def bearing_sentence(about: str, text: str) -> str:
    """Return the sentence of `text` that is nearest to what the field is about."""
    sentences = words.sentences(text)[:MOST_COMPARED]
    if len(sentences) < 2:
        return "".join(sentences)
    return max(zip(encode(sentences) @ encode([about])[0], sentences, strict=True))[1]


def _by_meaning(about: str, phrases: Sequence[Piece]) -> list[Piece]:
    """Return the phrases that mean something of a kind, the nearest first."""
    if not phrases:
        return []
    phrases = phrases[:MOST_COMPARED]
    near = (
        encode([phrase.text for phrase in phrases])
        @ encode([re.sub(r"ies$", "y", about).removesuffix("s")])[0]
    )
    own = words.stems(about)
    ranked = sorted(zip(near, range(len(phrases)), strict=True), key=lambda pair: (-pair[0], pair[1]))
    return [phrases[at] for score, at in ranked if score >= MEANS and words.stems(phrases[at].text) != own]


def texts_of(name: str, desc: str, text: str) -> list[str]:
    """Return the texts that a list wants: those after its name, pieces of its kind, or an enumeration."""
    singular = re.sub(r"ies$", "y", spread(name)).removesuffix("s")
    listed = re.search(
        rf"\b{re.escape(singular)}s?\b[^.:\n]{{0,20}}[:=]\s*([^.\n]+(?:\n\s*[-*\u2022][^\n]+)*)",
        text,
        re.IGNORECASE,
    )
    if listed and (items := split_list(listed.group(1))):
        return items
    kinds = kinds_of(singular.replace(" ", "_"), "") or kinds_of(name, desc)
    for kind in (kind for kind in kinds if kind not in ("thing", "title", "number")):
        if pieces := candidates(text).of(kind):
            return list(pieces)
    if kinds and kinds[0] in _STRICT:
        return []
    colon = re.search(r":\s*([^:.\n]+,[^:.\n]+)", text)
    if "thing" in kinds and colon and text.count(":") == 1:
        return split_list(colon.group(1))
    if "thing" in kinds and candidates(text).lists:
        return [piece.text for piece in max(candidates(text).lists, key=len)]
    return _enumerated(singular, text) or [piece.text for piece in sorted(
        _by_meaning(singular, candidates(text).phrases), key=lambda piece: piece.start)]  # fmt: skip


def split_list(text: str) -> list[str]:
    """Cut an enumeration into its items."""
    parts = re.split(
        r"\n\s*[-*\u2022]\s*|\s*[,;]\s*(?:and\s+|or\s+)?|\s+(?:and|or|&)\s+", text.strip().strip("[]")
    )
    return [bare for part in parts if (bare := _bare(part.strip("-* ")))]


def _enumerated(about: str, text: str) -> list[str]:
    """Return the items of the enumeration that is nearest in meaning, or the only one there is."""
    runs = candidates(text).lists[:4]
    if not runs:
        return []
    names = [" and ".join(piece.text for piece in run) for run in runs]
    near = encode(names) @ encode([about])[0]
    score, at = max(zip(near, range(len(runs)), strict=True), key=lambda pair: (pair[0], -pair[1]))
    return [piece.text for piece in runs[at]] if score >= MEANS / 2 else []


# -- numbers -----------------------------------------------------------------------------------------------


def number_leaf(
    schema: Schema, name: str, desc: str, text: str, taken: Collection[object] = (), *, whole: bool = False
) -> int | float | None:
    """Return the number that the field wants, moved into the schema's limits; None if the text has none."""
    said = spread(name)
    for kind in (kind for kind in kinds_of(name, desc) if kind in ("money", "percent", "time", "duration")):
        pieces = candidates(text).pieces(kind)
        fits = [piece for piece in pieces if first_number(piece.text) not in taken] or list(pieces)
        if piece := best(fits, name, desc, text):
            return limited(schema, _scaled(piece.text))
    if re.search(r"\byear\b", said):
        years = [Piece(m.group(), m.start(), m.end()) for m in re.finditer(r"\b(?:1\d|20)\d\d\b", text)]
        if year := best(years, name, desc, text, {str(one) for one in taken}):
            return limited(schema, float(year.text))
    value = _counted(said, desc, text, taken, whole=whole)
    return None if value is None else limited(schema, value)


def _counted(said: str, desc: str, text: str, taken: Collection[object], *, whole: bool) -> float | None:
    """Return the number whose unit, noun or neighbours fit a field; the only one for a plain count."""
    measured = [
        (found, unit_of(word))
        for word in said.split()
        if kind_of(unit_of(word))
        for found in quantities(in_figures(text))
    ]
    sized = [
        (found.value, by) for found, unit in measured if (by := factor(found.unit, unit)) and kind_of(unit)
    ]
    if len(sized) == 1:
        return sized[0][0] * sized[0][1]
    spoken = re.compile(NUMBER, re.IGNORECASE)
    busy = candidates(text).busy
    pieces = [
        Piece(m.group(), m.start(), m.end())
        for m in spoken.finditer(text)
        if not any(a < m.end() and m.start() < b for a, b in busy)
    ]
    fits = [piece for piece in pieces if number(piece.text) not in taken] or pieces
    piece = best(fits, said, desc, text)
    if piece is None:
        return None
    is_general = re.search(r"\b(?:count|quantity|qty|number|amount|value|total|result|n|units?|rate)\b", said)
    is_told = _nearness(piece, _wanted(said, desc), text) > 0
    return (
        number(piece.text)
        if whole or is_told or is_general or (len(pieces) == 1 and kinds_of(said, desc)[:1] == ("number",))
        else None
    )


def _scaled(text: str) -> float:
    """Return the number in a piece, thousands and millions multiplied out."""
    times = {"million": 1e6, "billion": 1e9}.get(next(iter(re.findall(r"million|billion", text)), ""), 1.0)
    return (first_number(text) or 0.0) * (1e3 if re.search(r"\dk\b", text) else times)


_LABEL = re.compile(
    r"(?:^|(?<=[;|\n])|(?<=\. )"
    r"|(?<=, ))[ \t*#-]*([A-Za-z][\w /'-]{0,30}?)[ \t*]*(?:\([^)]*\))?[ \t]*[:=][ \t]*"
    r"(\S[^\n;|]*?)(?=\s*$|[;|\n]|\.\s|,\s+[A-Za-z][\w ]{0,20}[:=])",
    re.MULTILINE,
)


def label_value(name: str, text: str) -> str | None:
    """Return the value of the line whose label means the field, such as `From: Otto` for a sender."""
    wanted = _wanted(name, "")
    found: tuple[float, str] = (0.0, "")
    for label, value in _LABEL.findall(text):
        roots = [
            words.stem(word)
            for word in re.findall(r"[a-z]+", label.lower())
            if word not in words.STOP or word in ("from", "to")
        ]
        said = sum(wanted.get(root, 0.0) for root in roots) / len(roots) if roots else 0.0
        if said > found[0]:
            found = (said, value)
    return found[1].strip("*") if found[0] >= 0.5 else None
