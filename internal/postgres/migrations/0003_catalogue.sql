-- +goose Up

-- Immutable versions of a venue's seating plan, by the SHA-256 of their normalised JSON.
CREATE TABLE plans (
    venue       text NOT NULL,
    plan        text NOT NULL, -- lower-case hex
    document    bytea NOT NULL, -- gzip of the normalised JSON
    categories  jsonb NOT NULL, -- [{name, color, seats}] in the plan's order
    seats       integer NOT NULL CHECK (seats > 0),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (venue, plan)
);
ALTER TABLE plans ALTER COLUMN document SET STORAGE EXTERNAL; -- it is compressed already

-- plan is the version that new events take.
CREATE TABLE venues (
    venue       text PRIMARY KEY,
    name        text NOT NULL,
    plan        text NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    FOREIGN KEY (venue, plan) REFERENCES plans (venue, plan)
);

-- The directory of events: small, read everywhere, a reference table under Citus, and so
-- the one table where a slug can be unique. Everything that is sold hangs on event_id.
CREATE TABLE events (
    event_id              uuid PRIMARY KEY,
    slug                  text NOT NULL UNIQUE,
    title                 text NOT NULL,
    venue                 text NOT NULL,
    plan                  text NOT NULL, -- what new performances take
    currency              text NOT NULL,
    status                text NOT NULL CHECK (status IN ('draft', 'on_sale', 'ended')),
    room                  text NOT NULL, -- '' = none
    max_seats_per_session integer NOT NULL CHECK (max_seats_per_session > 0),
    first_at              timestamptz, -- the earliest performance, for the order of the list
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    FOREIGN KEY (venue, plan) REFERENCES plans (venue, plan)
);
CREATE INDEX events_listed ON events (status, first_at, slug);

-- layout counts the changes of what an index means (plan, areas, capacities). What is sold
-- refers to it, so that a change and a sale cannot pass each other unseen: a change updates
-- this key under the row's lock, and a sale of the older layout then has no parent.
CREATE TABLE performances (
    event_id        uuid NOT NULL REFERENCES events (event_id),
    performance_id  uuid NOT NULL,
    starts_at       timestamptz NOT NULL,
    plan            text NOT NULL,
    layout          integer NOT NULL,
    PRIMARY KEY (event_id, performance_id),
    UNIQUE (event_id, performance_id, layout)
);

CREATE TABLE event_prices (
    event_id    uuid NOT NULL REFERENCES events (event_id),
    category    text NOT NULL,
    amount      bigint NOT NULL CHECK (amount >= 0), -- minor units
    PRIMARY KEY (event_id, category)
);

-- Standing areas on sale, in the order of their index ranges, which follow the seats.
CREATE TABLE event_areas (
    event_id    uuid NOT NULL REFERENCES events (event_id),
    area_id     text NOT NULL, -- the area's uuid in the plan
    ordinal     integer NOT NULL,
    name        text NOT NULL,
    category    text NOT NULL,
    capacity    integer NOT NULL CHECK (capacity > 0),
    PRIMARY KEY (event_id, area_id)
);
