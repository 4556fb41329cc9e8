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
SELECT seq, origin_id, state, spawn_key FROM runs WHERE id = ?1 AND tenant = ?2

-- name: unfinished_replay
-- origin's id. Any run of the lineage: two at once would do the same steps at the same time.
SELECT id FROM runs INDEXED BY runs_by_origin
WHERE origin_id = ?1 AND replay_of IS NOT NULL AND state IN ('queued', 'running', 'suspended')

-- name: has_unknown_steps
-- source run, origin's id. Begun by the source or a later replay, and done by none. That somebody once assumed it
-- done for another replay (a once step without a try) does not count.
SELECT 1 FROM steps AS begun
WHERE begun.state = 'begun' AND begun.run IN (
    SELECT ?1 UNION ALL
    SELECT seq FROM runs INDEXED BY runs_by_origin WHERE origin_id = ?2 AND replay_of IS NOT NULL AND seq > ?1
  ) AND NOT EXISTS (
    SELECT 1 FROM steps AS done
    WHERE done.key = begun.key AND done.state = 'done' AND (
      done.run = ?1 OR (done.effect <> 'once' OR done.tries > 0) AND done.run IN (
        SELECT seq FROM runs INDEXED BY runs_by_origin WHERE origin_id = ?2 AND replay_of IS NOT NULL
      )
    )
  )
LIMIT 1

-- name: copy_done_steps
-- new run, source run, origin's id. What the source did, and what other replays did since or beside it; what was
-- only assumed done comes last, and only from the source. Sub-runs are found by their own keys, not copied.
INSERT INTO steps
SELECT ?1, key, seq, resource, function, nth, effect, state, result, queued_ms, ran_ms, tries, degraded,
  model_tokens, started_ms, finished_ms, money, input_tokens, degradation
FROM steps
WHERE state = 'done' AND function <> 'spawn' AND run <> ?1 AND run IN (
    SELECT ?2 UNION ALL
    SELECT r.seq FROM runs AS r INDEXED BY runs_by_origin WHERE r.origin_id = ?3 AND r.replay_of IS NOT NULL
  ) AND (run = ?2 OR effect <> 'once' OR tries > 0)
ORDER BY effect = 'once' AND tries = 0, run = ?2 DESC, run DESC
ON CONFLICT (run, key) DO NOTHING

-- name: copy_unknown_steps_as_done
-- new run, source run, origin's id, now. After `copy_done_steps`, so that what is known to be done stays.
INSERT INTO steps
SELECT ?1, key, seq, resource, function, nth, effect, 'done', 'null', queued_ms, ran_ms, 0, degraded,
  model_tokens, started_ms, ?4, money, input_tokens, degradation
FROM steps
WHERE state = 'begun' AND run IN (
    SELECT ?2 UNION ALL
    SELECT r.seq FROM runs AS r INDEXED BY runs_by_origin
    WHERE r.origin_id = ?3 AND r.replay_of IS NOT NULL AND r.seq > ?2
  )
ON CONFLICT (run, key) DO NOTHING

-- name: copy_steps_of_ended
-- new run, source run: all that a run did which has succeeded, sub-runs too
INSERT INTO steps (run, {step_columns})
SELECT ?1, key, seq, resource, function, nth, effect, state, result, queued_ms, ran_ms, tries, degraded,
  model_tokens, started_ms, finished_ms, money, input_tokens, degradation
FROM steps WHERE run = ?2 AND state = 'done'

-- name: admit_run
INSERT INTO runs (
  id, origin_id, replay_of, workflow, tenant, user, lane, state, input, input_bytes, cost, virtual_start,
  submitted_ms, available_ms, queue_deadline_ms, deadline_ms, due_ms, degraded, budget_calls,
  budget_model_tokens, budget_money, budget_wall_ms, idempotency_key, body_hash, content_key, order_ms, delayed,
  promise
) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: keep_large_input
-- run, input
INSERT INTO inputs (run, input) VALUES (?, ?)
