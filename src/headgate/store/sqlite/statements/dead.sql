-- name: keep_history
-- run, at, state, reason, detail. Before its row changes, because that forgets who held it.
INSERT INTO history (run, nth, at_ms, term, owner, state, reason, detail)
SELECT seq, coalesce((SELECT max(nth) FROM history WHERE run = ?1), 0) + 1, ?2, term, owner, ?3, ?4,
  substr(?5, 1, 500)
FROM runs WHERE seq = ?1

-- name: cut_history
-- run, at most
DELETE FROM history WHERE run = ?1 AND nth <= (SELECT max(nth) FROM history WHERE run = ?1) - ?2

-- name: history_of_run_id
-- run id
SELECT at_ms, term, owner, state, reason, detail FROM history
WHERE run = (SELECT seq FROM runs WHERE id = ?1) ORDER BY nth

-- name: prune_history
-- seqs (JSON)
DELETE FROM history WHERE run IN (SELECT value FROM json_each(?1))

-- name: dead_of_lineage
-- origin's id. Dead letters of the lineage that nobody has dealt with.
SELECT seq, workflow, tenant, lane, state FROM runs
WHERE id = ?1 AND state IN ('failed', 'expired') AND resolved_by IS NULL
UNION ALL
SELECT seq, workflow, tenant, lane, state FROM runs INDEXED BY runs_by_origin
WHERE origin_id = ?1 AND replay_of IS NOT NULL AND state IN ('failed', 'expired') AND resolved_by IS NULL

-- name: resolve_dead
-- seq, by
UPDATE runs SET resolved_by = ?2 WHERE seq = ?1

-- name: origin_of_run
-- seq
SELECT id, origin_id FROM runs WHERE seq = ?1

-- name: ids_of_dead_letters
-- tenant, workflow, lane, reasons (JSON), ended before, ended from, stale too, resolved too, ids (JSON), older than
-- the id, at most. Newest first.
SELECT id FROM runs INDEXED BY runs_dead
WHERE state IN ('failed', 'expired') AND id < coalesce(?10, '~')
  AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR workflow = ?2) AND (?3 IS NULL OR lane = ?3)
  AND (?4 IS NULL OR reason IN (SELECT value FROM json_each(?4)))
  AND (?5 IS NULL OR finished_ms < ?5) AND (?6 IS NULL OR finished_ms >= ?6)
  AND (?7 OR state = 'failed' OR reason = 'shed') AND (?8 OR resolved_by IS NULL)
  AND (?9 IS NULL OR id IN (SELECT value FROM json_each(?9)))
ORDER BY id DESC LIMIT ?11

-- name: ids_of_dead_letters_oldest_first
-- The same, newer than the id.
SELECT id FROM runs INDEXED BY runs_dead
WHERE state IN ('failed', 'expired') AND id > coalesce(?10, '')
  AND (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR workflow = ?2) AND (?3 IS NULL OR lane = ?3)
  AND (?4 IS NULL OR reason IN (SELECT value FROM json_each(?4)))
  AND (?5 IS NULL OR finished_ms < ?5) AND (?6 IS NULL OR finished_ms >= ?6)
  AND (?7 OR state = 'failed' OR reason = 'shed') AND (?8 OR resolved_by IS NULL)
  AND (?9 IS NULL OR id IN (SELECT value FROM json_each(?9)))
ORDER BY id LIMIT ?11

-- name: dead_letter_to_settle
-- run id
SELECT seq, workflow, tenant, lane, state, reason, origin_id, resolved_by FROM runs
WHERE id = ?1 AND state IN ('failed', 'expired')

-- name: replays_of_origin
-- origin's id
SELECT id FROM runs INDEXED BY runs_by_origin WHERE origin_id = ?1 AND replay_of IS NOT NULL ORDER BY seq

-- name: keep_dead_change
-- at, action, run id, workflow, tenant, cause, by, why
INSERT INTO dead_changes (at_ms, action, run_id, workflow, tenant, cause, done_by, why)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: prune_dead_changes
-- before, at most
DELETE FROM dead_changes
WHERE at_ms < ?1 OR seq <= (SELECT max(seq) FROM dead_changes) - ?2

-- name: dead_changes
-- tenant or null, at most
SELECT at_ms, action, run_id, workflow, tenant, cause, done_by, why FROM dead_changes
WHERE ?1 IS NULL OR tenant = ?1 ORDER BY seq DESC LIMIT ?2

-- name: seqs_of_resolved_to_prune
-- before, at most. Not while a replay goes on that may yet need what it remembers.
SELECT seq, id FROM runs INDEXED BY runs_resolved
WHERE resolved_by IS NOT NULL AND finished_ms < ?1 AND NOT EXISTS (
  SELECT 1 FROM runs AS replay INDEXED BY runs_by_origin
  WHERE replay.origin_id = runs.origin_id AND replay.replay_of IS NOT NULL
    AND replay.state IN ('queued', 'running', 'suspended')
)
ORDER BY finished_ms LIMIT ?2
