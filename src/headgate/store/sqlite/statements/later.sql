-- name: held_back_of_workflow
-- workflow, tenant or null. What waits to go in line, delayed and debounced: runs and bytes of each.
SELECT reason, count(*), sum(input_bytes) FROM runs INDEXED BY runs_held_back
WHERE state = 'suspended' AND term = 0 AND workflow = ?1 AND (?2 IS NULL OR tenant = ?2)
GROUP BY reason

-- name: has_delayed_of_tenant
-- workflow, tenant
SELECT 1 FROM runs INDEXED BY runs_delayed_of_tenant
WHERE state = 'suspended' AND term = 0 AND reason = 'delayed' AND workflow = ?1 AND tenant = ?2 LIMIT 1

-- name: hold_run_back
-- seq, reason, detail, until, due, queue deadline
UPDATE runs SET state = 'suspended', reason = ?2, detail = ?3, wake_ms = ?4, available_ms = ?4, due_ms = ?5,
  queue_deadline_ms = ?6
WHERE seq = ?1

-- name: held_back_run_of_content
-- content key
SELECT {run_columns}, seq, input_bytes, wake_ms FROM runs INDEXED BY runs_by_content
WHERE content_key = ?1 AND content_key IS NOT NULL AND state IN ('queued', 'running', 'suspended')
  AND state = 'suspended' AND term = 0
ORDER BY seq LIMIT 1

-- name: replace_input
-- seq, input or null, bytes, deadline
UPDATE runs SET input = ?2, input_bytes = ?3, deadline_ms = ?4 WHERE seq = ?1

-- name: drop_large_input
-- run
DELETE FROM inputs WHERE run = ?1

-- name: delayed_of_workflow
-- workflow, at most. Those that may go in line first.
SELECT seq, id, tenant, lane, input_bytes, deadline_ms, queue_deadline_ms, available_ms
FROM runs INDEXED BY runs_held_back
WHERE state = 'suspended' AND term = 0 AND workflow = ?1 AND reason = 'delayed'
ORDER BY wake_ms, seq LIMIT ?2

-- name: let_in_line
-- seq, now, due, queue deadline
UPDATE runs SET state = 'queued', reason = NULL, detail = NULL, wake_ms = NULL,
  available_ms = min(available_ms, ?2), due_ms = ?3, queue_deadline_ms = ?4, delayed = 0
WHERE seq = ?1

-- name: run_of_collapsed_key
-- tenant, key
SELECT {run_columns}, seq, (SELECT k.body_hash FROM collapsed_keys AS k WHERE k.tenant = ?1 AND k.key = ?2)
FROM runs WHERE seq = (SELECT k.run FROM collapsed_keys AS k WHERE k.tenant = ?1 AND k.key = ?2)

-- name: keep_collapsed_key
-- tenant, key, run, body hash
INSERT INTO collapsed_keys (tenant, key, run, body_hash) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant, key) DO NOTHING

-- name: has_collapsed_keys
-- run, more than so many
SELECT 1 FROM collapsed_keys INDEXED BY collapsed_keys_by_run WHERE run = ?1 LIMIT 1 OFFSET ?2

-- name: prune_collapsed_keys
-- seqs (JSON)
DELETE FROM collapsed_keys INDEXED BY collapsed_keys_by_run WHERE run IN (SELECT value FROM json_each(?1))

-- name: to_shed_of_workflow
-- workflow, lane, tenant or null, at most
SELECT seq, id, workflow, tenant, lane, input_bytes FROM runs INDEXED BY runs_to_shed_of_workflow
WHERE state = 'queued' AND term = 0 AND sheddable = 1 AND workflow = ?1 AND lane = ?2
  AND (?3 IS NULL OR tenant = ?3)
ORDER BY seq DESC LIMIT ?4

-- name: to_shed_of_lane
-- lane, at most
SELECT seq, id, workflow, tenant, lane, input_bytes FROM runs INDEXED BY runs_to_shed
WHERE state = 'queued' AND term = 0 AND sheddable = 1 AND lane = ?1 ORDER BY seq DESC LIMIT ?2

-- name: allow_to_shed
-- seq
UPDATE runs SET sheddable = 1 WHERE seq = ?1
