-- name: keep_begun_step
-- An intent that is already there, or a call that is already done, stays as it is.
INSERT INTO steps (run, {step_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO NOTHING

-- name: keep_done_step
-- The first writer wins: only an intent is completed.
INSERT INTO steps (run, {step_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET
  state = excluded.state, result = excluded.result, queued_ms = excluded.queued_ms, ran_ms = excluded.ran_ms,
  tries = excluded.tries, degraded = excluded.degraded, model_tokens = excluded.model_tokens,
  money = excluded.money, input_tokens = excluded.input_tokens,
  finished_ms = excluded.finished_ms, degradation = excluded.degradation
WHERE steps.state = 'begun'

-- name: forget_begun_step
-- run, key
DELETE FROM steps WHERE run = ?1 AND key = ?2 AND state = 'begun'
