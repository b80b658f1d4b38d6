"""Streams: what a program writes, shown while it is written. Lesson 03, part 4, uses them in this order.

    stream              a program and its inputs -> a Stream of typed events; exercise 3.3 builds a small one
    Stream              `async with`, `async for`; `follow(after)` for readers who come back
    Token, Status, Citation, Final, Error, Done, Heartbeat      the events; `Event` is any of them
    as_json, from_json, kind_of     an event as it travels, and back
    streaming_app       a program -> an app: server-sent events, a WebSocket chat, a page
    serve               an app -> a Service on loopback until close(); it shows itself in a notebook

Errors: UnknownFieldError, NotAPredictionError (in `Error.cause`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
