-- For the count of a tenant's jobs that are not at their end, and for those that the queue may have lost.
CREATE INDEX jobs_waiting ON jobs (tenant, updated) WHERE NOT has_ended;
