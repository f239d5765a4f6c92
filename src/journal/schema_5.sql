-- Version 5. The quarantine: every frame that could not be read, or not wholly, a row each. `sender` is by what it is bounded
-- (a planned device, or the topic of a stranger), `key` what a person knows it by. `topic` NULL: `body` is the text of a
-- round of register reads. `had`: the points that were read from it already. `no`: its entry.
CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, sender TEXT NOT NULL, key TEXT NOT NULL, bytes INTEGER NOT NULL,
  no INTEGER NOT NULL, at INTEGER NOT NULL, link TEXT NOT NULL, topic TEXT, retained INTEGER NOT NULL,
  reason TEXT NOT NULL, had TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
-- All that bounding and counting need: neither looks at a row.
CREATE INDEX quarantine_sender ON quarantine (kind, sender, key, id, bytes);

-- The unreadable messages of earlier versions. One that was cut at 4096 bytes was not kept whole.
INSERT INTO quarantine (kind, sender, key, bytes, no, at, link, topic, retained, reason, had, body)
  SELECT kind, device, key, length(sample), 0, last_at, substr(key, 1, instr(key, ' ') - 1), substr(key, instr(key, ' ') + 1),
    0, reason, '', sample
  FROM stray WHERE kind = 'unreadable' AND device IS NOT NULL AND instr(key, ' ') > 1 AND length(sample) < 4096
  ORDER BY last_at, id;

-- `stray` has one row a sender's key from now on, of both kinds: the newest, counted together.
UPDATE stray SET
    count = (SELECT sum(count) FROM stray AS all_of WHERE all_of.kind = stray.kind AND all_of.key = stray.key),
    first_at = (SELECT min(first_at) FROM stray AS all_of WHERE all_of.kind = stray.kind AND all_of.key = stray.key)
  WHERE id IN (SELECT max(id) FROM stray GROUP BY kind, key);
DELETE FROM stray WHERE id NOT IN (SELECT max(id) FROM stray GROUP BY kind, key);
DROP INDEX stray_key;
CREATE UNIQUE INDEX stray_key ON stray (kind, key);
