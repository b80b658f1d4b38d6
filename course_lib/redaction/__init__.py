"""Personal data and secrets out of what is logged, traced and kept: one home for every room above.

`redact`: a text without personal data and secrets, a label such as [email] in place of each
`redact_value`: the same for JSON values, nested; what a field's name tells (`"last_name"`) counts too
`StreamRedactor`: the same for a text that comes in chunks
`find`, `Found`: where they stand in a text, and of what kind
`one_line`, `hide`: an error's text as one line without secrets, paths and tracebacks; known values hidden

Main path: redact(text) -> find() runs each detector over its plain form -> labels in their place.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
