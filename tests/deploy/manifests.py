"""What deploy/ says, rendered and read by the tools that are to read it; planted mistakes for them."""

from __future__ import annotations

from course_lib.paths import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "image" / "Dockerfile"
