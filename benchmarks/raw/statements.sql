-- The statements of sql.py, in PostgreSQL's spelling, each under a line "--- name".
-- Times are stored negated, so that one ascending index gives the newest first, then by id.
--- tables
CREATE TABLE raw_sessions (
  id {id} PRIMARY KEY, container_id {id}, image_id {id}, newest bigint, body {text},
  latest bigint, at bigint, count integer NOT NULL DEFAULT 0 CHECK (count >= 0)
);
CREATE TABLE raw_messages (
  session_id {id} NOT NULL, position integer NOT NULL, id {id} NOT NULL, body {text} NOT NULL,
  PRIMARY KEY (session_id, position), UNIQUE (session_id, id),
  FOREIGN KEY (session_id) REFERENCES raw_sessions (id) ON DELETE CASCADE
);
CREATE TABLE raw_images (
  id {id} PRIMARY KEY, container_id {id}, digest varchar(32), newest bigint, body {text}, name {text}
);
CREATE TABLE raw_items (id {id} PRIMARY KEY, namespace {id}, newest bigint, body {text});
CREATE INDEX raw_1 ON raw_sessions (newest, id);
CREATE INDEX raw_2 ON raw_sessions (container_id, newest, id);
CREATE INDEX raw_3 ON raw_sessions (image_id, newest, id);
CREATE INDEX raw_4 ON raw_sessions (container_id, latest, id);
CREATE INDEX raw_5 ON raw_images (newest, id);
CREATE INDEX raw_6 ON raw_images (container_id, newest, id);
CREATE INDEX raw_7 ON raw_images (digest, newest, id);
CREATE INDEX raw_8 ON raw_images (container_id, digest, newest, id);
CREATE INDEX raw_9 ON raw_items (namespace, newest, id)
--- save sessions
INSERT INTO raw_sessions (id, container_id, image_id, newest, body, latest, at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
--- save images
INSERT INTO raw_images VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET
  container_id = excluded.container_id, digest = excluded.digest,
  newest = excluded.newest, body = excluded.body, name = excluded.name
--- save items
INSERT INTO raw_items VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET
  namespace = excluded.namespace, newest = excluded.newest, body = excluded.body
--- get images
SELECT body FROM raw_images WHERE id = %s
--- get items
SELECT body FROM raw_items WHERE id = %s
--- set images
UPDATE raw_images SET body = %s WHERE id = %s AND body = %s
--- set items
UPDATE raw_items SET body = %s WHERE id = %s AND body = %s
--- page images
SELECT body FROM raw_images WHERE container_id = %s ORDER BY newest, id LIMIT %s
--- page sessions
SELECT body, at FROM raw_sessions WHERE container_id = %s ORDER BY latest, id LIMIT %s
--- reserve
UPDATE raw_sessions SET at = %s, latest = %s, count = count + %s WHERE id = %s RETURNING count
--- insert
INSERT INTO raw_messages VALUES (%s, %s, %s, %s)
--- load
SELECT body FROM raw_messages WHERE session_id = %s ORDER BY position
--- last
SELECT body FROM raw_messages WHERE session_id = %s ORDER BY position DESC LIMIT %s
--- next
SELECT body FROM raw_messages WHERE session_id = %s AND position > %s ORDER BY position LIMIT 500
--- lock session
SELECT m.position FROM raw_sessions s JOIN raw_messages m ON m.session_id = s.id AND m.id = %s
WHERE s.id = %s FOR UPDATE
--- cut
DELETE FROM raw_messages WHERE session_id = %s AND position > %s RETURNING position, body
--- set count
UPDATE raw_sessions SET at = %s, latest = %s, count = %s WHERE id = %s
--- fork session
INSERT INTO raw_sessions (id, container_id, image_id, newest, body, latest, at, count)
SELECT %s, %s, %s, %s, %s, %s, %s, count FROM raw_sessions WHERE id = %s
--- fork messages
INSERT INTO raw_messages SELECT %s, position, id, body FROM raw_messages WHERE session_id = %s
--- summaries
SELECT s.id, s.count, m.body FROM raw_sessions s
LEFT JOIN raw_messages m ON m.session_id = s.id AND m.position = s.count
WHERE s.id IN (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
--- delete sessions
DELETE FROM raw_sessions WHERE image_id = %s
--- delete image
DELETE FROM raw_images WHERE id = %s
--- postgresql append one
WITH session AS (
  UPDATE raw_sessions SET count = count + %s, at = %s, latest = %s WHERE id = %s RETURNING id, count
)
INSERT INTO raw_messages SELECT id, count, %s, %s FROM session RETURNING position
--- postgresql append
WITH session AS (
  UPDATE raw_sessions SET count = count + %s, at = %s, latest = %s WHERE id = %s RETURNING id, count
)
INSERT INTO raw_messages
SELECT session.id, session.count - %s + new.number, new.id, new.body
FROM session, unnest(%s::text[], %s::text[]) WITH ORDINALITY AS new (id, body, number)
RETURNING position
--- postgresql newest
SELECT session.count, message.id, message.body FROM raw_sessions AS session
JOIN raw_messages AS message ON message.session_id = session.id AND message.position = session.count
WHERE session.id = %s
--- postgresql pop
WITH message AS (
  DELETE FROM raw_messages WHERE session_id = %s AND position = %s AND id = %s RETURNING session_id
)
UPDATE raw_sessions SET count = count - 1, at = %s, latest = %s FROM message
WHERE raw_sessions.id = message.session_id AND count = %s
--- mysql reserve
UPDATE raw_sessions SET at = %s, latest = %s, count = LAST_INSERT_ID(count + %s) WHERE id = %s
--- mysql tail
SELECT position, body FROM raw_messages WHERE session_id = %s AND position > %s
