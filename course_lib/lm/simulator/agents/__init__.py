"""Agents: a model that has tools, from the request to the calls and the answer.

- `lexing`: what a request mentions, and the small words around each mention.
- `slots`: what an argument of a tool takes, by its schema, name and description.
- `filling`: arguments out of mentions, each mention used once, the best fits first.
- `goals`: what the request wants, and which tool serves it; what none of them can do.
- `carrying`: values for arguments out of what tools gave back.
- `deciding`: which calls come next, and when there is nothing left to call.
- `answering`: the reply in the form that the prompt wants.

Where evidence is thin (two tools equally good, a figure that no argument takes) nothing is called.
"""
