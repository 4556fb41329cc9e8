-- name: spawning_parent
-- run id, owner, term
SELECT seq, root_id, depth, spawned, descendants, cancel_requested FROM runs
WHERE id = ?1 AND state = 'running' AND owner = ?2 AND term = ?3

-- name: run_of_spawn_key
-- spawn key. The latest: a replay of the parent may have spawned it anew.
SELECT {run_columns}, seq, detached FROM runs INDEXED BY runs_by_spawn_key
WHERE spawn_key = ?1 ORDER BY seq DESC LIMIT 1

-- name: descendants_of_root
-- run id
SELECT descendants FROM runs WHERE id = ?1

-- name: keep_birth
-- seq, parent, root, depth, detached, spawn key
UPDATE runs SET parent_id = ?2, root_id = ?3, depth = ?4, detached = ?5, spawn_key = ?6 WHERE seq = ?1

-- name: keep_spawn_lineage
-- seq, seq of the replayed run. A sub-run that a person replays is found by the replay of its parent.
UPDATE runs SET (spawn_key, depth) = (SELECT source.spawn_key, source.depth FROM runs AS source WHERE source.seq = ?2)
WHERE seq = ?1

-- name: count_spawned
-- seq of the parent
UPDATE runs SET spawned = spawned + 1 WHERE seq = ?1

-- name: count_descendant
-- id of the root
UPDATE runs SET descendants = descendants + 1 WHERE id = ?1

-- name: children_of_run
-- run id
SELECT id, workflow, state, reason, detail, detached, spawned, budget_calls, budget_model_tokens, budget_money,
  budget_wall_ms, used_calls, used_model_tokens, used_money, used_wall_ms
FROM runs INDEXED BY runs_by_parent WHERE parent_id = ?1 ORDER BY id

-- name: usage_below
-- run id. What each of its sub-runs used, with everything attached below.
WITH RECURSIVE below (top, id) AS (
  SELECT id, id FROM runs INDEXED BY runs_by_parent WHERE parent_id = ?1
  UNION ALL
  SELECT below.top, child.id FROM below CROSS JOIN runs AS child INDEXED BY runs_by_parent
  WHERE child.parent_id = below.id AND child.detached = 0
)
SELECT below.top, sum(run.used_calls), sum(run.used_model_tokens), sum(run.used_money), sum(run.used_wall_ms)
FROM below CROSS JOIN runs AS run WHERE run.id = below.id GROUP BY below.top

-- name: used_below
-- run id. Everything attached below it.
WITH RECURSIVE below (seq, id) AS (
  SELECT seq, id FROM runs INDEXED BY runs_by_parent WHERE parent_id = ?1 AND detached = 0
  UNION ALL
  SELECT child.seq, child.id FROM below CROSS JOIN runs AS child INDEXED BY runs_by_parent
  WHERE child.parent_id = below.id AND child.detached = 0
)
SELECT sum(run.used_calls), sum(run.used_model_tokens) FROM below CROSS JOIN runs AS run WHERE run.seq = below.seq

-- name: count_children
-- run id
SELECT state, count(*) FROM runs INDEXED BY runs_by_parent WHERE parent_id = ?1 GROUP BY state

-- name: ancestors_of_run
-- run id
WITH RECURSIVE above (id, parent_id, depth) AS (
  SELECT id, parent_id, 0 FROM runs WHERE id = ?1
  UNION ALL
  SELECT run.id, run.parent_id, above.depth + 1 FROM above CROSS JOIN runs AS run WHERE run.id = above.parent_id
)
SELECT runs.id, runs.workflow, coalesce(runs.input, (SELECT i.input FROM inputs AS i WHERE i.run = runs.seq))
FROM above CROSS JOIN runs WHERE runs.id = above.id AND above.depth > 0 ORDER BY above.depth

-- name: unfinished_of_ids
-- run ids (JSON)
SELECT id FROM runs
WHERE id IN (SELECT value FROM json_each(?1)) AND state IN ('queued', 'running', 'suspended')

-- name: keep_child_wait
-- child, parent, branch
INSERT INTO child_waits (child, parent, branch) VALUES (?, ?, ?) ON CONFLICT DO NOTHING

-- name: drop_waits_of_parent
-- parent
DELETE FROM child_waits WHERE parent = ?1

-- name: waits_for_child
-- child
SELECT parent, branch FROM child_waits WHERE child = ?1

-- name: drop_waits_for_child
-- child
DELETE FROM child_waits WHERE child = ?1

-- name: has_waits_left
-- parent, branch
SELECT 1 FROM child_waits INDEXED BY child_waits_by_parent WHERE parent = ?1 AND branch = ?2 LIMIT 1

-- name: run_that_waits_for_children
-- run id
SELECT seq, workflow, tenant, lane, deadline_ms FROM runs
WHERE id = ?1 AND state = 'suspended' AND reason = 'children_wait'

-- name: wake_for_children
-- seq, due, now. Earlier than the moment until which it would have waited.
UPDATE runs SET state = 'queued', reason = NULL, detail = NULL, due_ms = ?2, available_ms = min(available_ms, ?3),
  wake_ms = NULL, owner = NULL, lease_until_ms = NULL
WHERE seq = ?1

-- name: family_of_run
-- seq
SELECT id, spawned, spawn_key FROM runs WHERE seq = ?1

-- name: unfinished_below
-- run id. Everything attached below it that has not ended.
WITH RECURSIVE below (seq, id) AS (
  SELECT seq, id FROM runs INDEXED BY runs_by_parent WHERE parent_id = ?1 AND detached = 0
  UNION ALL
  SELECT child.seq, child.id FROM below CROSS JOIN runs AS child INDEXED BY runs_by_parent
  WHERE child.parent_id = below.id AND child.detached = 0
)
SELECT run.seq, run.id, run.workflow, run.tenant, run.lane, run.state, run.term, run.input_bytes
FROM below CROSS JOIN runs AS run WHERE run.seq = below.seq AND run.state IN ('queued', 'running', 'suspended')
