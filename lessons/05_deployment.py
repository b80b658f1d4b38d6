# %% [markdown] name="title"
# # Deployment

# %% name="setup" tags=["needs"]
from contextlib import ExitStack

from course_lib.exercises import check, hint, solution

opened = ExitStack()  # closes at the end whatever this notebook opens

# %% [markdown]
# ### Erase a customer: where are they?
#
# A customer writes to the desk, and asks a month later to be erased (GDPR, article 17). The answer they got is in the database. Its copy is
# in the cache, the request is in a log, the model's call is in a trace, and a job of theirs may still wait. The good habit that makes this
# possible is a **pseudonym**: one table knows which customer it stands for, and everything else has the pseudonym. Here is a small service
# with all of that, with a customer of ours among others.

# %% name="erasable" tags=["needs"]
from course_lib.exercises.deployment import erasable

places, tenant, customer = opened.enter_context(erasable())
print("erase", (tenant, customer))
for query in ("SELECT * FROM subjects", "SELECT * FROM answers LIMIT 3", "SELECT * FROM jobs LIMIT 3"):
    print(query, "->", *places.database.execute(query), sep="\n    ")
keys = places.redis.smembers(f"customer:{tenant}/{customer}")
print("cached:", places.redis.mget(keys))
print(*places.log.read_bytes().splitlines()[:6], sep="\n")
print(*places.traces.read_bytes().splitlines()[:6], sep="\n")

# %% [markdown]
# ### Exercise 5.6: erase a customer everywhere (25 minutes, hard)
#
# *Concepts: pseudonym, erasure that can be repeated, order of deletion, whole files.*
#
# Write `erase(places, tenant, customer)`. Afterwards nothing of this customer of this tenant is left, and nothing of anybody else was
# touched: customers of other tenants have the same id, and ids and pseudonyms begin with one another.
#
# - **`places.database`** (psycopg; each statement is a transaction of its own): their rows in `answers` go. Their jobs stay, for a queue
#   holds the ids: whatever its status, a job gets the status `erased`, the inputs `[]`, and no subject. Their row in `subjects` goes.
# - **`places.redis`**: the set `customer:<tenant>/<customer>` names the keys of their cached answers. Answers and set go.
# - **`places.log`** (a `Path`): lines whose field `subject` is their pseudonym go.
# - **`places.traces`** (a `Path`): each trace with a span whose `attributes` have their pseudonym as `subject` goes, with all its spans
#   (same `trace_id`), wherever they stand. Attributes may be missing or null.
# - In both files, all other lines stay byte for byte, also those that are torn, no JSON object or no text. At every moment a file is the
#   old one or the new one, and whole; afterwards no other file is beside it.
# - It returns how many answers, jobs, cached answers, log lines and spans it erased:
#   `{"answers": 2, "jobs": 3, "cache": 2, "log": 4, "traces": 6}`.
# - Erasing again, or a customer whom nobody knows (an id may be any text without NUL), is no error, changes nothing and returns zeros.
# - Servers fail: then the error reaches the caller. Processes are killed. Wherever that happened, calling `erase` again leaves nothing of
#   the customer (a new file that a kill left half made beside the old one may stay).

# %% name="ex-5-6" tags=["exercise"] exercise="5.6"
import json


def erase(places, tenant, customer):
    ### BEGIN SOLUTION
    ### STUB: ...
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)  # one command: the set never goes before what it leads to

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])  # last, since all else is found by it
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped
    ### END SOLUTION


# %% tags=["right"] exercise="5.6"
# A class; files first, and all rows in one transaction at the end; streams instead of lists.
import contextlib
import json
import tempfile
from pathlib import Path


class Eraser:
    def __init__(self, places, tenant, customer):
        self.places, self.who = places, (tenant, customer)

    def __call__(self):
        with self.places.database.cursor() as cursor:
            cursor.execute("SELECT subject FROM subjects WHERE (tenant, customer) = (%s, %s)", self.who)
            self.subjects = {subject for (subject,) in cursor}
        in_traces = set()
        for _, span in self.read(self.places.traces):
            with contextlib.suppress(KeyError, TypeError):
                if span["attributes"]["subject"] in self.subjects:
                    in_traces.add(span["trace_id"])
        log = self.rewrite(self.places.log, lambda record: record.get("subject") in self.subjects)
        traces = self.rewrite(self.places.traces, lambda span: span.get("trace_id") in in_traces)
        return {"log": log, "traces": traces, "cache": self.forget(), **self.delete_rows()}

    def forget(self):
        tag = "customer:" + "/".join(self.who)
        keys = list(self.places.redis.sscan_iter(tag))
        for key in keys:
            self.places.redis.unlink(key)
        self.places.redis.unlink(tag)
        return len(keys)

    def delete_rows(self):
        database, subjects = self.places.database, [list(self.subjects)]
        empty = (
            "UPDATE jobs SET subject = NULL, status = 'erased', inputs = '[]'::jsonb WHERE subject = ANY(%s)"
        )
        with database.transaction():
            jobs = database.execute(empty, subjects).rowcount
            answers = database.execute("DELETE FROM answers WHERE subject = ANY(%s)", subjects).rowcount
            database.execute("DELETE FROM subjects WHERE subject = ANY(%s)", subjects)
        return {"jobs": jobs, "answers": answers}

    def read(self, path):
        with path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line.decode())
                except (UnicodeDecodeError, json.JSONDecodeError):
                    record = {}
                yield line, record if isinstance(record, dict) else {}

    def rewrite(self, path, is_theirs):
        count = 0
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
            for line, record in self.read(path):
                if is_theirs(record):
                    count += 1
                else:
                    new.write(line)
        Path(new.name).replace(path)
        return count


def erase(places, tenant, customer):
    return Eraser(places, tenant, customer)()


# %% tags=["right"] exercise="5.6"
# Async, with one statement for all rows; an answer in Redis goes before the set loses it.
import asyncio
import json
import shutil

ROWS = """
WITH theirs AS (SELECT subject FROM subjects WHERE tenant = %(tenant)s AND customer = %(customer)s),
    a AS (DELETE FROM answers WHERE subject IN (TABLE theirs) RETURNING 1),
    j AS (UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL
          WHERE subject IN (TABLE theirs) RETURNING 1)
SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM j), (SELECT subject FROM theirs)
"""


async def erase(places, tenant, customer):
    named = {"tenant": tenant, "customer": customer}
    answers, jobs, subject = places.database.execute(ROWS, named).fetchone()
    log = traces = cache = 0
    if subject is not None:
        log, traces = await asyncio.gather(
            asyncio.to_thread(cut, places.log, lambda record: [record.get("subject")], subject),
            asyncio.to_thread(cut_traces, places.traces, subject),
        )
    tag = f"customer:{tenant}/{customer}"
    while key := places.redis.srandmember(tag):
        cache += places.redis.delete(key)
        places.redis.srem(tag, key)
    places.database.execute(
        "DELETE FROM subjects WHERE tenant = %(tenant)s AND customer = %(customer)s", named
    )
    return {"answers": answers, "jobs": jobs, "cache": cache, "log": log, "traces": traces}


def record_of(line):
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def cut_traces(path, subject):
    spans = [record_of(line) for line in path.read_bytes().split(b"\n")]
    theirs = [
        span["trace_id"] for span in spans if dict(span.get("attributes") or {}).get("subject") == subject
    ]
    return cut(path, lambda span: [span.get("trace_id")], *theirs)


def cut(path, values_of, *theirs):
    every = path.read_bytes().split(b"\n")
    kept = [line for line in every if not {*values_of(record_of(line))} & {*theirs}]
    if len(kept) < len(every):
        beside = path.parent / f".{path.name}"
        beside.write_bytes(b"\n".join(kept))
        shutil.move(beside, path)
    return len(every) - len(kept)


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in subjects after erasing"
# Another tenant's customer of the same id goes too.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE customer = %s ORDER BY tenant DESC"
    found = query(select, [customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in (subjects|answers) after erasing"
# Whoever has an id that begins with this one goes too.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND starts_with(customer, %s) ORDER BY subject"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after erasing"
# A pseudonym is looked for in the text of a line.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and subject in json.dumps(record)),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# The span with the pseudonym goes, and the rest of its trace stays.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: bool(subject) and subject_of(span) == subject),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in traces.jsonl after erasing"
# One reading: spans that stand before the one with the pseudonym stay.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = set()

    def in_trace(span):
        if subject and subject_of(span) == subject:
            traces.add(span["trace_id"])
        return span.get("trace_id") in traces

    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, in_trace),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="crashed" message="AttributeError|TypeError|KeyError"
# It trips over a span whose attributes are null.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return span.get("attributes", {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="crashed" message="UnicodeDecodeError"
# It trips over a line that is no text.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line.decode())
        except json.JSONDecodeError:
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in cache after erasing"
# The set goes, and the cached answers stay.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in cache after erasing"
# The cached answers go, and the set that names them stays.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(*keys or [tag])

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in cache after"
# Sets are found by a pattern.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    tags = list(places.redis.scan_iter(f"customer:{tenant}/{customer}*"))
    keys = {key for each in tags for key in places.redis.smembers(each)}
    places.redis.delete(tag, *tags, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing"
# Jobs are deleted, while their ids are still in the queue.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query("DELETE FROM jobs WHERE subject = %s", [subject]).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing|ForeignKeyViolation"
# Only the jobs that wait are emptied.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = CASE WHEN status = 'queued' THEN '[]' ELSE inputs END, subject = NULL"
            " WHERE subject = %s",
            [subject],
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in jobs after erasing"
# The jobs lose their inputs, and no worker is told.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query("UPDATE jobs SET inputs = '[]', subject = NULL WHERE subject = %s", [subject]).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in subjects after erasing"
# The customer's own row stays.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    return {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after"
# Lines that are no JSON are thrown away.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            continue
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what is in log.jsonl after"
# Lines are written anew, so that they look otherwise.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(json.dumps(record).encode() + b"\n" if record else line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erase returned"
# The report counts what was looked at.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped + len(kept)


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="whom nobody knows, is no error"
# It trips over a customer whom nobody knows.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="what erasing .* returned|whom nobody knows"
# The customer's id becomes a part of the statement.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = f"SELECT subject FROM subjects WHERE tenant = '{tenant}' AND customer = '{customer}'"
    found = query(select).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="was changed where it stood"
# The file is written where it stands.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    path.write_bytes(b"".join(kept))
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="is gone for a moment"
# The old file goes before the new one is there.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    path.unlink()
    new.rename(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="no other file"
# The old file is kept beside, with all that was to be erased.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    path.with_name(path.name + ".bak").write_bytes(path.read_bytes())
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after erasing again, after a cut"
# The rows, with the pseudonym, go before the files.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    answers = query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount
    empty = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
    jobs = query(empty, [subject]).rowcount
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return {
        "answers": answers,
        "jobs": jobs,
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
    }


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after erasing again, after a cut"
# The database first, with the pseudonym: whoever asks again finds nothing.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    found = query(
        "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s", [tenant, customer]
    ).fetchone()
    counts = dict.fromkeys(["answers", "jobs", "cache", "log", "traces"], 0)
    if found is None:
        return counts
    with places.database.transaction():  # the rows at once, and before all else: the mistake
        counts["answers"] = query("DELETE FROM answers WHERE subject = %s", found).rowcount
        update = "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s"
        counts["jobs"] = query(update, found).rowcount
        query("DELETE FROM subjects WHERE subject = %s", found)
    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)
    counts["cache"] = len(keys)
    traces = {
        span["trace_id"]
        for _, span in lines(places.traces)
        if (span.get("attributes") or {}).get("subject") == found[0]
    }
    counts["log"] = drop(places.log, "subject", {found[0]})
    counts["traces"] = drop(places.traces, "trace_id", traces)
    return counts


def lines(path):
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        yield line, found if isinstance(found, dict) else {}


def drop(path, field, values):
    every = list(lines(path))
    kept = [line for line, record in every if record.get(field) not in values]
    path.with_suffix(".new").write_bytes(b"".join(kept))
    path.with_suffix(".new").replace(path)
    return len(every) - len(kept)


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after erasing again, after a cut"
# The set goes before the answers that it names.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag)
    for key in keys:
        places.redis.delete(key)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="how erase ended after a cut"
# A failure is swallowed, and the pseudonym forgotten all the same.
import json


def erase(places, tenant, customer):
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = set()
    try:
        keys = places.redis.smembers(tag)
        places.redis.delete(tag, *keys)
    except Exception:
        print("Redis is away")

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% tags=["wrong"] exercise="5.6" outcome="failed" message="after a cut|what erasing"
# What is erased is remembered in this process, and never looked at again.
import json

erased = set()


def erase(places, tenant, customer):
    if (tenant, customer) in erased:
        return dict.fromkeys(["answers", "jobs", "cache", "log", "traces"], 0)
    erased.add((tenant, customer))
    query = places.database.execute
    select = "SELECT subject FROM subjects WHERE tenant = %s AND customer = %s"
    found = query(select, [tenant, customer]).fetchone()
    subject = found and found[0]

    tag = f"customer:{tenant}/{customer}"
    keys = places.redis.smembers(tag)
    places.redis.delete(tag, *keys)

    traces = {
        span.get("trace_id") for span in records(places.traces) if subject and subject_of(span) == subject
    }
    counts = {
        "cache": len(keys),
        "log": drop(places.log, lambda record: bool(subject) and record.get("subject") == subject),
        "traces": drop(places.traces, lambda span: span.get("trace_id") in traces),
        "answers": query("DELETE FROM answers WHERE subject = %s", [subject]).rowcount,
        "jobs": query(
            "UPDATE jobs SET status = 'erased', inputs = '[]', subject = NULL WHERE subject = %s", [subject]
        ).rowcount,
    }
    query("DELETE FROM subjects WHERE subject = %s", [subject])
    return counts


def lines(path):
    """Return the lines of a file as bytes, and what each has in JSON: {} where that is no object."""
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except ValueError:  # torn, or not even text
            found = None
        yield line, found if isinstance(found, dict) else {}


def records(path):
    return [record for _, record in lines(path)]


def subject_of(span):
    return (span.get("attributes") or {}).get("subject")


def drop(path, is_theirs):
    """Replace a file by one without some of its records; return how many those were."""
    kept, dropped = [], 0
    for line, record in lines(path):
        if is_theirs(record):
            dropped += 1
        else:
            kept.append(line)
    new = path.with_name(path.name + ".new")
    new.write_bytes(b"".join(kept))
    new.replace(path)
    return dropped


# %% name="check-5-6" tags=["check"] exercise="5.6"
check("5.6", erase)

# %% name="help-5-6"
# hint("5.6")
# solution("5.6")

# %% name="close"
opened.close()
