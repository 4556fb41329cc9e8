-- The first layout. Times are integer milliseconds since the epoch, payloads are JSON text.

-- The ledger of runs. `seq` is the order of admission in this store. A large input lives in `inputs`, so that
-- heartbeats and other updates of a run never rewrite it.
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  origin_id TEXT NOT NULL,
  replay_of TEXT,
  workflow TEXT NOT NULL,
  tenant TEXT NOT NULL,
  user TEXT,
  lane TEXT NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('queued', 'running', 'suspended', 'succeeded', 'failed', 'cancelled', 'expired')),
  reason TEXT,
  detail TEXT,
  input TEXT,
  input_bytes INTEGER NOT NULL,
  cost REAL NOT NULL,
  virtual_start REAL NOT NULL,
  submitted_ms INTEGER NOT NULL,
  available_ms INTEGER NOT NULL,
  queue_deadline_ms INTEGER,
  deadline_ms INTEGER,
  due_ms INTEGER,           -- the next moment at which upkeep has something to do here; null once it ended
  wake_ms INTEGER,          -- suspended: wakes by itself then
  started_ms INTEGER,
  finished_ms INTEGER,
  owner TEXT,
  term INTEGER NOT NULL DEFAULT 0,
  lease_until_ms INTEGER,
  crashes INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  degraded INTEGER NOT NULL DEFAULT 0,
  budget_calls INTEGER,
  budget_model_tokens INTEGER,
  used_calls INTEGER NOT NULL DEFAULT 0,
  used_model_tokens INTEGER NOT NULL DEFAULT 0,
  idempotency_key TEXT,
  body_hash TEXT NOT NULL,
  content_key TEXT,
  result TEXT
) STRICT;

CREATE UNIQUE INDEX runs_by_id ON runs (id);
CREATE INDEX runs_by_tenant ON runs (tenant, id);
CREATE UNIQUE INDEX runs_by_idempotency_key ON runs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_by_content ON runs (content_key)
  WHERE content_key IS NOT NULL AND state IN ('queued', 'running', 'suspended');
CREATE UNIQUE INDEX runs_by_source ON runs (replay_of)
  WHERE replay_of IS NOT NULL AND state IN ('queued', 'running', 'suspended');
-- The order of claiming; the workflow rides along so that runs without a worker here are skipped in the index.
CREATE INDEX runs_to_claim ON runs (lane, virtual_start, submitted_ms, seq, workflow) WHERE state = 'queued';
CREATE INDEX runs_by_age ON runs (lane, submitted_ms) WHERE state = 'queued' AND term = 0;
CREATE INDEX runs_due ON runs (state, due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX runs_finished ON runs (finished_ms) WHERE state IN ('succeeded', 'cancelled');
CREATE INDEX runs_dead ON runs (id) WHERE state IN ('failed', 'expired');

CREATE TABLE inputs (
  run INTEGER PRIMARY KEY,
  input TEXT NOT NULL
) STRICT;

-- The journal: what a run remembers of its calls.
CREATE TABLE steps (
  run INTEGER NOT NULL,
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  resource TEXT NOT NULL,
  function TEXT NOT NULL,
  nth INTEGER NOT NULL,
  effect TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('begun', 'done')),
  result TEXT,
  queued_ms INTEGER NOT NULL,
  ran_ms INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  degraded TEXT,
  model_tokens INTEGER NOT NULL,
  started_ms INTEGER NOT NULL,
  finished_ms INTEGER,
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- Counters per scope: (workflow, '', ''), (workflow, tenant, '') and ('', '', lane). Kept exact in the
-- transaction that moves a run.
CREATE TABLE queues (
  workflow TEXT NOT NULL,
  tenant TEXT NOT NULL,
  lane TEXT NOT NULL,
  depth INTEGER NOT NULL,     -- queued and never started
  bytes INTEGER NOT NULL,     -- their inputs together
  waiting INTEGER NOT NULL,   -- queued, started before or not
  running INTEGER NOT NULL,
  suspended INTEGER NOT NULL,
  dead INTEGER NOT NULL,
  started INTEGER NOT NULL,   -- first claims since ever
  PRIMARY KEY (workflow, tenant, lane)
) STRICT, WITHOUT ROWID;

-- Fairness: each lane's virtual time, and where each tenant's last run in it ends.
CREATE TABLE lanes (
  lane TEXT PRIMARY KEY,
  virtual_time REAL NOT NULL,
  last_start REAL NOT NULL    -- the largest virtual start given so far
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
  lane TEXT NOT NULL,
  tenant TEXT NOT NULL,
  finish REAL NOT NULL,
  PRIMARY KEY (lane, tenant)
) STRICT, WITHOUT ROWID;

-- Rates: the theoretical arrival time of each bucket; an absent one is full.
CREATE TABLE rates (
  key TEXT PRIMARY KEY,
  arrival_ms REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,
  tenant TEXT,
  role TEXT NOT NULL,
  label TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  queue TEXT NOT NULL,
  run_id TEXT NOT NULL,
  tenant TEXT NOT NULL,
  step_key TEXT NOT NULL,
  payload TEXT NOT NULL,
  asked_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'approved', 'denied', 'expired')),
  decided_by TEXT,
  decided_ms INTEGER,
  note TEXT
) STRICT;

CREATE UNIQUE INDEX approvals_by_step ON approvals (run_id, step_key);
CREATE INDEX approvals_waiting ON approvals (queue, asked_ms) WHERE state = 'waiting';
CREATE INDEX approvals_due ON approvals (expires_ms) WHERE state = 'waiting';
