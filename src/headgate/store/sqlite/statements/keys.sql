-- name: keep_api_key
INSERT INTO api_keys ({key_columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: api_key_by_hash
SELECT {key_columns} FROM api_keys WHERE hash = ?1

-- name: all_api_keys
SELECT {key_columns} FROM api_keys ORDER BY created_ms, id

-- name: revoke_api_key
-- id, now
UPDATE api_keys SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL
