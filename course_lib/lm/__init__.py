"""The language model that every notebook talks to."""
