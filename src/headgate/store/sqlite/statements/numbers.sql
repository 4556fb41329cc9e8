-- name: data_version
-- Changes when another connection has written since this one last looked.
PRAGMA data_version

-- name: queue_numbers
-- workflow, tenant, lane
SELECT depth, bytes, waiting, running, suspended, dead, started FROM queues
WHERE workflow = ?1 AND tenant = ?2 AND lane = ?3

-- name: lanes_with_numbers
SELECT lane FROM queues WHERE workflow = '' AND tenant = ''

-- name: keep_queue_numbers
INSERT INTO queues (workflow, tenant, lane, depth, bytes, waiting, running, suspended, dead, started)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (workflow, tenant, lane) DO UPDATE SET
  depth = excluded.depth, bytes = excluded.bytes, waiting = excluded.waiting, running = excluded.running,
  suspended = excluded.suspended, dead = excluded.dead, started = excluded.started

-- name: lane_numbers
-- lane
SELECT virtual_time, last_start, arrivals, claimed_ms FROM lanes WHERE lane = ?1

-- name: keep_lane_numbers
INSERT INTO lanes (lane, virtual_time, last_start, arrivals, claimed_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (lane) DO UPDATE SET virtual_time = excluded.virtual_time, last_start = excluded.last_start,
  arrivals = excluded.arrivals, claimed_ms = excluded.claimed_ms

-- name: rate_arrival
-- key
SELECT arrival_ms FROM rates WHERE key = ?1

-- name: keep_rate_arrival
INSERT INTO rates (key, arrival_ms) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET arrival_ms = excluded.arrival_ms

-- name: recounted_queues
-- What the counters must say, but for `started`. For repair; reads every run, and labels as bytes because one of
-- them may be damaged.
SELECT CAST(workflow AS BLOB), CAST(tenant AS BLOB), CAST(lane AS BLOB),
  sum(state = 'queued' AND term = 0), sum(CASE WHEN state = 'queued' AND term = 0 THEN input_bytes ELSE 0 END),
  sum(state = 'queued'), sum(state = 'running'), sum(state = 'suspended'),
  sum(state IN ('failed', 'expired') AND resolved_by IS NULL)
FROM runs GROUP BY workflow, tenant, lane

-- name: started_counts
SELECT workflow, tenant, lane, started FROM queues

-- name: drop_queue_numbers
DELETE FROM queues
