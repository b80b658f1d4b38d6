"""The interactive views of the notebooks; each is loaded when it is first used.

- `table`, `show_messages`: rows, or what a model saw and replied, to be read (00, part 2)
- `plot`: a matplotlib figure with a text for those who cannot see it (00, part 3; 01 to 03)
- `meter`: a line under each cell: calls, cached, failed, tokens, money, time (00, part 2)
- `board`: every exercise and how far the learner is with it (00, part 4)
- `architecture`: the map of a production system; its boxes answer (00, part 5; 01 to 03, before part 1)
- `names_table`: names that books use, and what each is here (00, part 5)
- `self_test`: ten short programs: what do they print? (00, part 6)
- `xray`: what two adapters send, get and read, side by side (01, part 1)
- `cache_explorer`: hit rate over cache size, predicted and measured (02, part 3)
- `wind_tunnel`: concurrency, latency and rate limit to throughput and percentiles, live (03, part 2)
- `streaming_race`: one question asked whole and as a stream, live (03, part 4)
- `trace_viewer`: a run's spans as a tree and a waterfall, with prompt, reply and cost of each (04, part 3)
- `mission_control`: load on the running service, faults at a button, and who notices, live (05, part 5)
- `flight_lab`, `scorecard`: a flight while it flies, and what it was like (06, project 7)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
