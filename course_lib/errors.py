"""The root of every error this library raises on purpose.

Main path: each room draws its own errors below CourseError, where they are raised.
"""


class CourseError(Exception):
    """Something the reader can act on: what is wrong, the value found, what to do next."""
