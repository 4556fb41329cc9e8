-- name: profile
-- workflow, size class
SELECT profile FROM profiles WHERE workflow = ?1 AND size_class = ?2

-- name: last_profile_revision
SELECT coalesce(max(revision), 0) FROM profiles

-- name: keep_profile
-- workflow, size class, revision, now, profile
INSERT INTO profiles (workflow, size_class, revision, learned_ms, profile) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (workflow, size_class) DO UPDATE SET
  revision = excluded.revision, learned_ms = excluded.learned_ms, profile = excluded.profile

-- name: profiles_since
-- revision
SELECT workflow, size_class, revision, profile FROM profiles INDEXED BY profiles_by_revision
WHERE revision > ?1 ORDER BY revision

-- name: drop_stalest_profiles
-- at most so many workflows stay. Those that learned last stay.
DELETE FROM profiles WHERE workflow IN (
  SELECT workflow FROM profiles WHERE size_class = -1 ORDER BY learned_ms DESC, workflow LIMIT -1 OFFSET ?1
)
