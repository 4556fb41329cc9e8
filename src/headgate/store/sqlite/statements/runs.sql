-- name: run_by_id
SELECT {run_columns}, seq FROM runs WHERE id = ?1

-- name: ids_of_page
-- tenant, workflow, lane, reason, states (JSON), before, limit. One name per index that can serve the order.
SELECT id FROM runs
WHERE (?6 IS NULL OR id < ?6) AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR workflow = ?2)
  AND (?3 IS NULL OR lane = ?3) AND (?4 IS NULL OR reason = ?4)
  AND (?5 IS NULL OR state IN (SELECT value FROM json_each(?5)))
ORDER BY id DESC LIMIT ?7

-- name: ids_of_tenant_page
SELECT id FROM runs INDEXED BY runs_by_tenant
WHERE tenant = ?1 AND id < coalesce(?6, '~') AND (?2 IS NULL OR workflow = ?2)
  AND (?3 IS NULL OR lane = ?3) AND (?4 IS NULL OR reason = ?4)
  AND (?5 IS NULL OR state IN (SELECT value FROM json_each(?5)))
ORDER BY id DESC LIMIT ?7

-- name: ids_of_dead_page
SELECT id FROM runs INDEXED BY runs_dead
WHERE state IN ('failed', 'expired') AND id < coalesce(?6, '~')
  AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR workflow = ?2)
  AND (?3 IS NULL OR lane = ?3) AND (?4 IS NULL OR reason = ?4)
  AND (?5 IS NULL OR state IN (SELECT value FROM json_each(?5)))
ORDER BY id DESC LIMIT ?7

-- name: ids_of_children_page
-- As the others, and the parent's id.
SELECT id FROM runs INDEXED BY runs_by_parent
WHERE parent_id = ?8 AND id < coalesce(?6, '~') AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR workflow = ?2)
  AND (?3 IS NULL OR lane = ?3) AND (?4 IS NULL OR reason = ?4)
  AND (?5 IS NULL OR state IN (SELECT value FROM json_each(?5)))
ORDER BY id DESC LIMIT ?7

-- name: runs_of_ids
-- ids (JSON)
SELECT {run_columns}, seq FROM runs WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id DESC

-- name: steps_of_run_id
SELECT {step_columns} FROM steps WHERE run = (SELECT r.seq FROM runs AS r WHERE r.id = ?1) ORDER BY seq

-- name: count_ahead_in_lane
-- lane, virtual start, seq, at most
SELECT count(*) FROM (
  SELECT 1 FROM runs INDEXED BY runs_by_start WHERE state = 'queued' AND lane = ?1 AND virtual_start < ?2
  UNION ALL
  SELECT 1 FROM runs INDEXED BY runs_by_start
  WHERE state = 'queued' AND lane = ?1 AND virtual_start = ?2 AND seq < ?3
  LIMIT ?4
)

-- name: held_back_at_head
-- lane, virtual start or null, at most, workflows (JSON), tenants (JSON). Of those that start first, all and held back.
SELECT count(*), coalesce(sum(
  workflow IN (SELECT value FROM json_each(?4)) OR tenant IN (SELECT value FROM json_each(?5))
), 0) FROM (
  SELECT workflow, tenant FROM runs INDEXED BY runs_by_start
  WHERE state = 'queued' AND lane = ?1 AND virtual_start < coalesce(?2, 9e999) ORDER BY virtual_start LIMIT ?3
)

-- name: start_of_nth_in_lane
-- lane, n
SELECT virtual_start FROM runs INDEXED BY runs_by_start
WHERE state = 'queued' AND lane = ?1 ORDER BY virtual_start, seq LIMIT 1 OFFSET ?2

-- name: waits_since
-- seq
SELECT max(available_ms, coalesce(preempted_ms, 0)) FROM runs WHERE seq = ?1

-- name: queues_of_overview
SELECT workflow, tenant, lane, depth, bytes, running, started, waiting, suspended, dead FROM queues
WHERE tenant = '' ORDER BY workflow, lane

-- name: oldest_in_lane
SELECT min(submitted_ms) FROM runs INDEXED BY runs_by_age WHERE state = 'queued' AND term = 0 AND lane = ?1

-- name: run_to_cancel
-- run id
SELECT seq, workflow, tenant, lane, state, term, input_bytes FROM runs WHERE id = ?1

-- name: ask_to_stop
-- seq, detail
UPDATE runs SET cancel_requested = 1, detail = ?2 WHERE seq = ?1

-- name: run_to_raise
-- run id
SELECT seq, workflow, tenant, lane, state, reason, deadline_ms, crashes, budget_calls, budget_model_tokens,
  budget_money, budget_wall_ms
FROM runs WHERE id = ?1

-- name: raise_budget
-- seq, calls, model tokens, money, wall
UPDATE runs SET budget_calls = ?2, budget_model_tokens = ?3, budget_money = ?4, budget_wall_ms = ?5 WHERE seq = ?1

-- name: end_waiting_run
-- seq, state, reason, detail, now
UPDATE runs SET state = ?2, reason = ?3, detail = ?4, finished_ms = ?5, due_ms = NULL, wake_ms = NULL,
  owner = NULL, lease_until_ms = NULL
WHERE seq = ?1
