-- All replays that go back to one run, also through other replays: a replay remembers what any of them did.
CREATE INDEX runs_by_origin ON runs (origin_id) WHERE replay_of IS NOT NULL;
