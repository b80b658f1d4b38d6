"""The process of a replica."""

import subprocess
import sys

WITHOUT = ("numpy", "pandas", "IPython", "matplotlib", "jupyter_client")


def test_a_replica_has_nothing_of_notebooks_and_reports_in_memory() -> None:
    code = f"import sys, course_lib.deployment.replica; print(*sys.modules.keys() & set({WITHOUT}))"
    code = f"from course_lib.deployment.lean import leave_out; leave_out(); {code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() in ([], ["IPython"])  # left out: there as nothing
