-- The tables of a store on PostgreSQL. Columns are those of the embedded store, so that every hash and number can be taken
-- over; `machine` is where a journal's file is, and where its process can be looked for.

CREATE TABLE machines (
    machine text PRIMARY KEY, name text NOT NULL
);
CREATE TABLE sessions (
    session text PRIMARY KEY, machine text NOT NULL REFERENCES machines, name text, user_name text, profile text,
    argv text, workspace text, policy_hash text, pid bigint, pid_started_ticks bigint, started bigint, ended bigint,
    end_reason text, exit text, events bigint NOT NULL, allowed bigint NOT NULL, denied bigint NOT NULL,
    refused bigint NOT NULL, failed bigint NOT NULL, calls bigint NOT NULL, inexact bigint NOT NULL,
    cost_nano bigint NOT NULL, input bigint NOT NULL, cache_read bigint NOT NULL, cache_write bigint NOT NULL,
    cache_write_long bigint NOT NULL, output bigint NOT NULL, reasoning bigint NOT NULL, web_searches bigint NOT NULL
);
CREATE INDEX sessions_started ON sessions (started DESC, session);
CREATE INDEX sessions_user ON sessions (user_name);
CREATE TABLE journals (
    session text NOT NULL REFERENCES sessions, writer text NOT NULL, frames bigint NOT NULL,
    head_hash bytea NOT NULL CHECK (octet_length(head_hash) = 32), folded_bytes bigint NOT NULL, fault text,
    PRIMARY KEY (session, writer)
);
-- `entry` numbers events of all sessions in the order in which they were folded; `number` those of one session.
CREATE TABLE events (
    entry bigint PRIMARY KEY, session text NOT NULL REFERENCES sessions, number bigint NOT NULL, writer text NOT NULL,
    seq bigint NOT NULL, at bigint NOT NULL, kind text NOT NULL, payload bytea NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32), UNIQUE (session, number), UNIQUE (session, writer, seq)
);
CREATE INDEX events_at ON events (at, entry);
CREATE TABLE calls (
    session text NOT NULL REFERENCES sessions, number bigint NOT NULL, at bigint NOT NULL, model text NOT NULL,
    exact boolean NOT NULL, cost_nano bigint NOT NULL, input bigint NOT NULL, cache_read bigint NOT NULL,
    cache_write bigint NOT NULL, cache_write_long bigint NOT NULL, output bigint NOT NULL, reasoning bigint NOT NULL,
    web_searches bigint NOT NULL, PRIMARY KEY (session, number)
);
CREATE INDEX calls_at ON calls (at);

-- Money that is set aside for calls under way.
CREATE TABLE accounts (
    session text PRIMARY KEY, machine text NOT NULL REFERENCES machines, user_name text NOT NULL, team text, project text,
    agent text NOT NULL, pid bigint NOT NULL, pid_started_ticks bigint NOT NULL
);
CREATE TABLE charges (
    session text NOT NULL REFERENCES accounts, request bigint NOT NULL, at bigint NOT NULL, nano bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('held', 'lost', 'settled')), PRIMARY KEY (session, request)
);
CREATE INDEX charges_open ON charges (session) WHERE state <> 'settled';
CREATE INDEX charges_at ON charges (at);

-- The ledger: its entries, the hashes above each 256, 65,536 … of them, and what was signed.
CREATE TABLE ledger (
    one boolean PRIMARY KEY CHECK (one), size bigint NOT NULL, events bigint NOT NULL
);
INSERT INTO ledger VALUES (true, 0, 0);
CREATE TABLE ledger_entries (
    place bigint PRIMARY KEY, entry bytea NOT NULL CHECK (octet_length(entry) = 64)
);
CREATE TABLE ledger_hashes (
    level integer NOT NULL, place bigint NOT NULL, hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, place)
);
CREATE TABLE ledger_runs (
    session text NOT NULL, writer text NOT NULL, seq bigint NOT NULL, place bigint NOT NULL, count bigint NOT NULL,
    PRIMARY KEY (session, writer, seq)
);
CREATE INDEX ledger_places ON ledger_runs (place);
CREATE TABLE ledger_keys (
    number bigint PRIMARY KEY, place bigint NOT NULL, public bytea NOT NULL CHECK (octet_length(public) = 32)
);
CREATE TABLE ledger_notes (
    name text PRIMARY KEY, note bytea NOT NULL
);
