# %% [markdown]
# # An exercise that registers itself
#
# So that the proof can be tested
# without a lesson of the course.

# %% name="setup" tags=["needs"]
import asyncio

from course_lib.exercises import check
from course_lib.exercises.engine.checks import expect_equal, run
from course_lib.exercises.engine.registry import Exercise, register


def _doubles(double):
    """Every number is doubled."""
    expect_equal(run(double(3)), 6, "three is doubled")


register(
    Exercise(
        id="9.1",
        title="Double it",
        lesson="09_proof",
        minutes=1,
        difficulty="easy",
        hints=("Two times.",),
        checks=(_doubles,),
        why="Twice is two times.",
    )
)
await asyncio.sleep(0)

# %% name="not-needed"
raise RuntimeError("the proof must not run this cell")

# %% exercise="9.1" tags=["exercise"]
FACTOR = 2


async def double(x):
    ### BEGIN SOLUTION
    ### STUB: ...
    return FACTOR * x
    ### END SOLUTION

# %% exercise="9.1" tags=["right"]
async def double(x):
    return x + x

# %% exercise="9.1" tags=["right"]
def double(x):
    return asyncio.sleep(0, result=2 * x)

# %% exercise="9.1" tags=["wrong"] outcome="failed" message="expected 6, got 9"
async def double(x):
    return x * x

# %% exercise="9.1" tags=["wrong"] outcome="crashed" message="ZeroDivisionError"
async def double(x):
    return x / 0

# %% exercise="9.1" tags=["wrong"] outcome="failed" message="got 3(?![0-9])"
async def double(x):
    return x

# %% exercise="9.1" tags=["wrong"] outcome="failed" message="got 9.0"
async def double(x):
    return 3.0 * x

# %% exercise="9.1" tags=["wrong"] outcome="failed" message="got None"
async def double(x):
    2 * x

# %% exercise="9.1" tags=["wrong"] outcome="failed" message="got '33'"
async def double(x):
    return str(x) * 2

# %% exercise="9.1" tags=["check"]
check("9.1", double)
