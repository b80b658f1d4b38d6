"""The endpoint: an OpenAI-compatible HTTP server with faults, ledger and accounts, in front of an engine."""
