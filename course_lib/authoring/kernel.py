"""The course's kernel: this environment's Python, under a name that every notebook carries.

Main path: install() -> a kernelspec in the environment's own share/jupyter, for JupyterLab to list;
isolated(scratch) -> the variables for a trial that touches nothing of the reader's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from course_lib.files import write_whole

NAME = "advanced-dspy"
DISPLAY_NAME = "Advanced DSPy"
ENVIRONMENT = {
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no debugger's warning about Python's frozen modules
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no price list from the network
}
_OF_THE_MODEL = ("COURSE_LM", "COURSE_LM_URL", "COURSE_LM_KEY", "COURSE_LM_CAP_USD")
CHOICES = (*_OF_THE_MODEL, "DATABASE_URL", "REDIS_URL")
"""What a reader may have set to choose a model or a server; a trial runs on the course's own."""


def install(prefix: Path | None = None) -> Path:
    """Write the kernelspec below `prefix` (default: this environment), unless it is there; return its folder.

    Raises:
        FileError: the environment is read-only.
    """
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": DISPLAY_NAME,
        "env": ENVIRONMENT,
        "language": "python",
        "metadata": {"debugger": True},
    }
    folder = (prefix or Path(sys.prefix)) / "share" / "jupyter" / "kernels" / NAME
    file, text = folder / "kernel.json", json.dumps(spec, indent=1) + "\n"
    if not file.exists() or file.read_text("utf-8") != text:
        write_whole(file, text)
    return folder


def isolated(scratch: Path) -> dict[str, str]:
    """Return this process's environment: all files below `scratch`, the default model and servers.

    Temporary files are there too: a kernel that is killed cannot remove them; whoever removes `scratch` does.
    """
    (temporary := scratch / "tmp").mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return {
        **kept,
        "COURSE_WORK": str(scratch / "work"),
        "DSPY_CACHEDIR": str(scratch / "dspy_cache"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "TMPDIR": str(temporary),
    }
