"""What GDPR, SOC 2, HIPAA and PCI DSS ask of this system: the control here and the test that shows it.

Main path: DEMANDS; print(report()). A demand without a test here is out of scope, with the reason.
Source: Regulation (EU) 2016/679; AICPA Trust Services Criteria 2017; 45 CFR part 164; PCI DSS 4.0.1.

This is engineering, no legal advice: a control is a part of compliance, never all of it. To add a demand, add
a row; tests/deployment/test_compliance.py holds that its test exists.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """One demand of one regulation."""

    regulation: str
    section: str
    demand: str
    control: str
    """What this system does; or, out of scope, who else has to do what."""
    test: str = ""
    """The test that shows it, as pytest names it; empty for a demand that is out of scope."""

    @property
    def is_in_scope(self) -> bool:
        """Whether this system has a control of its own for it."""
        return bool(self.test)


GDPR, SOC2, HIPAA, PCI = "GDPR", "SOC 2", "HIPAA", "PCI DSS"
_STORE, _AUDIT = "tests/deployment/test_store.py::", "tests/deployment/test_audit.py::"
_CUSTOMERS, _DATABASE = "tests/deployment/test_customers.py::", "tests/deployment/test_database.py::"
_PERSONAL = "tests/redaction/test_personal.py::test_nothing_personal_is_left_of_the_corpus"
_TRACED = "tests/debugging/test_personal.py::test_nothing_personal_is_in_any_span_file_or_log_line"
_TENANTS = f"{_STORE}test_a_query_that_forgets_the_tenant_sees_this_tenants_rows_alone"
_VERIFIED = f"{_AUDIT}test_what_was_done_to_the_log_is_found"
_APPEND_ONLY = f"{_AUDIT}test_the_database_refuses_to_change_the_log"

DEMANDS = (
    Demand(
        GDPR,
        "Art. 5(1)(c)",
        "no more personal data than the purpose needs",
        "personal data is taken out of a text before it becomes a prompt or is kept",
        _PERSONAL,
    ),
    Demand(
        GDPR,
        "Art. 5(1)(e)",
        "kept no longer than needed",
        "Store.drop_older_than, to be called daily",
        f"{_STORE}test_what_is_old_is_dropped_and_what_is_new_stays",
    ),
    Demand(
        GDPR,
        "Art. 15, 20",
        "access, and a copy in a common machine-readable form",
        "Customers.export: JSON, place by place",
        f"{_CUSTOMERS}test_what_is_held_is_exported_from_every_place",
    ),
    Demand(
        GDPR,
        "Art. 17",
        "erasure without undue delay",
        "Customers.erase over database, cache, queue, logs, traces and recordings",
        f"{_CUSTOMERS}test_a_customer_is_erased_everywhere_and_nobody_else",
    ),
    Demand(
        GDPR,
        "Art. 25, 32(1)(a)",
        "pseudonyms, by design",
        "the customer's id is in one table; all else has a random pseudonym",
        f"{_CUSTOMERS}test_the_audit_log_has_the_erasure_by_pseudonym_alone",
    ),
    Demand(
        GDPR,
        "Art. 5(2)",
        "being able to show that it was done",
        "each export and erasure is in the audit log before it begins",
        f"{_CUSTOMERS}test_nothing_is_exported_or_erased_while_the_log_of_it_cannot_be_written",
    ),
    Demand(GDPR, "Art. 6, 13", "a lawful basis, and informing people", "out of scope: for who runs the desk"),
    Demand(GDPR, "Art. 28, 44", "contracts with processors, transfers", "out of scope: the model's provider"),
    Demand(GDPR, "Art. 33", "telling of a breach within 72 hours", "out of scope: a procedure of people"),
    Demand(
        SOC2,
        "CC6.1",
        "logical access is restricted",
        "every query has its tenant, and row level security is behind it",
        _TENANTS,
    ),
    Demand(
        SOC2,
        "CC7.2",
        "anomalies are monitored",
        "`course audit verify` names the first record that was touched",
        f"{_AUDIT}test_the_command_says_whether_the_log_is_whole",
    ),
    Demand(
        SOC2,
        "CC8.1",
        "changes are authorized and tracked",
        "migrations are numbered, recorded with a digest, and refused when changed",
        f"{_DATABASE}test_migrations_run_in_order_and_a_changed_one_is_refused",
    ),
    Demand(
        SOC2,
        "A1.2",
        "recovery from failures",
        "a database killed under load: no row lost or doubled, no restart of the service",
        f"{_DATABASE}test_no_row_is_lost_or_doubled_when_the_server_is_killed_under_load",
    ),
    Demand(
        SOC2,
        "C1.2",
        "confidential information is disposed of",
        "an erasure that was cut off is known and goes on",
        f"{_CUSTOMERS}test_an_erasure_that_was_cut_off_goes_on_and_leaves_what_came_later",
    ),
    Demand(SOC2, "CC1, CC2", "governance, communication", "out of scope: the organization"),
    Demand(
        HIPAA,
        "164.312(a)(1)",
        "access for those with rights only",
        "one tenant reads and changes nothing of another",
        f"{_STORE}test_a_tenant_sees_and_changes_nothing_of_another",
    ),
    Demand(HIPAA, "164.312(b)", "recording activity", "the audit log, verified by a command", _VERIFIED),
    Demand(
        HIPAA,
        "164.312(c)(1)",
        "integrity: no improper alteration",
        "a chain of HMACs; UPDATE and DELETE are refused",
        _APPEND_ONLY,
    ),
    Demand(
        HIPAA,
        "164.502(b)",
        "the minimum necessary",
        "spans and log lines hold nothing personal",
        _TRACED,
    ),
    Demand(HIPAA, "164.312(e)(1)", "protection in transit", "out of scope: TLS ends before the gateway"),
    Demand(HIPAA, "164.312(a)(2)(iv)", "encryption at rest", "out of scope: disks of the platform"),
    Demand(HIPAA, "164.308(b)", "contracts with business associates", "out of scope: the model's provider"),
    Demand(
        PCI,
        "3.2.1, 3.5.1",
        "card numbers are kept as little as possible, unreadable",
        "card numbers are redacted before anything is kept",
        _PERSONAL,
    ),
    Demand(
        PCI,
        "6.2.4",
        "no injection",
        "values are parameters; an id of another form is refused",
        f"{_CUSTOMERS}test_what_is_no_name_is_refused",
    ),
    Demand(PCI, "10.3.2", "audit logs cannot be modified", "append-only, by role and trigger", _APPEND_ONLY),
    Demand(
        PCI,
        "10.3.4",
        "change detection on audit logs",
        "every change, removal, addition or new order is found",
        _VERIFIED,
    ),
    Demand(
        PCI,
        "10.5.1",
        "audit history of twelve months",
        "nothing here deletes from the log; a cut end is noticed by its head",
        f"{_AUDIT}test_without_the_head_a_cut_end_is_not_noticed_and_this_is_said",
    ),
    Demand(PCI, "11.3, 11.4", "vulnerability scans, penetration tests", "out of scope: done from outside"),
    Demand(PCI, "9", "physical access", "out of scope: the data centre"),
)


def report() -> str:
    """Return the table as text, a line a demand."""
    return "\n".join(
        f"{each.regulation:8} {each.section:18} {each.demand:52} {each.control}" for each in DEMANDS
    )
