"""Other servers of the bench's program: MLflow's serving and dspy-cli, each as its maker builds it.

Main path: PEERS[kind]: its application, its path, the body that it takes, and whether it is installed.
Source: mlflow 3.17 (pyfunc.scoring_server.init(), which `mlflow models serve` runs in uvicorn), dspy-cli
0.1.13 (server.app.create_app(), which `dspy-cli serve` does). Both are too large for this project's
environment, and MLflow asks for cachetools below 8, which the lock does not have: a virtual environment of
its own, with this project in it, runs the bench with them.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_SOURCE = '''import dspy


class Answer(dspy.Module):
    """The program of the bench."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.ChainOfThought("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.ask.acall(question=question)

    def forward(self, question: str) -> dspy.Prediction:
        return self.ask(question=question)
'''


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of the same program."""

    name: str
    module: str
    """Where it is installed, this can be imported."""
    make: Callable[[], Any]
    """Returns the ASGI application."""
    path: str
    body: Callable[[str], Any]
    """Returns what is sent for a question, as JSON."""

    @property
    def is_installed(self) -> bool:
        """Whether this Python has it."""
        return find_spec(self.module) is not None


def _folder(name: str) -> Path:
    """Return an empty folder beside the server's cache, which goes with it."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=Path(os.environ["DSPY_CACHEDIR"]).parent))


def mlflow() -> Any:
    """Return MLflow's scoring server, with the program saved and loaded as a user would."""
    folder = _folder("mlflow")
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    import dspy
    import mlflow as library
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import scoring_server
    from mlflow.types import ColSpec, Schema

    from course_lib import lm

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    library.set_tracking_uri(f"sqlite:///{folder / 'runs.db'}")
    dspy.configure(
        lm=dspy.LM(f"openai/{os.environ['BENCH_MODEL']}", api_base=lm.url(), api_key=lm.key()),
        disable_history=True,
    )
    text = [Schema([ColSpec("string", name)]) for name in ("question", "answer")]
    library.dspy.save_model(
        dspy.ChainOfThought("question -> answer"),
        str(folder / "model"),
        signature=ModelSignature(*text),
        pip_requirements=["dspy"],
    )
    return scoring_server.init(library.pyfunc.load_model(str(folder / "model")))


def dspy_cli() -> Any:
    """Return dspy-cli's application over a project of one module."""
    import sys

    from dspy_cli.server.app import create_app

    from course_lib import lm

    folder = _folder("dspy_cli")
    modules = folder / "src" / "benched" / "modules"
    modules.mkdir(parents=True)
    for each in (modules.parent, modules):
        (each / "__init__.py").touch()
    (modules / "answer.py").write_text(_SOURCE)
    sys.path.insert(0, str(folder / "src"))
    model = {
        "model": f"openai/{os.environ['BENCH_MODEL']}",
        "api_base": lm.url(),
        "api_key": lm.key(),
        "model_type": "chat",
    }
    config = {"app_id": "bench", "models": {"default": "sim", "registry": {"sim": model}}}
    logging.disable(logging.INFO)
    return create_app(config, modules, "benched.modules", folder, sync_workers=32)


PEERS = {
    "mlflow": Peer(
        "MLflow's serving", "mlflow", mlflow, "/invocations", lambda text: {"inputs": {"question": text}}
    ),
    "dspy-cli": Peer("dspy-cli", "dspy_cli", dspy_cli, "/Answer", lambda text: {"question": text}),
}
