-- +goose Up

-- The rate-limit policies that operators have set last: Redis holds what is in force, and
-- gets it back from here when it has lost it. document is kept as it was written.
CREATE TABLE policy_sets (
    name     text PRIMARY KEY,
    version  bigint NOT NULL,
    document json NOT NULL,
    set_at   timestamptz NOT NULL,
    set_by   text NOT NULL
);
