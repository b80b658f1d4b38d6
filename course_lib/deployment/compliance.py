"""What GDPR, SOC 2, HIPAA and PCI DSS ask of this system: the control here and the test that shows it.

Main path: DEMANDS, read from demands.toml.
Source: Regulation (EU) 2016/679; AICPA Trust Services Criteria 2017; 45 CFR part 164; PCI DSS 4.0.1.

This is engineering, no legal advice: a control is a part of compliance, never all of it. To add a demand, add
a row; tests/deployment/test_compliance.py holds that its test exists.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One demand of one regulation; it has a control and a test, or a reason for being out of scope."""

    regulation: str
    section: str
    demand: str
    control: str = ""
    """What this system does."""
    test: str = ""
    """The test that shows it, as pytest names it."""
    out_of_scope: str = ""
    """Whose it is instead."""


DEMANDS = tuple(
    Demand(**row)
    for row in tomllib.loads(Path(__file__).with_name("demands.toml").read_text("utf-8"))["demands"]
)
