"""The simulator: a language model without a network, which learns from its prompt and from nothing else.

Range: every signature that DSPy 3.4 can print and read back through its Chat, JSON, XML and BAML adapters and
through formats that a prompt describes; labels by meaning, by rules in the instructions, by demos; judging;
proposals for an optimizer; quotations from a context, extraction, sums, a few hundred facts; agents (ReAct,
ReActV2, native calls). It knows no language beyond an encoder's vectors, word stems, a lexicon and its
patterns, writes little that is new, and says so when the prompt does not hold the answer.

- `engine`: answer(body, sample=n) -> Reply, the same in every process
- `prompts`: reads a request into fields, types, demos and format
- `skills`: a file for each thing it can do, and the table that says which answers what
- `formats`: writes the reply, for sim-small at times nearly as asked
"""
