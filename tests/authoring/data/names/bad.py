"""Samples of names that do not hold; dspy.performance.Cache is one that books invented."""

import dspy
from dspy.clients import NoSuchClient


class Mine(dspy.BaseLM):
    """A subclass of what is deprecated as a base."""


# dspy.ChainOfThougt is a slip of the pen
predict = dspy.Predict("question -> answer").no_such_member
thought = dspy.ProgramOfThought("question -> answer")
picture = dspy.Image.from_PIL(None), dspy.Image("a.png", download=True), dspy.Image(url="a.png")
