-- Questions to people wait in the order of their lanes and of when they are needed, and people's pace is told from
-- their latest answers.
ALTER TABLE approvals ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN deadline_ms INTEGER;

UPDATE approvals SET
  lane = coalesce((SELECT lane FROM runs WHERE runs.id = approvals.run_id), ''),
  deadline_ms = (SELECT deadline_ms FROM runs WHERE runs.id = approvals.run_id)
WHERE state = 'waiting';

DROP INDEX approvals_waiting;
CREATE INDEX approvals_waiting ON approvals (queue, rank, asked_ms) WHERE state = 'waiting';
CREATE INDEX approvals_answered ON approvals (queue, decided_ms) WHERE state IN ('approved', 'denied');
