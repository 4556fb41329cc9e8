-- What runs hold of budgets and limits, and the sums of what is held at once. Sums are whole numbers, kept in the
-- transactions that change the rows. A rate (interval_ms) is taken from its bucket in `rates`.
CREATE TABLE holds (
  run INTEGER NOT NULL,
  key TEXT NOT NULL,
  unit TEXT NOT NULL,
  resource TEXT NOT NULL,       -- whose use settles it; empty: the run's
  amount REAL NOT NULL,
  interval_ms REAL,             -- of a rate: how long one unit takes to come back
  after_ms REAL,                -- of a rate: the arrival time right after the take
  most INTEGER,                 -- of what is held at once: how much there was in all
  running INTEGER NOT NULL,     -- held while the run runs
  held INTEGER NOT NULL,
  since_ms INTEGER NOT NULL DEFAULT 0,
  passed INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE shared (
  key TEXT PRIMARY KEY,
  held INTEGER NOT NULL,
  kept_for INTEGER,             -- the run for which it is kept, because others passed it too often
  kept_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
