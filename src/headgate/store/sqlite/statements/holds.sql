-- name: any_hold
SELECT 1 FROM holds LIMIT 1

-- name: keep_hold
-- run, key, unit, resource, amount, interval, arrival after, most, running, held, since
INSERT INTO holds (run, key, unit, resource, amount, interval_ms, after_ms, most, running, held, since_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET amount = amount + excluded.amount, after_ms = excluded.after_ms

-- name: holds_of_runs
-- seqs (JSON)
SELECT run, key, unit, resource, amount, interval_ms, after_ms, running, held FROM holds
WHERE run IN (SELECT value FROM json_each(?1))

-- name: needs_of_runs
-- seqs (JSON). What is to be held while they run.
SELECT run, key, amount, most, since_ms, passed FROM holds
WHERE run IN (SELECT value FROM json_each(?1)) AND running = 1 AND held = 0

-- name: mark_held
-- run, held, now
UPDATE holds SET held = ?2, since_ms = ?3, passed = 0 WHERE run = ?1 AND running = 1

-- name: begin_to_wait
-- run, now
UPDATE holds SET since_ms = ?2 WHERE run = ?1 AND running = 1

-- name: note_passed
-- run
UPDATE holds SET passed = passed + 1 WHERE run = ?1 AND running = 1

-- name: drop_holds
-- seqs (JSON)
DELETE FROM holds WHERE run IN (SELECT value FROM json_each(?1))

-- name: shared
-- key
SELECT held, kept_for, kept_ms FROM shared WHERE key = ?1

-- name: keep_shared
-- key, held, kept for, kept
INSERT INTO shared (key, held, kept_for, kept_ms) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
  held = excluded.held, kept_for = excluded.kept_for, kept_ms = excluded.kept_ms

-- name: drop_shared
-- key
DELETE FROM shared WHERE key = ?1

-- name: all_shared
SELECT key, held FROM shared ORDER BY key

-- name: held_by_rows
-- What `shared` must say.
SELECT key, CAST(sum(amount) AS INTEGER) FROM holds
WHERE held = 1 AND interval_ms IS NULL AND amount > 0 GROUP BY key ORDER BY key

-- name: used_by_run
-- seq
SELECT used_calls, used_model_tokens, used_money, submitted_ms FROM runs WHERE seq = ?1

-- name: used_by_steps
-- seq, submitted. Copied steps are older than the run, and cost it nothing.
SELECT resource, sum(tries), sum(model_tokens), sum(money) FROM steps
WHERE run = ?1 AND started_ms >= ?2 GROUP BY resource

-- name: shrink_hold
-- run, key, amount
UPDATE holds SET amount = ?3 WHERE run = ?1 AND key = ?2
