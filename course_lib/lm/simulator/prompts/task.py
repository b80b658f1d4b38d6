"""What a request asks for, once read: fields, inputs, demos, format.

Main path: Task.spec says what to produce and how it is to look, Task.inputs and Task.demos from what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from course_lib.lm.simulator.prompts.schema import Schema

Kind = Literal["markers", "json", "xml", "labelled", "template", "prose"]
Case = Literal["name", "Name", "NAME", "Na me"]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One input or output field of the program that wrote the prompt, or one argument of a tool."""

    name: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    """JSON schema of the value; `$defs` of nested models are at its top."""
    desc: str = ""
    """The author's description, if the prompt shows one."""
    type_name: str = "str"
    """The type as the prompt names it."""
    required: bool = True
    """False for an argument that may be left out."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of the reply."""

    kind: Kind
    before: str = ""
    """Labelled: what stands before a name, such as `**` or `## `."""
    after: str = ": "
    """Labelled: what stands between a name and its value."""
    case: Case = "name"
    """Labelled: how the field name is written."""
    between: str = "\n"
    """Labelled: what stands between two fields."""
    template: str = ""
    """Template: the block of the prompt that holds `{name}` placeholders."""
    fenced: bool = False
    """The demos put the reply in a code fence."""


@dataclass(frozen=True, slots=True, eq=False)
class Spec:
    """The part of a prompt that is the same in every request of a program."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    instructions: str
    layout: Layout


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A demo or an earlier turn: its input texts and its outputs (JSON values, or text as it was written)."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The input values, one after the other."""
        return "\n".join(self.inputs.values())


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One request, read."""

    spec: Spec
    inputs: Mapping[str, str]
    demos: tuple[Turn, ...] = ()
    history: tuple[Turn, ...] = ()
    plain: str = ""
    """The last user message as it stands."""
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """The input values, one after the other."""
        return "\n".join(self.inputs.values())
