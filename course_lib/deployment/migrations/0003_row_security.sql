-- A second wall behind the WHERE of every query: a connection sees the rows of the tenant that it was told, and
-- none before it was told one; '*' is for a worker's claim and for the daily deletions. The service
-- works under this role, since PostgreSQL applies no such policy to a superuser.

DO $$ BEGIN CREATE ROLE course_service NOLOGIN NOBYPASSRLS; EXCEPTION WHEN duplicate_object OR unique_violation
THEN NULL; END $$;
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['subjects', 'answers', 'feedback', 'jobs', 'job_results', 'idempotency_keys', 'audit']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_rows ON %I USING (current_setting(''course.tenant'', true) IN (tenant, ''*''))', name);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO course_service', name);
        IF name <> 'audit' THEN
            EXECUTE format('GRANT UPDATE, DELETE ON %I TO course_service', name);
        END IF;
    END LOOP;
    EXECUTE format('GRANT course_service TO %I', current_user);
END $$;
