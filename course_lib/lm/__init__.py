"""The language model that every notebook talks to: a simulator, or a real model, behind one local endpoint.

Main path: model = lm.connect(); dspy.configure(lm=model); lm.ledger() says what it saw.

Names, with the part of a lesson that uses each first:

- `connect`: a dspy.LM on the endpoint, which starts with the first need (00, set-up)
- `ledger`, `Ledger`, `Call`: what the endpoint saw, and what it cost (00, part 2)
- `PROFILES`, `Profile`, `profile`: a model's bad days: slow, limited, failing (00, part 3)
- `verdict`, `Verdict`: how the client behaved: waits as told, storms, half streams, deadlines (03, part 6)
- `embed`: vectors by the sentence encoder (00, part 2)
- `url`, `key`, `stop`: the endpoint's address, this client's key, and its end (02, part 2: DSPy's own cache)
- `is_answering`: whether the endpoint answers at all (no lesson: the checks ask)
- `reset`: an empty ledger, every fault sequence from its start (02, part 5: what the provider caches)

Rooms: `endpoint` (the server), `simulator` (the model). Beside them stands the client's side, with `taping`
(a run in a file, and its replay) and `testing` (a fixture for pytest); docs/endpoint.md has both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
