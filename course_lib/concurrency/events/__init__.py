"""Data streams: events that are handled at least once, with effects exactly once (lesson 03, part 5).

`EventStream`: published events in Redis, at most so many; dead letters; what a server's settings can cost
`Event`, `EventError`, `Entry`: what is published, what can never be handled, its place (or a dead letter's)
`Consumer`: handles a stream's events, several at a time; claims what a dead consumer held; stops gracefully
`consuming`: a consumer that runs beside a block
`Effects`: an effect and its event's id in one transaction, so that a second delivery does nothing
`LiveIndex`: documents that can be searched while more arrive
`SupportDesk`: a ticket arrives, is sorted and answered, and a reply event leaves; plainer under load

Main path: Consumer(EventStream(url, "tickets"), desk.answer).run()
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
