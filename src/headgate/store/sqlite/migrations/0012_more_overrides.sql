-- What else operators may set by hand in place of what is declared.
ALTER TABLE controls ADD COLUMN age_s REAL;
ALTER TABLE controls ADD COLUMN share REAL;
ALTER TABLE controls ADD COLUMN weight REAL;
ALTER TABLE controls ADD COLUMN shed_at REAL;
ALTER TABLE controls ADD COLUMN tokens_amount REAL;
ALTER TABLE controls ADD COLUMN tokens_window_s REAL;
