-- For the count of jobs that nobody tries again, which Prometheus asks for every few seconds.
CREATE INDEX jobs_dead ON jobs (updated) WHERE status = 'dead';
