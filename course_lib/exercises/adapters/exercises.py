"""Exercises of lesson 01, Adapters and tools.

Main path: EXERCISES -> registry.exercises(); what each looks at is in prompt_checks.py and tool_checks.py.
"""

from __future__ import annotations

from course_lib.exercises.adapters import prompt_checks, store_checks, tool_checks
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.stubs import stub_methods

_LESSON = "01_adapters"

EXERCISES = (
    Exercise(
        id="1.1",
        title="Predict the parse",
        lesson=_LESSON,
        minutes=8,
        difficulty="easy",
        concepts=("ChatAdapter", "parse", "AdapterParseError"),
        hints=(
            "ChatAdapter first cuts the reply at its headers, then casts each field to its type by itself.",
            "A Literal must match letter for letter after quotes are taken off. Numbers and lists are read "
            "as JSON or Python; JSON that is a little broken is repaired first.",
            "Three of the six are errors. Of the other three, one holds an order number that does not exist.",
        ),
        checks=(prompt_checks.says_something_of_each_reply, prompt_checks.predicts_the_parse),
        why="An adapter forgives at the edges and is strict in the middle: talk around the fields, quotes "
        "and broken JSON pass, a capital letter does not. So an error is not always a bad answer (B, F), and "
        "no error is not always a good one (E: half an order number came through as if it were whole).",
    ),
    Exercise(
        id="1.2",
        title="A signature that a sloppy model can fill",
        lesson=_LESSON,
        minutes=12,
        difficulty="medium",
        concepts=("signature design", "Literal", "Enum", "JSONAdapter"),
        hints=(
            "Look at what went wrong, not at what you would write: print the errors and the replies, and "
            "count the kinds. There are two.",
            "Replies are cut at their end, so what stands last is lost first; which of the three fields can "
            "best afford that? And some labels come in capitals.",
            "A Literal compares letter for letter. An Enum may have a `_missing_` class method that is asked "
            "about every value it does not know, and can return the member meant.",
        ),
        checks=(
            prompt_checks.keeps_the_fields,
            prompt_checks.parses_nearly_always,
            prompt_checks.gives_allowed_labels,
            prompt_checks.says_what_the_model_said,
        ),
        why="The fields that the program acts on come first and the free text last, where a cut does no "
        "harm. The enum accepts what is clearly meant and still hands on one spelling. Annotated "
        "validators would be the obvious tool, but DSPy 3.4.1 drops them; and a default would hide the loss.",
    ),
    Exercise(
        id="1.3",
        title="A custom adapter",
        lesson=_LESSON,
        minutes=20,
        difficulty="hard",
        concepts=("Adapter", "demos", "parse", "AdapterParseError"),
        hints=(
            "The two methods mirror each other: what one writes for a demo, the other reads from a reply. "
            "dspy.adapters.utils has format_field_value and parse_value for the values themselves.",
            "A value may run over several lines and hold colons. It ends where a line begins with the name "
            "of another output field; re.split with the names in a group cuts there.",
            "parse_value raises ValueError, a missing name raises KeyError: catch both and raise "
            "AdapterParseError(adapter_name=..., signature=..., lm_response=..., message=...) from them.",
        ),
        checks=(
            prompt_checks.reads_what_it_writes,
            prompt_checks.refuses_with_a_parse_error,
            prompt_checks.works_in_programs,
        ),
        is_stub=stub_methods("format_assistant_message_content", "parse"),
        why="Reading what it writes is the heart of an adapter, since demos are written by it and teach the "
        "model. Types come for free from parse_value. And a refusal has one name, AdapterParseError: "
        "fallbacks and agents catch that and nothing else.",
    ),
    Exercise(
        id="1.4",
        title="A type of your own in the prompt",
        lesson=_LESSON,
        minutes=10,
        difficulty="medium",
        concepts=("dspy.Type", "format", "untrusted text"),
        hints=(
            "format() returns a text: one line for each turn, the speaker, a colon, the words.",
            "A customer may type a line break. ' '.join(words.split()) puts any text on one line.",
            "description() is a class method that returns a sentence; DSPy puts it beside the field's name.",
        ),
        checks=(
            prompt_checks.shows_a_line_per_turn,
            prompt_checks.lets_nobody_speak_for_another,
            prompt_checks.says_what_it_is,
        ),
        is_stub=stub_methods("format", "description"),
        why="A type decides once, for every program, how its values look to the model. That is also where "
        "text from outside meets the prompt's own structure, so it is the place to keep the two apart.",
    ),
    Exercise(
        id="1.5",
        title="A tool that says no well",
        lesson=_LESSON,
        minutes=10,
        difficulty="medium",
        concepts=("dspy.Tool", "validation", "errors as observations"),
        hints=(
            "Three cases: not an order number at all, a number that no order has, an order.",
            're.fullmatch(r"O-\\d{5}", order_id) tells the first case. Raise ToolRefused with one line that '
            "shows a right number.",
            "For the second case name the number asked for and nothing else; a list of known orders would be "
            "a leak.",
        ),
        checks=(
            tool_checks.answers_for_an_order,
            tool_checks.refuses_what_is_no_order_number,
            tool_checks.tells_unknown_from_malformed,
            tool_checks.lets_an_agent_recover,
        ),
        why="The reader of a tool's error is the next prompt. A line that says what a right argument looks "
        "like is worth a retry; a traceback is noise at best and a leak at worst; and 'unknown' must not "
        "sound like 'malformed', or the model tries other spellings for ever.",
    ),
    Exercise(
        id="1.6",
        title="Predictions in PostgreSQL",
        lesson=_LESSON,
        minutes=20,
        difficulty="hard",
        concepts=("psycopg", "connection pool", "parameters", "retry", "idempotence"),
        hints=(
            "Let all three methods go through one that runs a statement: `with self.pool.connection() as "
            "connection: return connection.execute(statement, values).fetchall()`. Jsonb(...) wraps a dict.",
            "INSERT ... ON CONFLICT (key) DO NOTHING makes storing safe to repeat, and only what is safe to "
            "repeat may be tried again. strpos(lower(inputs::text || outputs::text), lower(%s)) > 0 finds.",
            "Catch psycopg.OperationalError around the whole `with`, and try once more than the pool has "
            "connections. JSON in PostgreSQL keeps umlauts as they are.",
        ),
        checks=(
            store_checks.keeps_what_it_is_given,
            store_checks.stores_a_key_once,
            store_checks.finds_by_text,
            store_checks.gives_connections_back,
            store_checks.goes_on_after_dropped_lines,
        ),
        deadline_s=30.0,
        is_stub=stub_methods("store_prediction", "get_prediction", "search_predictions"),
        why="Values travel as parameters, so no text can become a statement. Storing is idempotent, so "
        "trying again is safe, also when the line dropped just after the commit. And the pool is used "
        "through `with`, so that no error keeps a connection. DatabaseAdapter does the same with a deadline "
        "and jitter.",
    ),
)
