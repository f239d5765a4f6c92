-- THE ONE DURABLE LOG, version 1. Times are milliseconds since 1970, UTC. Applied by schema.rs, once, in one transaction.

-- One row a commit. `readings` is the blob of readings_codec.rs; NULL when the commit had none.
CREATE TABLE entry (no INTEGER PRIMARY KEY, at INTEGER NOT NULL, readings BLOB) STRICT;

-- The duty log. It outlives its entries: telemetry is deleted first.
CREATE TABLE transition (
  id INTEGER PRIMARY KEY, no INTEGER NOT NULL, at INTEGER NOT NULL, hazard TEXT NOT NULL, json TEXT NOT NULL
) STRICT;
CREATE INDEX transition_no ON transition (no);
CREATE INDEX transition_hazard ON transition (hazard, id);
CREATE TABLE note (
  id INTEGER PRIMARY KEY, no INTEGER NOT NULL, at INTEGER NOT NULL,
  kind TEXT NOT NULL, subject TEXT NOT NULL, zh TEXT NOT NULL, en TEXT NOT NULL
) STRICT;
CREATE INDEX note_no ON note (no);

-- The engine's memory: where each rule stands on each point. `hazard` names a row of the next table.
CREATE TABLE fact (
  point TEXT NOT NULL, rule TEXT NOT NULL, phase TEXT NOT NULL, due INTEGER, hazard TEXT, PRIMARY KEY (point, rule)
) STRICT, WITHOUT ROWID;
CREATE INDEX fact_hazard ON fact (hazard) WHERE hazard IS NOT NULL;

-- Every hazard, open and closed. The body is the JSON of wire.rs; the columns are for looking up.
CREATE TABLE hazard (
  id TEXT PRIMARY KEY, point TEXT NOT NULL, signal TEXT NOT NULL,
  raised_at INTEGER NOT NULL, closed_at INTEGER, json TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX hazard_closed ON hazard (closed_at, id) WHERE closed_at IS NOT NULL;
CREATE INDEX hazard_raised ON hazard (raised_at);

-- Fingerprints of recently acknowledged messages. Bounded.
CREATE TABLE receipt (id INTEGER PRIMARY KEY, fingerprint INTEGER NOT NULL) STRICT;

-- What could not be read. Bounded.
CREATE TABLE stray (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, device TEXT, reason TEXT NOT NULL, sample BLOB NOT NULL,
  first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, count INTEGER NOT NULL
) STRICT;
CREATE INDEX stray_key ON stray (kind, key);
CREATE INDEX stray_last ON stray (kind, last_at);

-- How far each follower has come.
CREATE TABLE cursor (name TEXT PRIMARY KEY, no INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Accounts, sessions and the like, whole.
CREATE TABLE document (
  kind TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- Names that blobs refer to by number. Never deleted: a number must mean the same for ever.
CREATE TABLE point (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE code (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

-- The series. A point's chunks never overlap in time; the columns are the summary of the samples in the blob (`valued`:
-- those that have a value), so that a chart of years decodes only the chunks at its buckets' edges.
CREATE TABLE chunk (
  point INTEGER NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL, n INTEGER NOT NULL, valued INTEGER NOT NULL,
  bad INTEGER NOT NULL, min REAL, max REAL, sum REAL NOT NULL, last REAL, blob BLOB NOT NULL, PRIMARY KEY (point, t0)
) STRICT, WITHOUT ROWID;
CREATE INDEX chunk_end ON chunk (t1);
-- Each point's newest reading at its last sealing; its samples of entries up to `sealed_no` are in chunks.
CREATE TABLE last (point INTEGER PRIMARY KEY, sealed_no INTEGER NOT NULL, reading BLOB NOT NULL) STRICT;

-- `begun_after`: the number before the first entry of this file, when it was begun after a damaged one.
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
