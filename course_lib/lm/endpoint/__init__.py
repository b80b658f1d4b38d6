"""The endpoint: an OpenAI-compatible HTTP server with faults, ledger and accounts, in front of an engine.

It runs in a process of its own; notebooks reach it through course_lib.lm. Range: chat completions (streams,
native tools, JSON schemas, several choices), embeddings, models; no images, audio, files or Responses API.
A body has at most 1 MB and 100 levels, a prompt 128,000 tokens, a request 4 stops and 128 tools. What takes
the simulator more than 0.35 s of processor time is refused. Heavy steps are done one at a time, and the other
requests are answered between two of them. All requests under way hold 64 MB at most; large ones are refused
beyond it.

- `running`: the process: the simulator behind the application, uvicorn around it
- `routes`: the ASGI application: which path leads where
- `server`: one request from its body to the ledger: who is asking, limits, fault, answer
- `wire`: OpenAI's format: what a request must look like, completions, chunks and errors
- `sending`: how an answer leaves: late, slowly, malformed, in part, or not at all
- `faults`: what a profile does to one request, drawn from its seed
- `accounts`, `prefixes`: what is kept of each client: ledger, fault sequences, the simulated prompt cache
- `replaying`: recordings of what passes through, and their replay in place of a model
- `embeddings`: vectors by the sentence encoder
- `upstream`: real models behind the endpoint: hosted ones, and one on this machine
"""
