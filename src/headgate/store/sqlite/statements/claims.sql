-- name: claimed_runs
-- owner, lease until, now, seqs (JSON). The rows as they will be once claimed.
SELECT {claimed_columns}, seq, input_bytes FROM runs WHERE seq IN (SELECT value FROM json_each(?4))

-- name: claim_runs
-- owner, lease until, now, seqs (JSON)
UPDATE runs SET state = 'running', owner = ?1, term = term + 1, lease_until_ms = ?2, due_ms = ?2,
  charged = max(charged, cost), started_ms = coalesce(started_ms, ?3), reason = NULL, detail = NULL
WHERE seq IN (SELECT value FROM json_each(?4))

-- name: steps_of_runs
-- seqs (JSON)
SELECT {step_columns}, run FROM steps WHERE run IN (SELECT value FROM json_each(?1)) ORDER BY run, seq

-- name: steps_of_run
-- seq
SELECT {step_columns} FROM steps WHERE run = ?1

-- name: run_by_seq
SELECT {run_columns}, seq FROM runs WHERE seq = ?1

-- name: held_runs
-- owner, run ids (JSON)
SELECT seq, id, term, cancel_requested, charged, workflow, tenant, lane, CAST(coalesce(user, '') AS BLOB) FROM runs
WHERE id IN (SELECT value FROM json_each(?2)) AND state = 'running' AND owner = ?1

-- name: extend_leases
-- lease until, seqs (JSON)
UPDATE runs SET lease_until_ms = ?1, due_ms = ?1 WHERE seq IN (SELECT value FROM json_each(?2))

-- name: running_runs
-- run ids (JSON)
SELECT id, owner, term, seq, workflow, tenant, lane, spawned, spawn_key, replay_of, charged,
  CAST(coalesce(user, '') AS BLOB)
FROM runs
WHERE id IN (SELECT value FROM json_each(?1)) AND state = 'running'

-- name: finish_run
-- seq, state, reason, detail, result, now, calls, model tokens, money, wall, degraded, cost
UPDATE runs SET state = ?2, reason = ?3, detail = coalesce(?4, detail), result = ?5, finished_ms = ?6, used_calls = ?7,
  used_model_tokens = ?8, used_money = ?9, used_wall_ms = ?10, degraded = max(degraded, ?11), charged = coalesce(?12, charged), spent = coalesce(?12, spent), due_ms = NULL,
  lease_until_ms = NULL
WHERE seq = ?1

-- name: fenced_run
-- run id, owner, term
SELECT seq, id, workflow, tenant, lane, deadline_ms, cancel_requested, detail FROM runs
WHERE id = ?1 AND state = 'running' AND owner = ?2 AND term = ?3

-- name: suspend_run
-- seq, reason, detail, wake, due, attempts, calls, model tokens, money, wall
UPDATE runs SET state = 'suspended', reason = ?2, detail = ?3, wake_ms = ?4,
  available_ms = coalesce(?4, available_ms), due_ms = ?5, attempts = coalesce(?6, attempts), used_calls = ?7,
  used_model_tokens = ?8, used_money = ?9, used_wall_ms = ?10, owner = NULL, lease_until_ms = NULL
WHERE seq = ?1

-- name: release_run
-- seq, reason, due, preempted or nothing, calls, model tokens, money, wall
UPDATE runs SET state = 'queued', reason = ?2, due_ms = ?3, preemptions = preemptions + (?4 IS NOT NULL),
  preempted_ms = coalesce(?4, preempted_ms), used_calls = ?5, used_model_tokens = ?6, used_money = ?7,
  used_wall_ms = ?8, owner = NULL, lease_until_ms = NULL
WHERE seq = ?1

-- name: ceilings_of_run
-- seq
SELECT budget_calls, budget_model_tokens, budget_money, budget_wall_ms FROM runs WHERE seq = ?1

-- name: pause_run
-- seq, detail, until, due, calls, model tokens, money, wall
UPDATE runs SET state = 'suspended', reason = 'budget_wait', detail = ?2, wake_ms = ?3, due_ms = ?4, used_calls = ?5,
  used_model_tokens = ?6, used_money = ?7, used_wall_ms = ?8, owner = NULL, lease_until_ms = NULL
WHERE seq = ?1
