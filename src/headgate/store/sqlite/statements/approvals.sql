-- name: approval_of_step
-- run id, step key
SELECT {approval_columns} FROM approvals WHERE run_id = ?1 AND step_key = ?2

-- name: earlier_expiry_of_step
-- run id, how the step keys of its questions begin that left the queue
SELECT min(expires_ms) FROM approvals WHERE run_id = ?1 AND step_key > ?2 AND step_key < ?2 || 'a'

-- name: queue_of_waiting_question
-- run id
SELECT queue FROM approvals INDEXED BY approvals_by_step WHERE run_id = ?1 AND state = 'waiting'

-- name: approval_by_id
SELECT {approval_columns} FROM approvals WHERE id = ?1

-- name: count_waiting_approvals
-- queue, at most
SELECT count(*) FROM (
  SELECT 1 FROM approvals INDEXED BY approvals_waiting WHERE state = 'waiting' AND queue = ?1 LIMIT ?2
)

-- name: load_of_approvals
-- queue
SELECT rank, count(*), min(asked_ms) FROM approvals INDEXED BY approvals_waiting
WHERE state = 'waiting' AND queue = ?1 GROUP BY rank

-- name: latest_answers
-- queue, at most
SELECT asked_ms, decided_ms, coalesce(decided_by, '') FROM approvals INDEXED BY approvals_answered
WHERE queue = ?1 AND state IN ('approved', 'denied') ORDER BY decided_ms DESC LIMIT ?2

-- name: keep_approval
INSERT INTO approvals ({approval_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: answer_approval
-- id, state, by, now, note
UPDATE approvals SET state = ?2, decided_by = ?3, decided_ms = ?4, note = ?5 WHERE id = ?1

-- name: move_approval
-- id, queue, expires
UPDATE approvals SET queue = ?2, expires_ms = ?3 WHERE id = ?1 AND state = 'waiting'

-- name: queues_that_wait
SELECT DISTINCT queue FROM approvals INDEXED BY approvals_waiting WHERE state = 'waiting'

-- name: waiting_approvals
-- queue, tenant, now, what is needed before this moment comes last, at most. The order is that of
-- policy/question_order; what nobody needs any more is left out.
SELECT {approval_columns} FROM approvals INDEXED BY approvals_waiting
WHERE state = 'waiting' AND queue = ?1 AND (?2 IS NULL OR tenant = ?2)
  AND min(expires_ms, coalesce(deadline_ms, expires_ms)) > ?3
ORDER BY min(expires_ms, coalesce(deadline_ms, expires_ms)) < ?4, rank,
  min(expires_ms, coalesce(deadline_ms, expires_ms)), asked_ms, seq LIMIT ?5

-- name: last_waiting_approval
-- queue
SELECT {approval_columns} FROM approvals INDEXED BY approvals_waiting
WHERE state = 'waiting' AND queue = ?1
ORDER BY rank DESC, min(expires_ms, coalesce(deadline_ms, expires_ms)) DESC, asked_ms DESC, seq DESC LIMIT 1

-- name: set_approval_aside
-- id, new id, new step key, now, note. Its run asks again.
UPDATE approvals SET id = ?2, step_key = ?3, state = 'expired', decided_ms = ?4, note = ?5 WHERE id = ?1

-- name: let_run_ask_again
-- seq, reason, detail, wake, due
UPDATE runs SET reason = ?2, detail = ?3, wake_ms = ?4, available_ms = ?4, due_ms = ?5 WHERE seq = ?1

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
