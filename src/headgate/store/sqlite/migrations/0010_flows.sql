-- Fairness by real cost. A flow is a tenant in a lane, or a user of a tenant there; it has one row for each workflow
-- of which it had runs waiting, and all of them carry the flow's own numbers, so that claiming finds the flow with
-- the smallest virtual time in an index, whatever else waits.

CREATE TABLE tenant_flows (
  lane TEXT NOT NULL,
  tenant TEXT NOT NULL,
  workflow TEXT NOT NULL,
  virtual REAL NOT NULL,      -- what it was charged, by its weight
  weight REAL NOT NULL,
  reached REAL NOT NULL,      -- the largest virtual time at which one of its users was dispatched
  backlog REAL NOT NULL,      -- the estimated cost of all its waiting runs
  waiting INTEGER NOT NULL,   -- runs of this workflow that may start
  since INTEGER NOT NULL,     -- counts up as flows begin to wait: the order among equals
  PRIMARY KEY (lane, tenant, workflow)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_flows (
  lane TEXT NOT NULL,
  tenant TEXT NOT NULL,
  user TEXT NOT NULL,         -- empty: runs without a user
  workflow TEXT NOT NULL,
  virtual REAL NOT NULL,
  waiting INTEGER NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (lane, tenant, user, workflow)
) STRICT, WITHOUT ROWID;

CREATE INDEX tenant_flows_in_line ON tenant_flows (lane, workflow, virtual, since, tenant, weight) WHERE waiting > 0;
CREATE INDEX user_flows_in_line ON user_flows (lane, tenant, workflow, virtual, since, user) WHERE waiting > 0;

ALTER TABLE lanes ADD COLUMN arrivals INTEGER NOT NULL DEFAULT 0;   -- how often a flow began to wait
ALTER TABLE lanes ADD COLUMN claimed_ms INTEGER NOT NULL DEFAULT 0; -- the latest claim

ALTER TABLE runs ADD COLUMN order_ms INTEGER NOT NULL DEFAULT 0;    -- its order among the runs of its user
ALTER TABLE runs ADD COLUMN charged REAL NOT NULL DEFAULT 0;        -- to its flows, in fairness units
ALTER TABLE runs ADD COLUMN spent REAL NOT NULL DEFAULT 0;          -- what earlier attempts really cost
ALTER TABLE runs ADD COLUMN delayed INTEGER NOT NULL DEFAULT 0;     -- queued, but not to be started yet

UPDATE runs SET order_ms = submitted_ms,
  charged = CASE WHEN state = 'running' OR term > 0 THEN cost ELSE 0 END,
  delayed = (state = 'queued' AND term = 0 AND available_ms > submitted_ms)
WHERE state IN ('queued', 'running', 'suspended');

DROP INDEX runs_to_claim;
CREATE INDEX runs_in_line ON runs (lane, tenant, coalesce(user, ''), workflow, order_ms)
  WHERE state = 'queued' AND delayed = 0;
CREATE INDEX runs_delayed ON runs (lane, available_ms) WHERE state = 'queued' AND delayed = 1;
-- For positions: the order in which runs would start if no estimate were corrected.
CREATE INDEX runs_by_start ON runs (lane, virtual_start) WHERE state = 'queued';

-- What waits keeps its turn: a tenant stands where the first of its waiting runs stood.
INSERT INTO tenant_flows (lane, tenant, workflow, virtual, weight, reached, backlog, waiting, since)
SELECT lane, tenant, workflow, min(virtual_start), 1.0, 0.0, 0.0, count(*), min(seq)
FROM runs WHERE state = 'queued' AND delayed = 0 GROUP BY lane, tenant, workflow;
UPDATE tenant_flows SET
  virtual = (SELECT min(o.virtual) FROM tenant_flows AS o
    WHERE o.lane = tenant_flows.lane AND o.tenant = tenant_flows.tenant),
  backlog = (SELECT sum(r.cost) FROM runs AS r WHERE r.state = 'queued' AND r.delayed = 0
    AND r.lane = tenant_flows.lane AND r.tenant = tenant_flows.tenant);
INSERT INTO user_flows (lane, tenant, user, workflow, virtual, waiting, since)
SELECT lane, tenant, coalesce(user, ''), workflow, 0.0, count(*), min(seq)
FROM runs WHERE state = 'queued' AND delayed = 0 GROUP BY lane, tenant, coalesce(user, ''), workflow;
INSERT INTO tenant_flows (lane, tenant, workflow, virtual, weight, reached, backlog, waiting, since)
SELECT t.lane, t.tenant, '', t.finish, 1.0, 0.0, 0.0, 0, 0 FROM tenants AS t
WHERE NOT EXISTS (SELECT 1 FROM tenant_flows AS f WHERE f.lane = t.lane AND f.tenant = t.tenant);
UPDATE lanes SET arrivals = (SELECT coalesce(max(seq), 0) FROM runs);
DROP TABLE tenants;
