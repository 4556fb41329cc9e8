-- A pause may stop running runs at their next step.
ALTER TABLE controls ADD COLUMN stops_running INTEGER NOT NULL DEFAULT 0;
