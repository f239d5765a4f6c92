-- Version 3. The fingerprints of a commit lie in its entry's row, 8 bytes each, big-endian: a commit of readings writes one
-- page, not two. The old ones go to the newest entry; a file without entries that was begun after a damaged one gets an
-- empty entry to hold them.
ALTER TABLE entry ADD COLUMN receipts BLOB;
INSERT INTO entry (no, at) SELECT value, 0 FROM meta WHERE key = 'begun_after' AND NOT EXISTS (SELECT 1 FROM entry);
UPDATE entry SET receipts = (SELECT unhex(group_concat(hex(packed), '' ORDER BY total)) FROM receipt)
  WHERE no = (SELECT max(no) FROM entry) AND EXISTS (SELECT 1 FROM receipt);
DROP TABLE receipt;

-- The hash chain over the duty log, a row a line: see audit.rs. `kind`: 0 begun, 1 transition, 2 note, 3 notes deleted,
-- 4 transitions deleted, 5 rows of this table deleted, 6 anchor. `line`: the line's id, or up to which one was deleted.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, line INTEGER NOT NULL, no INTEGER NOT NULL, at INTEGER NOT NULL,
  digest BLOB NOT NULL, chain BLOB NOT NULL
) STRICT;

-- Entries first..=last were written under an unset clock; `shift` ms is added to their times when they are read.
CREATE TABLE restamp (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, shift INTEGER NOT NULL) STRICT;

-- The series' chunks in the order they were written. Clustered by point they cost 15 bytes of log a sample instead of 6
-- (each on a page of its own), and 4.3 bytes at rest instead of 1.9 where a chunk is longer than a quarter of a page.
CREATE TABLE chunk_3 (
  id INTEGER PRIMARY KEY, point INTEGER NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL, n INTEGER NOT NULL,
  valued INTEGER NOT NULL, bad INTEGER NOT NULL, min REAL, max REAL, sum REAL NOT NULL, last REAL, blob BLOB NOT NULL
) STRICT;
INSERT INTO chunk_3 (point, t0, t1, n, valued, bad, min, max, sum, last, blob)
  SELECT point, t0, t1, n, valued, bad, min, max, sum, last, blob FROM chunk ORDER BY t1;
DROP TABLE chunk;
ALTER TABLE chunk_3 RENAME TO chunk;
CREATE UNIQUE INDEX chunk_place ON chunk (point, t0);
CREATE INDEX chunk_end ON chunk (t1);

-- The series' roll-ups: `width` ms of a record, 60 000 or 3 600 000. `t0`, `t1`: where the first and the last record of
-- the blob begin; a point's rows of one width never overlap.
CREATE TABLE rollup (
  id INTEGER PRIMARY KEY, point INTEGER NOT NULL, width INTEGER NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL,
  n INTEGER NOT NULL, blob BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX rollup_place ON rollup (point, width, t0);
CREATE INDEX rollup_end ON rollup (width, t1);
