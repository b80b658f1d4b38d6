"""Data adapters: a database, an HTTP API and a file system, handed to a model as tools."""
