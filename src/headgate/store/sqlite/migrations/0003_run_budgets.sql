-- A run's ceilings of money and running time, what it used of them, and what single calls cost.

ALTER TABLE runs ADD COLUMN budget_money REAL;
ALTER TABLE runs ADD COLUMN budget_wall_ms INTEGER;
ALTER TABLE runs ADD COLUMN used_money REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN used_wall_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE steps ADD COLUMN money REAL NOT NULL DEFAULT 0;
ALTER TABLE steps ADD COLUMN input_tokens INTEGER;  -- of a model call, where the model reported it
