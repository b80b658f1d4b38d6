"""dspy.LM and dspy.settings.lm exist, as does dspy.LM.copy; see https://dspy.ai/learn and dspy/clients/cache.py.

dspy.BaseLM exists too; dspy.ai tells of it.
"""

import dspy
from dspy.utils.callback import BaseCallback

predict = dspy.Predict("question -> answer")
request = dspy.lm15.Request.messages
