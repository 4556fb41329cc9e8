-- name: tenant_flow
-- lane, tenant
SELECT workflow, virtual, weight, reached, backlog, waiting, since FROM tenant_flows WHERE lane = ?1 AND tenant = ?2

-- name: user_flow
-- lane, tenant, user
SELECT workflow, virtual, waiting, since FROM user_flows WHERE lane = ?1 AND tenant = ?2 AND user = ?3

-- name: keep_tenant_flow
INSERT INTO tenant_flows (lane, tenant, workflow, virtual, weight, reached, backlog, waiting, since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (lane, tenant, workflow) DO UPDATE SET
  virtual = excluded.virtual, weight = excluded.weight, reached = excluded.reached, backlog = excluded.backlog,
  waiting = excluded.waiting, since = excluded.since

-- name: keep_user_flow
INSERT INTO user_flows (lane, tenant, user, workflow, virtual, waiting, since) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (lane, tenant, user, workflow) DO UPDATE SET
  virtual = excluded.virtual, waiting = excluded.waiting, since = excluded.since

-- name: least_virtual_in_line
-- lane, workflow
SELECT virtual FROM tenant_flows INDEXED BY tenant_flows_in_line
WHERE lane = ?1 AND workflow = ?2 AND waiting > 0 ORDER BY virtual, since, tenant LIMIT 1

-- name: tenants_in_line
-- lane, workflow, at most, after so many
SELECT virtual, since, tenant, weight FROM tenant_flows INDEXED BY tenant_flows_in_line
WHERE lane = ?1 AND workflow = ?2 AND waiting > 0 ORDER BY virtual, since, tenant LIMIT ?3 OFFSET ?4

-- name: users_in_line
-- lane, workflow, tenant, at most, after so many
SELECT virtual, since, user FROM user_flows INDEXED BY user_flows_in_line
WHERE lane = ?1 AND workflow = ?2 AND tenant = ?3 AND waiting > 0 ORDER BY virtual, since, user LIMIT ?4 OFFSET ?5

-- name: runs_in_line
-- lane, workflow, tenant, user, now, at most, after so many. Runs that are late are left to upkeep.
SELECT order_ms, seq, cost, charged FROM runs INDEXED BY runs_in_line
WHERE state = 'queued' AND delayed = 0 AND lane = ?1 AND workflow = ?2 AND tenant = ?3 AND coalesce(user, '') = ?4
  AND (deadline_ms IS NULL OR deadline_ms > ?5) AND (term > 0 OR queue_deadline_ms IS NULL OR queue_deadline_ms > ?5)
ORDER BY order_ms, seq LIMIT ?6 OFFSET ?7

-- name: newest_runs_in_line
-- The same from the other end.
SELECT order_ms, seq, cost, charged FROM runs INDEXED BY runs_in_line
WHERE state = 'queued' AND delayed = 0 AND lane = ?1 AND workflow = ?2 AND tenant = ?3 AND coalesce(user, '') = ?4
  AND (deadline_ms IS NULL OR deadline_ms > ?5) AND (term > 0 OR queue_deadline_ms IS NULL OR queue_deadline_ms > ?5)
ORDER BY order_ms DESC, seq DESC LIMIT ?6 OFFSET ?7

-- name: count_in_line
-- lane, workflow, tenant, user, at most
SELECT count(*) FROM (
  SELECT 1 FROM runs INDEXED BY runs_in_line
  WHERE state = 'queued' AND delayed = 0 AND lane = ?1 AND workflow = ?2 AND tenant = ?3 AND coalesce(user, '') = ?4
  LIMIT ?5
)

-- name: seqs_in_lane
-- lane, at most. Whatever may start there, also where its row is damaged.
SELECT seq FROM runs INDEXED BY runs_by_start WHERE state = 'queued' AND lane = ?1
ORDER BY virtual_start, seq LIMIT ?2

-- name: delayed_runs_now_due
-- lane, now, at most
SELECT seq, CAST(tenant AS BLOB), CAST(coalesce(user, '') AS BLOB), CAST(workflow AS BLOB), cost FROM runs INDEXED BY runs_delayed
WHERE state = 'queued' AND delayed = 1 AND lane = ?1 AND available_ms <= ?2 ORDER BY available_ms LIMIT ?3

-- name: end_delay
-- seqs (JSON)
UPDATE runs SET delayed = 0 WHERE seq IN (SELECT value FROM json_each(?1))

-- name: empty_tenant_flows
UPDATE tenant_flows SET waiting = 0, backlog = 0

-- name: empty_user_flows
UPDATE user_flows SET waiting = 0

-- name: recounted_flows
-- For repair; labels as bytes because one of them may be damaged.
SELECT CAST(lane AS BLOB), CAST(tenant AS BLOB), CAST(coalesce(user, '') AS BLOB), CAST(workflow AS BLOB),
  count(*), sum(cost)
FROM runs WHERE state = 'queued' AND delayed = 0 GROUP BY lane, tenant, coalesce(user, ''), workflow

-- name: prune_tenant_flows
-- at most. A tenant that waits for nothing and is behind its lane starts at the lane's present, as if it were new.
DELETE FROM tenant_flows WHERE (lane, tenant, workflow) IN (
  SELECT f.lane, f.tenant, f.workflow FROM tenant_flows AS f JOIN lanes AS l ON l.lane = f.lane
  WHERE f.waiting = 0 AND f.virtual <= l.virtual_time LIMIT ?1
)

-- name: prune_user_flows
-- at most. Likewise a user behind its tenant, and one whose tenant is gone.
DELETE FROM user_flows WHERE (lane, tenant, user, workflow) IN (
  SELECT u.lane, u.tenant, u.user, u.workflow FROM user_flows AS u
  WHERE u.waiting = 0 AND NOT EXISTS (
    SELECT 1 FROM tenant_flows AS f WHERE f.lane = u.lane AND f.tenant = u.tenant AND f.reached < u.virtual
  ) LIMIT ?1
)

-- name: charges_of_run
-- seq. The user as bytes because it may be damaged.
SELECT CAST(coalesce(user, '') AS BLOB), cost, charged, delayed FROM runs WHERE seq = ?1

-- name: charge_run
-- seq, charged
UPDATE runs SET charged = ?2 WHERE seq = ?1

-- name: settle_run
-- seq, spent
UPDATE runs SET charged = ?2, spent = ?2 WHERE seq = ?1
