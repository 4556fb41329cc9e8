-- name: control_of
SELECT {control_columns} FROM controls WHERE target = ?1 AND kind = ?2

-- name: controls_in_force
-- now
SELECT {control_columns} FROM controls WHERE until_ms IS NULL OR until_ms > ?1 ORDER BY target, kind

-- name: keep_control
INSERT INTO controls ({control_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (target, kind) DO UPDATE SET
  reason = excluded.reason, set_by = excluded.set_by, set_ms = excluded.set_ms, until_ms = excluded.until_ms,
  limit_to = excluded.limit_to, rate_amount = excluded.rate_amount, rate_window_s = excluded.rate_window_s,
  depth_to = excluded.depth_to, age_s = excluded.age_s, share = excluded.share, weight = excluded.weight,
  shed_at = excluded.shed_at, tokens_amount = excluded.tokens_amount, tokens_window_s = excluded.tokens_window_s,
  stops_running = excluded.stops_running

-- name: drop_control
DELETE FROM controls WHERE target = ?1 AND kind = ?2

-- name: drop_controls_that_ended
-- now
DELETE FROM controls WHERE until_ms <= ?1

-- name: keep_control_change
INSERT INTO control_changes ({control_change_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: control_changes
-- target or null, at most
SELECT {control_change_columns} FROM control_changes WHERE ?1 IS NULL OR target = ?1 ORDER BY seq DESC LIMIT ?2

-- name: prune_control_changes
-- before, at most so many
DELETE FROM control_changes
WHERE at_ms < ?1 OR seq <= (SELECT max(seq) FROM control_changes) - ?2

-- name: tenants_seen
-- first, at most
SELECT tenant FROM (SELECT DISTINCT tenant FROM queues WHERE tenant <> '') ORDER BY tenant = ?1 DESC, tenant LIMIT ?2
