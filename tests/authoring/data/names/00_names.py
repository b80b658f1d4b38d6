# %% [markdown]
# # Names
#
# `dspy.Adapter` exists, `dspy.CustomAdapter` does not.

# %% [markdown] tags=["invented-names"]
# Books write `dspy.tracing.Tracer`.

# %%
import dspy

await dspy.Predict("question -> answer").acall(question="?")
dspy.Predictor

# %%
Noted = Asked.append("note", dspy.InputField(desc=f"{Asked.name}", prefix="Note:"), str)
