"""Adapters as DSPy means them: they write a prompt from a signature, and read the reply back into fields.

`CustomAdapter`: one labelled line per field (lesson 01, part 3; exercise 1.3 builds its core)
`conformance`: a suite that any adapter can be held to, feature by feature (part 3)
`Money`, `OrderId`: types that read what people write, and refuse the rest (part 3; exercise 1.4)
`ReAsk`: an adapter around another one, which asks once more and says why (part 2)
`count_fallbacks`: counts the hidden second requests of DSPy's adapters (part 2)
`measure`: parse rate, tokens and requests of adapters side by side (part 2)
`ADAPTERS`, `SIGNATURES`: what `measure` compares by default
`scripted`: a model that replies with given texts, for tests of adapters
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
