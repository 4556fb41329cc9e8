-- What processes tell each other of their resources, what forecasts taught, and what a run was promised.
CREATE TABLE reports (
  owner TEXT PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  until_ms INTEGER NOT NULL,
  report TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX reports_by_until ON reports (until_ms);

CREATE TABLE tracks (
  name TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  learned_ms INTEGER NOT NULL,
  samples TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX tracks_by_revision ON tracks (revision);

ALTER TABLE runs ADD COLUMN promise TEXT;
