-- A schema that somebody has made anew lets its owner in alone.

DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO course_service', current_schema()); END $$;
