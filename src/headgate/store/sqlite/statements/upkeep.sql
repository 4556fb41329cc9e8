-- name: seqs_overdue_in_line
-- now, at most. Due while queued: the deadline, or before the first start the queue deadline.
SELECT seq FROM runs INDEXED BY runs_due
WHERE state = 'queued' AND due_ms <= ?1 ORDER BY due_ms LIMIT ?2

-- name: seqs_past_deadline
-- now, at most. A suspended run may also be due because it wakes; those are left to `wake`.
SELECT seq FROM runs INDEXED BY runs_due
WHERE state = 'suspended' AND due_ms <= ?1 AND deadline_ms <= ?1 ORDER BY due_ms LIMIT ?2

-- name: seqs_with_lapsed_lease
-- now, at most
SELECT seq FROM runs INDEXED BY runs_due
WHERE state = 'running' AND due_ms <= ?1 ORDER BY due_ms LIMIT ?2

-- name: seqs_out_of_patience
-- now, at most. Paused at a ceiling that nobody raised in time.
SELECT seq FROM runs INDEXED BY runs_due
WHERE state = 'suspended' AND due_ms <= ?1 AND wake_ms <= ?1 AND reason = 'budget_wait' ORDER BY due_ms LIMIT ?2

-- name: seqs_to_wake
-- now, at most
SELECT seq FROM runs INDEXED BY runs_due
WHERE state = 'suspended' AND due_ms <= ?1 AND wake_ms <= ?1 AND reason IS NOT 'budget_wait'
  AND (deadline_ms IS NULL OR deadline_ms > ?1)
ORDER BY due_ms LIMIT ?2

-- name: due_runs
-- seqs (JSON)
SELECT seq, id, workflow, tenant, lane, state, term, input_bytes, deadline_ms, crashes, cancel_requested,
  detail, reason, queue_deadline_ms
FROM runs WHERE seq IN (SELECT value FROM json_each(?1)) ORDER BY due_ms, seq

-- name: put_back_in_line
-- seq, reason, due, crashes
UPDATE runs SET state = 'queued', reason = ?2, detail = NULL, due_ms = ?3, crashes = ?4, wake_ms = NULL,
  owner = NULL, lease_until_ms = NULL
WHERE seq = ?1

-- name: end_lapsed_run
-- seq, state, reason, detail, now, crashes
UPDATE runs SET state = ?2, reason = ?3, detail = ?4, finished_ms = ?5, crashes = ?6, due_ms = NULL,
  owner = NULL, lease_until_ms = NULL
WHERE seq = ?1

-- name: next_due
SELECT min(moment) FROM (
  SELECT min(due_ms) AS moment FROM runs INDEXED BY runs_due WHERE state = 'queued' AND due_ms IS NOT NULL
  UNION ALL
  SELECT min(due_ms) FROM runs INDEXED BY runs_due WHERE state = 'running' AND due_ms IS NOT NULL
  UNION ALL
  SELECT min(due_ms) FROM runs INDEXED BY runs_due WHERE state = 'suspended' AND due_ms IS NOT NULL
  UNION ALL
  SELECT min(expires_ms) FROM approvals INDEXED BY approvals_due WHERE state = 'waiting'
)

-- name: seqs_to_prune
-- before, at most. A replay stays as long as what it replays: its journal tells the next replay what was done. A
-- sub-run stays while its parent, or a replay of it, may need its result.
SELECT seq, id FROM runs INDEXED BY runs_finished
WHERE state IN ('succeeded', 'cancelled') AND finished_ms < ?1 AND (replay_of IS NULL OR NOT EXISTS (
  SELECT 1 FROM runs AS earlier WHERE earlier.id IN (runs.replay_of, runs.origin_id)
)) AND (parent_id IS NULL OR NOT EXISTS (
  SELECT 1 FROM runs AS parent WHERE parent.id = runs.parent_id AND parent.state NOT IN ('succeeded', 'cancelled')
))
ORDER BY finished_ms LIMIT ?2

-- name: prune_runs
-- seqs (JSON)
DELETE FROM runs WHERE seq IN (SELECT value FROM json_each(?1))

-- name: prune_steps
-- seqs (JSON)
DELETE FROM steps WHERE run IN (SELECT value FROM json_each(?1))

-- name: prune_inputs
-- seqs (JSON)
DELETE FROM inputs WHERE run IN (SELECT value FROM json_each(?1))

-- name: prune_approvals
-- run ids (JSON)
DELETE FROM approvals WHERE run_id IN (SELECT value FROM json_each(?1))

-- name: prune_rates
-- before, at most. A bucket whose arrival time has passed is full, as if it were never used.
DELETE FROM rates WHERE key IN (SELECT key FROM rates WHERE arrival_ms <= ?1 LIMIT ?2)

-- name: prune_queues
-- at most. Tenants without a run to count.
DELETE FROM queues WHERE (workflow, tenant, lane) IN (
  SELECT workflow, tenant, lane FROM queues
  WHERE tenant <> '' AND waiting = 0 AND running = 0 AND suspended = 0 AND dead = 0 LIMIT ?1
)

-- name: end_undecodable_run
-- seq, detail, now
UPDATE runs SET state = 'failed', reason = 'undecodable', detail = ?2, finished_ms = ?3, due_ms = NULL,
  wake_ms = NULL, owner = NULL, lease_until_ms = NULL
WHERE seq = ?1
