"""What is outside the range, who the model is, and how it says so.

Main path: refuse(field, work) -> Result for a text that asks for what no skill here does; decline(field, work), the
last skill, for what no skill found; small_talk(message) -> a reply to a greeting, to thanks, to "who are you?".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills.extracting import is_piece, is_text, is_vague
from course_lib.lm.simulator.skills.limits import UNSTATED, fallback, within
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text

CANNOT = "I can't answer this"
IDENTITY = (
    "I am a simulated model of the course: a program that answers from its prompt by rules, not a person and not a large"
    " language model."
)
_RANGE = (
    "I can label and extract from texts, answer questions about a text that you give me, work out sums and dates, shorten"
    " texts, use tools, and tell a few everyday facts."
)
_LANGUAGES = (
    "english|french|german|spanish|italian|dutch|portuguese|polish|russian|chinese|japanese|arabic|turkish|swedish|greek|latin"
    "|korean|hindi|danish|norwegian|finnish|czech|hungarian"
)
_WRITTEN = (
    "poems?|haikus?|stor(?:y|ies)|songs?|lyrics|jokes?|limericks?|slogans?|taglines?|cover_?letters?|essays?|novels?|tales?|verses?|rap"
    "|speech|toast|blog_?posts?|screenplay|dialogue|sonnets?|riddles?|pun|fairy_?tale|ad_?copy|bedtime_story|continuation"
    "|recipe|plan|itinerary|outline|agenda|strategy|ideas|story_?line|next_sentence|next_paragraph|next_line|ending|letter"
)
_CODES = "code|python|javascript|typescript|java|rust|sql|html|css|regex|bash|shell|function|script|program|unit_tests?|query_sql|snippet"
_FIELDS = (
    (
        rf"(?:\w+_)?(?:translat\w+)(?:_\w+)?|(?:\w+_)?(?:{_LANGUAGES})(?:_\w+)?",
        "I can't translate",
    ),
    (rf"(?:\w+_)?(?:{_WRITTEN})(?:_text)?", "I don't write texts of my own"),
    (
        rf"(?:(?:{_CODES}|source|generated|new|fixed|program|my|final)_)?(?:{_CODES})(?:_(?:code|query|script|snippet|solution|function))?|fixed_\w+|(?:\w+_)?source_code|implementation|pseudocode|solution_code",
        "I don't write code",
    ),
    (
        r"(?:\w+_)?(?:formal|informal|polite|friendl\w+|rewrit\w+|rephras\w+|paraphras\w+|simpl\w+|improved?|polished|corrected?|proofread"
        r"|edited|revised|professional|reworded|restyled|refined|clickbait|catchy|funny|witty|neutral_version|fluent|fixed)(?:_\w+)?|\w+_version",
        "I can't rewrite a text in another style",
    ),
    (
        r"(?:\w+_)?(?:advice|recommendations?|opinions?|suggested_\w+|best_\w+|tips)",
        "I have no opinions and give no advice",
    ),
    (r"(?:\w+_)?(?:image|picture|photo)_(?:description|caption)|caption", "I can't see images"),
    (r"proof|deduction", "it takes a longer chain of reasoning than I can follow"),
    (r"(?:\w+_)?(?:forecast|prediction_tomorrow|future_\w+)", "I can't see into the future"),
)
_WISHES = (
    (r"\bfix this\b|\bwhat(?:'s| is) wrong with this code\b", 2),
    (
        rf"\btranslate\b|\btranslation\b|\b(?:how do (?:you|i) say|what is)\b.{{1,40}}\bin (?:{_LANGUAGES})\b|\binto (?:{_LANGUAGES})\b",
        0,
    ),
    (
        r"\b(?:write|tell|compose|make up|invent|create|draft|give me|continue|sing)\b[^.?!\n]{0,40}\b(?:"
        + _WRITTEN.replace("_?", " ?")
        + r")\b",
        1,
    ),
    (
        rf"\b(?:write|implement|generate|fix|debug|refactor|complete|create)\b[^.?!\n]{{0,40}}\b(?:{_CODES}|class|bug|method)\b",
        2,
    ),
    (
        r"\b(?:rewrite|rephrase|paraphrase|reword|proofread|simplify|polish)\b|\bcorrect the (?:grammar|spelling)|\bmake (?:this|it|that|the text)"
        r"\b[^.?!\n]{0,30}\b(?:more|less|sound|\w+er)\b|\bso that a child\b|\b(?:friendlier|formal|different|professional) (?:tone|style|way)\b",
        3,
    ),
    (
        r"\bshould (?:i|we|one|people)\b|\bdo you (?:think|like|believe|prefer|recommend)\b|\bwhat(?:'s| is) your (?:opinion|view|favou?rite)"
        r"|\bwould you (?:recommend|rather|suggest)\b|\bwhich [\w ]+ should\b|\b(?:recommend|suggest|advise)\b|\bhow (?:can|do) i (?:get|become|sleep"
        r"|lose|learn|stop|improve|make|deal|feel|start|find)\b|\bbest (?:way|option|place|time) to\b|\bis it (?:wrong|right|ok|okay|moral|better)\b"
        r"|\bwhat (?:medicine|should)\b|\bany (?:tips|advice)\b|\bgive me (?:some )?(?:tips|advice|ideas)\b|\bmeaning of life\b",
        4,
    ),
    (
        r"\bsolve the (?:riddle|puzzle|mystery)\b|\bexactly one of (?:them|us)\b|\bprove that\b|\blogic puzzle\b",
        6,
    ),
    (
        r"\bwho will win\b|\bwill [^.?]*\b(?:tomorrow|next (?:week|month|year|summer|winter)|in the future|(?:in|by|on)[\w ]* 20[3-9]\d|ever)\b",
        7,
    ),
    (
        r"\[image_url\]|\[input_image\]|\[image\]|\b(?:this|the|attached|my) (?:picture|image|photo|screenshot)\b",
        5,
    ),
)
_COMMENT = (
    ("sql", "-- {}"),
    ("html|xml", "<!-- {} -->"),
    ("css", "/* {} */"),
    ("java|typescript|rust|go$|cpp|csharp|swift|kotlin", "// {}"),
)


@lru_cache(maxsize=1024)
def wished(text: str) -> str:
    """Return what a text asks for that is outside the range, as the reason to decline it; empty if nothing is."""
    return next(
        (_FIELDS[which][1] for pattern, which in _WISHES if re.search(pattern, text, re.IGNORECASE)), ""
    )


@lru_cache(maxsize=1024)
def named(name: str) -> str:
    """Return what a field of this name asks for that is outside the range; empty if nothing is."""
    return next((reason for pattern, reason in _FIELDS if re.fullmatch(pattern, name, re.IGNORECASE)), "")


def is_code(field: Field) -> bool:
    """Say whether a field wants code, by its type or its name."""
    return (
        field.schema.get("x-class") == "Code"
        or "Code" in field.type_name
        or named(field.name) == _FIELDS[2][1]
    )


def declined(reason: str, field: Field | None = None) -> str:
    """Return the words that decline, in a comment where code is asked for."""
    text = f"{CANNOT}: {reason}."
    if field is None or not is_code(field):
        return text
    language = f"{field.name} {field.type_name} {field.desc}".lower()
    return next((form for known, form in _COMMENT if re.search(known, language)), "# {}").format(text)


IMAGES = 5  # the place of images in the table above
_CHOICE = {"enum", "anyOf", "boolean"}


def refuse(field: Field, work: Work) -> Result | None:
    """Decline a field whose name, or whose program, asks for what is outside the range."""
    is_text, is_choice = is_free_text(field), bool(_CHOICE & {*field.schema, str(field.schema.get("type"))})
    is_read = not is_text and "\n" in work.task.text.strip()  # a record of that name, to be read from lines
    reason = "" if is_choice or is_read else "I don't write code" if is_code(field) else named(field.name)
    if not reason and not (is_text and is_piece(field)):
        program, request = wished(work.task.spec.instructions.split("\n\n")[0]), wished(_request(work))
        is_meant = _is_answer(field) or request == _FIELDS[IMAGES][1]
        reason = program or (wished(field.desc) if is_text else "") or (request if is_meant else "")
    return Result(_least(field, reason), reason) if reason else None


def _least(field: Field, reason: str) -> Any:
    """Return the value that does least harm: words that decline, or the plainest of the field's type."""
    schema = field.schema
    if is_free_text(field) or "x-class" in schema:
        return within(schema, declined(reason, field))
    if is_code(field) and "code" in schema.get("properties", {}):
        return {"code": declined(reason, field)}
    unsure = [label for label in schema.get("enum", ()) if _UNSURE.search(str(label))]
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    return unsure[0] if unsure else fallback(schema, field.name, definitions)


_UNSURE = re.compile(r"unknown|unsure|unclear|undecided|none|n/a|neither|cannot|can't|not ", re.IGNORECASE)


def _is_answer(field: Field) -> bool:
    """Say whether a field is for the answer itself: a label, say, may be given to any question."""
    names = r"(\w+_)?(answer|response|reply|result|output|solution|description)|yes|winner|choice|decision|will_\w+|best_\w+"
    return re.fullmatch(names, field.name) is not None


def _request(work: Work) -> str:
    """Return the inputs as a request, unless they hold a text to work on."""
    inputs = work.task.inputs
    asks = r"(\w+_)?(question|query|request|prompt|task|instruction|wish|topic)s?"
    texts = [value for name, value in inputs.items() if not re.fullmatch(asks, name)]
    if len(texts) < len(inputs):
        return "" if any(len(text.split()) > SHORT for text in texts) else "\n".join(inputs.values())
    return work.task.text if len(inputs) == 1 and len(work.task.text) < 200 else ""


SHORT = 8  # an input of so few words is no text to answer from


def decline(field: Field, work: Work) -> Result | None:
    """Fill a text that no skill could: what was to be extracted is not stated, all else is declined."""
    if not is_free_text(field):
        return None
    if is_piece(field) or (not is_vague(field) and not reason_of(work) and is_text(work)):
        text = f"the input does not say the {field.name.replace('_', ' ')}"
        return Result(within(field.schema, UNSTATED), text)
    return Result(
        within(field.schema, declined("it is outside what I can do", field)), "this is outside what I can do"
    )


def reason_of(work: Work) -> str:
    """Return why the whole request is outside the range; empty if it is not."""
    instructions = work.task.spec.instructions.split("\n\n")[0]
    return wished(instructions) or wished(_request(work))


_TALK = (
    (r"(?:hi|hello|hey|greetings|good (?:morning|afternoon|evening|day)|howdy|hiya)(?: there| all| everyone| \w+)?",
     ("Hello! How can I help you?", "Hi! What can I do for you?", "Hello! What would you like to know?")),
    (r"(?:ok |great |many |perfect )?(?:thanks|thank you|thx|cheers)(?: (?:a lot|so much|very much|again|you|for .{1,40}))*",
     ("You are welcome!", "You're welcome. Is there anything else?", "My pleasure, you are welcome.")),
    (r"(?:ok )?(?:bye|goodbye|see you|good night|ciao|farewell)(?: \w+){0,2}", ("Goodbye!", "Bye, see you!")),
    (r"(?:hi |hello )?how are you(?: \w+)*", ("I am a simulated model, so I am always the same. How can I help you?",)),
)  # fmt: skip
_WHO = re.compile(
    r"\b(?:who|what) are you\b|\bwhat(?:'s| is) your name\b|\b(?:which|what) (?:\w+ )?model\b|\bare you (?:an? )?(?:\w+ )?(?:human|person|real|robot|bot|ai\b"
    r"|chatgpt|gpt|claude|machine|model|language model|llm|gemini|assistant)|\bwho (?:made|built|created|trained|wrote) you\b|\babout yourself\b"
    r"|\bintroduce yourself\b|\btell me who you\b|\bwho am i (?:talking|speaking|chatting|writing) (?:to|with)\b",
    re.IGNORECASE,
)
_ABLE = re.compile(
    r"\bwhat (?:can|do) you (?:do|know|help)|\bhow can you help|\bwhat are you able|\byour (?:abilities|skills)|\bhelp me with\?",
    re.IGNORECASE,
)


def small_talk(message: str) -> tuple[str, ...]:
    """Return the replies that fit a greeting, thanks, or a question about the model itself; none for all else."""
    bare = re.sub(r"[^\w' ]+", " ", message.lower()).strip()
    if len(bare) < 120 and _ABLE.search(message):
        return (_RANGE,)
    if len(bare) < 120 and _WHO.search(message):
        return (IDENTITY, f"{IDENTITY} {_RANGE}")
    return next(
        (replies for pattern, replies in _TALK if re.fullmatch(pattern, re.sub(r" +", " ", bare))), ()
    )
