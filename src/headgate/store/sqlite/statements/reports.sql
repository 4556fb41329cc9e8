-- name: keep_report
-- owner, now, until, report
INSERT INTO reports (owner, at_ms, until_ms, report) VALUES (?, ?, ?, ?)
ON CONFLICT (owner) DO UPDATE SET at_ms = excluded.at_ms, until_ms = excluded.until_ms, report = excluded.report

-- name: drop_report
DELETE FROM reports WHERE owner = ?1

-- name: drop_reports_that_ended
-- now
DELETE FROM reports WHERE until_ms <= ?1

-- name: reports_that_count
-- now
SELECT owner, at_ms, report FROM reports WHERE until_ms > ?1

-- name: track
SELECT samples FROM tracks WHERE name = ?1

-- name: last_track_revision
SELECT coalesce(max(revision), 0) FROM tracks

-- name: keep_track
-- name, revision, now, samples
INSERT INTO tracks (name, revision, learned_ms, samples) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
  revision = excluded.revision, learned_ms = excluded.learned_ms, samples = excluded.samples

-- name: tracks_since
-- revision
SELECT name, revision, samples FROM tracks INDEXED BY tracks_by_revision WHERE revision > ?1 ORDER BY revision

-- name: drop_stalest_tracks
-- at most so many stay
DELETE FROM tracks WHERE revision <= (SELECT revision FROM tracks ORDER BY revision DESC LIMIT 1 OFFSET ?1)
