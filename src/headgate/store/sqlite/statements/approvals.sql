-- name: approval_of_step
-- run id, step key
SELECT {approval_columns} FROM approvals WHERE run_id = ?1 AND step_key = ?2

-- name: approval_by_id
SELECT {approval_columns} FROM approvals WHERE id = ?1

-- name: count_waiting_approvals
-- queue, at most
SELECT count(*) FROM (
  SELECT 1 FROM approvals INDEXED BY approvals_waiting WHERE state = 'waiting' AND queue = ?1 LIMIT ?2
)

-- name: load_of_approvals
-- queue
SELECT count(*), min(asked_ms) FROM approvals INDEXED BY approvals_waiting WHERE state = 'waiting' AND queue = ?1

-- name: keep_approval
INSERT INTO approvals ({approval_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: answer_approval
-- id, state, by, now, note
UPDATE approvals SET state = ?2, decided_by = ?3, decided_ms = ?4, note = ?5 WHERE id = ?1

-- name: move_approval
-- id, queue, expires
UPDATE approvals SET queue = ?2, expires_ms = ?3 WHERE id = ?1 AND state = 'waiting'

-- name: waiting_approvals
-- tenant, at most
SELECT {approval_columns} FROM approvals
WHERE state = 'waiting' AND (?1 IS NULL OR tenant = ?1) ORDER BY seq LIMIT ?2

-- name: waiting_approvals_of_queue
-- queue, tenant, at most
SELECT {approval_columns} FROM approvals INDEXED BY approvals_waiting
WHERE state = 'waiting' AND queue = ?1 AND (?2 IS NULL OR tenant = ?2) ORDER BY asked_ms, seq LIMIT ?3

-- name: due_approvals
-- now, at most
SELECT {approval_columns} FROM approvals INDEXED BY approvals_due
WHERE state = 'waiting' AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2

-- name: withdraw_approvals
-- run id, now. The run ended, so nobody needs an answer any more.
UPDATE approvals SET state = 'expired', decided_ms = ?2, note = 'the run ended'
WHERE run_id = ?1 AND state = 'waiting'

-- name: run_that_waits_for_approval
-- run id
SELECT seq, workflow, tenant, lane, deadline_ms, crashes FROM runs
WHERE id = ?1 AND state = 'suspended' AND reason = 'approval_wait'
