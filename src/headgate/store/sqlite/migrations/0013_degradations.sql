-- What was degraded at a step, and why: JSON {what, from, to, why}. Beside the words in degraded.

ALTER TABLE steps ADD COLUMN degradation TEXT;
