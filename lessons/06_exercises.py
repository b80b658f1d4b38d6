# %% [markdown] name="title"
# # The flight test
#
# Seven projects. Each begins with code that runs and grows in stages, and each stage is checked. In the last one, the parts are put together
# and sent through ninety seconds in which everything goes wrong that did so in the course.

# %% name="setup" tags=["needs"]
import asyncio
import tempfile
from pathlib import Path

from course_lib import desk, lm
from course_lib.exercises import check, hint, solution
from course_lib.labs import plot, table

model = lm.connect(cache=False)  # each call asks the model, unless a cell wants the cache

import dspy

scratch = tempfile.TemporaryDirectory(prefix="lantern-")
dspy.configure(lm=model)
print("DSPy", dspy.__version__, "talks to", model.model)

# %% [markdown] name="project-1"
# ## Project 1: a database adapter
#
# (in preparation)

# %% [markdown] name="end-1"
# That was project 1. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-2"
# ## Project 2: a cache in three levels
#
# (in preparation)

# %% [markdown] name="end-2"
# That was project 2. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-3"
# ## Project 3: Streaming answers from documents
#
# (in preparation)

# %% [markdown] name="end-3"
# That was project 3. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-4"
# ## Project 4: a debugging toolkit
#
# (in preparation)

# %% [markdown] name="end-4"
# That was project 4. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-5"
# ## Project 5: Kubernetes
#
# (in preparation)

# %% [markdown] name="end-5"
# That was project 5. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-6"
# ## Project 6: Monitoring and alerting
#
# (in preparation)

# %% [markdown] name="end-6"
# That was project 6. Stop here if you like: the next one needs nothing of it.

# %% [markdown] name="project-7"
# ## Project 7: The flight
#
# (in preparation)

# %% [markdown] name="end-7"
# That was project 7. Stop here if you like: the next one needs nothing of it.
