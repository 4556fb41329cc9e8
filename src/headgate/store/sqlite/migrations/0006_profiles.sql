-- What runs of a workflow take, by size of their input, as JSON; class -1 is every size. Revisions tell other
-- processes what changed.
CREATE TABLE profiles (
  workflow TEXT NOT NULL,
  size_class INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  learned_ms INTEGER NOT NULL,
  profile TEXT NOT NULL,
  PRIMARY KEY (workflow, size_class)
) STRICT, WITHOUT ROWID;

CREATE INDEX profiles_by_revision ON profiles (revision);
