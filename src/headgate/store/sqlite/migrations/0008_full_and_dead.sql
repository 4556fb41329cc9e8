-- Runs that are accepted and go in line later, runs that may make room for others, keys of collapsed submissions,
-- what resolved a dead letter, and what became of a run's attempts.

ALTER TABLE runs ADD COLUMN sheddable INTEGER NOT NULL DEFAULT 0;  -- may make room for a run of a higher lane
ALTER TABLE runs ADD COLUMN resolved_by TEXT;                      -- dead letters that need nobody any more

-- Waiting to go in line, by when they may; those of one tenant; and newest first what may be shed. Empty for
-- workflows that neither delay, debounce nor shed.
CREATE INDEX runs_held_back ON runs (workflow, reason, wake_ms, seq, tenant, input_bytes)
  WHERE state = 'suspended' AND term = 0;
CREATE INDEX runs_delayed_of_tenant ON runs (workflow, tenant) WHERE state = 'suspended' AND term = 0 AND reason = 'delayed';
CREATE INDEX runs_to_shed ON runs (lane, seq) WHERE state = 'queued' AND term = 0 AND sheddable = 1;
CREATE INDEX runs_to_shed_of_workflow ON runs (workflow, lane, seq, tenant)
  WHERE state = 'queued' AND term = 0 AND sheddable = 1;
CREATE INDEX runs_resolved ON runs (finished_ms) WHERE resolved_by IS NOT NULL;

-- Idempotency keys of submissions that were answered with a run of somebody else's.
CREATE TABLE collapsed_keys (
  tenant TEXT NOT NULL,
  key TEXT NOT NULL,
  run INTEGER NOT NULL,
  body_hash TEXT NOT NULL,
  PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX collapsed_keys_by_run ON collapsed_keys (run);

-- What happened whenever a worker let go of a run without success, and how it ended otherwise. Only the last of a
-- run are kept.
CREATE TABLE history (
  run INTEGER NOT NULL,
  nth INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  term INTEGER NOT NULL,
  owner TEXT,
  state TEXT NOT NULL,
  reason TEXT,
  detail TEXT,
  PRIMARY KEY (run, nth)
) STRICT, WITHOUT ROWID;

-- Who did what with dead letters. Only added to, and cut by age and length.
CREATE TABLE dead_changes (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  action TEXT NOT NULL,
  run_id TEXT NOT NULL,
  workflow TEXT NOT NULL,
  tenant TEXT NOT NULL,
  cause TEXT,
  done_by TEXT NOT NULL,
  why TEXT NOT NULL
) STRICT;
