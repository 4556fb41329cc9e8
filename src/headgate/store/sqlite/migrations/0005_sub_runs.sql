-- Runs spawned by runs. All of it is empty in a run that has no relatives, and the indexes do not hold such runs.

ALTER TABLE runs ADD COLUMN parent_id TEXT;
ALTER TABLE runs ADD COLUMN root_id TEXT;                          -- the run at the top of its tree; null there
ALTER TABLE runs ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN spawn_key TEXT;
ALTER TABLE runs ADD COLUMN spawned INTEGER NOT NULL DEFAULT 0;    -- sub-runs of its own so far
ALTER TABLE runs ADD COLUMN descendants INTEGER NOT NULL DEFAULT 0; -- at the root: all runs below it so far

CREATE INDEX runs_by_parent ON runs (parent_id, id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_by_spawn_key ON runs (spawn_key, seq) WHERE spawn_key IS NOT NULL;

-- Which run waits for which sub-runs. A branch lets its run go on once none of its rows is left.
CREATE TABLE child_waits (
  child TEXT NOT NULL,
  parent TEXT NOT NULL,
  branch INTEGER NOT NULL,
  PRIMARY KEY (child, parent, branch)
) STRICT, WITHOUT ROWID;

CREATE INDEX child_waits_by_parent ON child_waits (parent, branch);
