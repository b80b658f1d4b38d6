# %% [markdown]
# # A sample lesson
#
# It has one exercise, which sorts tickets by urgency.

# %% name="setup" tags=["needs"]
import asyncio

RANKS = {"low": 0, "normal": 1, "high": 2}
await asyncio.sleep(0)

# %% [markdown]
# ## Exercise 0.9
#
# Return the tickets, the most urgent first.


# %% exercise="0.9" tags=["exercise"]
def by_urgency(tickets):
    """Return the tickets, the most urgent first."""
    ### BEGIN SOLUTION
    ### STUB: ...  # your code here
    urgency_of = [(RANKS[ticket["urgency"]], ticket) for ticket in tickets]
    return [ticket for rank, ticket in sorted(urgency_of, key=lambda pair: -pair[0])]
    ### END SOLUTION


# %% exercise="0.9" tags=["wrong"] outcome="failed" message="most urgent first"
def by_urgency(tickets):
    return sorted(tickets, key=lambda ticket: RANKS[ticket["urgency"]])


# %% exercise="0.9" tags=["wrong"] outcome="crashed" message="KeyError"
def by_urgency(tickets):
    return sorted(tickets, key=lambda ticket: RANKS[ticket["priority"]])


# %% exercise="0.9" tags=["check"]
check("0.9", by_urgency)

# %% exercise="0.9" tags=["right"]
from operator import itemgetter


def by_urgency(tickets):
    return [ticket for rank in (2, 1, 0) for ticket in tickets if RANKS[itemgetter("urgency")(ticket)] == rank]

# %%
RANKS
