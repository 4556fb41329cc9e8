-- name: run_of_idempotency_key
-- tenant, key
SELECT {run_columns}, seq, body_hash FROM runs INDEXED BY runs_by_idempotency_key
WHERE tenant = ?1 AND idempotency_key = ?2 AND idempotency_key IS NOT NULL

-- name: unfinished_run_of_content
-- content key
SELECT {run_columns}, seq FROM runs INDEXED BY runs_by_content
WHERE content_key = ?1 AND content_key IS NOT NULL AND state IN ('queued', 'running', 'suspended')
ORDER BY seq LIMIT 1

-- name: replay_source
-- run id, tenant
SELECT seq, origin_id, state FROM runs WHERE id = ?1 AND tenant = ?2

-- name: unfinished_replay
-- source's id
SELECT id FROM runs INDEXED BY runs_by_source
WHERE replay_of = ?1 AND replay_of IS NOT NULL AND state IN ('queued', 'running', 'suspended')

-- name: has_begun_steps
-- run
SELECT 1 FROM steps WHERE run = ?1 AND state = 'begun' LIMIT 1

-- name: copy_done_steps
-- new run, source run
INSERT INTO steps
SELECT ?1, key, seq, resource, function, nth, effect, state, result, queued_ms, ran_ms, tries, degraded,
  model_tokens, started_ms, finished_ms, money, input_tokens
FROM steps WHERE run = ?2 AND state = 'done'

-- name: copy_begun_steps_as_done
-- new run, source run, now
INSERT INTO steps
SELECT ?1, key, seq, resource, function, nth, effect, 'done', 'null', queued_ms, ran_ms, tries, degraded,
  model_tokens, started_ms, ?3, money, input_tokens
FROM steps WHERE run = ?2 AND state = 'begun'

-- name: admit_run
INSERT INTO runs (
  id, origin_id, replay_of, workflow, tenant, user, lane, state, input, input_bytes, cost, virtual_start,
  submitted_ms, available_ms, queue_deadline_ms, deadline_ms, due_ms, degraded, budget_calls,
  budget_model_tokens, budget_money, budget_wall_ms, idempotency_key, body_hash, content_key
) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: keep_large_input
-- run, input
INSERT INTO inputs (run, input) VALUES (?, ?)
