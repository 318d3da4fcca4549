-- +goose Up

-- People who sign in. events lists the slugs that the account is limited to; empty means all.
CREATE TABLE operators (
    id          uuid PRIMARY KEY,
    email       text NOT NULL,
    name        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'gate')),
    events      text[] NOT NULL,
    password    text NOT NULL, -- argon2id in PHC form
    created_at  timestamptz NOT NULL
);
CREATE UNIQUE INDEX operators_email ON operators (lower(email));

-- API keys. Only the SHA-256 of a key is here and in Redis; the key itself is shown once.
CREATE TABLE operator_keys (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('admin', 'operator', 'viewer', 'gate')),
    events      text[] NOT NULL,
    digest      text NOT NULL UNIQUE, -- lower-case hex
    created_at  timestamptz NOT NULL
);

-- Who changed what. Ids are UUIDv7 made where the change was made, so a change that is
-- delivered twice is recorded once.
CREATE TABLE audit (
    id          uuid PRIMARY KEY,
    at          timestamptz NOT NULL,
    actor       text NOT NULL,
    actor_id    text NOT NULL,
    act         text NOT NULL,
    subject     text NOT NULL,
    before      jsonb,
    after       jsonb,
    request_id  text NOT NULL
);
CREATE INDEX audit_at ON audit (at DESC, id DESC);
CREATE INDEX audit_subject ON audit (subject, at DESC, id DESC);
