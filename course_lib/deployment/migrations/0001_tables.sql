-- What the service keeps. Each row has its tenant; a customer's own id is in `subjects` and nowhere else.

CREATE TABLE subjects (
    tenant text NOT NULL,
    subject text NOT NULL,  -- the random pseudonym that stands for a customer in all other places
    customer text NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    erasing timestamptz,  -- since when this customer is being erased; a request from then on has a new subject
    PRIMARY KEY (tenant, subject)
);
CREATE UNIQUE INDEX subjects_customer ON subjects (tenant, customer) WHERE erasing IS NULL;

CREATE TABLE answers (
    tenant text NOT NULL,
    id text NOT NULL,
    subject text,
    program text NOT NULL,
    version text NOT NULL,
    question text NOT NULL,  -- redacted
    answer jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, subject) REFERENCES subjects
);
CREATE INDEX answers_history ON answers (tenant, created DESC, id);
CREATE INDEX answers_subject ON answers (tenant, subject);

CREATE TABLE feedback (
    tenant text NOT NULL,
    answer_id text NOT NULL,
    score smallint NOT NULL CHECK (score BETWEEN 1 AND 5),
    comment text NOT NULL DEFAULT '',
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, answer_id),
    FOREIGN KEY (tenant, answer_id) REFERENCES answers ON DELETE CASCADE
);

CREATE TABLE jobs (
    tenant text NOT NULL,
    id text NOT NULL UNIQUE,
    subject text,
    program text NOT NULL,
    version text NOT NULL,
    inputs jsonb NOT NULL,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'failed', 'done', 'dead', 'erased')),
    has_ended boolean NOT NULL GENERATED ALWAYS AS (status IN ('done', 'dead', 'erased')) STORED,
    attempts integer NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    idempotency_key text,
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, idempotency_key),
    FOREIGN KEY (tenant, subject) REFERENCES subjects
);
CREATE INDEX jobs_subject ON jobs (tenant, subject);

CREATE TABLE job_results (
    tenant text NOT NULL,
    job_id text NOT NULL,
    index integer NOT NULL CHECK (index >= 0),
    result jsonb NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, job_id, index),  -- an input that is answered twice is kept once
    FOREIGN KEY (tenant, job_id) REFERENCES jobs ON DELETE CASCADE
);

CREATE TABLE idempotency_keys (
    tenant text NOT NULL,
    key text NOT NULL,
    body_sha256 text NOT NULL,
    owner text NOT NULL,  -- the call that took it, which may be repeated after a lost connection
    subject text,
    status integer,  -- of the answer; NULL while the first request runs
    body jsonb,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key),
    FOREIGN KEY (tenant, subject) REFERENCES subjects
);
CREATE INDEX idempotency_keys_subject ON idempotency_keys (tenant, subject);

-- Delete what is about these subjects; return how many rows that were. A job keeps its row, emptied, since its
-- id may be in the queue. The locks wait for an answer or a result that is being written, so that it goes too.
CREATE FUNCTION delete_rows_of(the_tenant text, the_subjects text[]) RETURNS bigint LANGUAGE sql AS $$
    SELECT FROM subjects WHERE tenant = the_tenant AND subject = ANY(the_subjects) FOR UPDATE;
    SELECT FROM jobs WHERE tenant = the_tenant AND subject = ANY(the_subjects) FOR UPDATE;
    WITH gone AS (
        DELETE FROM answers WHERE tenant = the_tenant AND subject = ANY(the_subjects) RETURNING 1
    ), keys AS (
        DELETE FROM idempotency_keys WHERE tenant = the_tenant AND subject = ANY(the_subjects) RETURNING 1
    ), results AS (
        DELETE FROM job_results WHERE tenant = the_tenant
            AND job_id IN (SELECT id FROM jobs WHERE tenant = the_tenant AND subject = ANY(the_subjects))
        RETURNING 1
    ), emptied AS (
        UPDATE jobs SET status = 'erased', inputs = '[]', error = '', idempotency_key = NULL, subject = NULL,
            updated = now() WHERE tenant = the_tenant AND subject = ANY(the_subjects) RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM keys) + (SELECT count(*) FROM results)
        + (SELECT count(*) FROM emptied);
$$;
