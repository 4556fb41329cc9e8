-- What operators set by hand, and the record of it. The record is only added to, and cut by age and length.
CREATE TABLE controls (
  target TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('pause', 'override')),
  reason TEXT NOT NULL,
  set_by TEXT NOT NULL,
  set_ms INTEGER NOT NULL,
  until_ms INTEGER,
  limit_to INTEGER,
  rate_amount REAL,
  rate_window_s REAL,
  depth_to INTEGER,
  PRIMARY KEY (target, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE control_changes (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  target TEXT NOT NULL,
  kind TEXT NOT NULL,
  changed_by TEXT NOT NULL,
  reason TEXT NOT NULL,
  was TEXT,
  became TEXT,
  until_ms INTEGER
) STRICT;
