-- The audit log: rows are added and read, never changed, and each has a hash over itself and the row before.

CREATE TABLE audit (
    seq bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,  -- made before it is written, so that a batch that is repeated is written once
    tenant text NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    detail text NOT NULL,  -- canonical JSON: the hash is over these very bytes
    hash text NOT NULL
);
CREATE INDEX audit_tenant ON audit (tenant, seq);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only: % refused', TG_OP; END $$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
