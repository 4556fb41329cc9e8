-- name: begin_step
-- run id, owner, term, the step's columns
-- An intent that is already there, or a call that is already done, stays as it is.
INSERT INTO steps (run, {step_columns})
SELECT seq, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21
FROM runs WHERE id = ?1 AND state = 'running' AND owner = ?2 AND term = ?3
ON CONFLICT (run, key) DO NOTHING

-- name: record_step
-- run id, owner, term, the step's columns
-- The first writer wins: only an intent is completed.
INSERT INTO steps (run, {step_columns})
SELECT seq, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21
FROM runs WHERE id = ?1 AND state = 'running' AND owner = ?2 AND term = ?3
ON CONFLICT (run, key) DO UPDATE SET
  state = excluded.state, result = excluded.result, queued_ms = excluded.queued_ms, ran_ms = excluded.ran_ms,
  tries = excluded.tries, degraded = excluded.degraded, model_tokens = excluded.model_tokens,
  money = excluded.money, input_tokens = excluded.input_tokens,
  finished_ms = excluded.finished_ms, degradation = excluded.degradation
WHERE steps.state = 'begun'

-- name: keep_done_step
-- seq, the step's columns; for a run of which the caller has seen that it may be written to
INSERT INTO steps (run, {step_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET
  state = excluded.state, result = excluded.result, queued_ms = excluded.queued_ms, ran_ms = excluded.ran_ms,
  tries = excluded.tries, degraded = excluded.degraded, model_tokens = excluded.model_tokens,
  money = excluded.money, input_tokens = excluded.input_tokens,
  finished_ms = excluded.finished_ms, degradation = excluded.degradation
WHERE steps.state = 'begun'

-- name: forget_step
-- run id, owner, term, key
DELETE FROM steps
WHERE run = (SELECT seq FROM runs WHERE id = ?1 AND state = 'running' AND owner = ?2 AND term = ?3)
  AND key = ?4 AND state = 'begun'
