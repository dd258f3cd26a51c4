-- Whose a session was by its own start: sessions that no policy counts have no account that says so.

ALTER TABLE sessions ADD COLUMN team text, ADD COLUMN project text;
UPDATE sessions SET team = started.event ->> 'team', project = started.event ->> 'project'
    FROM (SELECT DISTINCT ON (session) session, convert_from(payload, 'UTF8')::json -> 'event' AS event FROM events
          WHERE kind = 'session_started' AND payload NOT LIKE convert_to('%\\u0000%', 'UTF8') ORDER BY session, number)
         AS started
    WHERE started.session = sessions.session;

-- Which parts of budgets were told of, in which of their windows.
CREATE TABLE alerts (
    budget text NOT NULL, since bigint NOT NULL, percent bigint NOT NULL, PRIMARY KEY (budget, since, percent)
);
