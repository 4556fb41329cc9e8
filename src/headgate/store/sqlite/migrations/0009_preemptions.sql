-- How often a run made room for one of a higher lane, and when it last did.

ALTER TABLE runs ADD COLUMN preemptions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN preempted_ms INTEGER;
