-- +goose Up

-- A purchase. Only a row here with the seats in order_seats says who owns what.
--   pending → paid → refunding → refunded
--   pending → expired | cancelled, after the provider confirmed that nothing can be paid any more
--   expired | cancelled → refunding, when money came all the same
CREATE TABLE orders (
    event_id        uuid NOT NULL,
    order_id        uuid NOT NULL,
    performance_id  uuid NOT NULL,
    layout          integer NOT NULL, -- what the seats' indexes mean
    state           text NOT NULL CHECK (state IN ('pending', 'paid', 'expired', 'cancelled', 'refunding', 'refunded')),
    session         text NOT NULL,
    hold_id         uuid NOT NULL,
    seats           integer[] NOT NULL, -- sorted
    total           bigint NOT NULL CHECK (total >= 0), -- minor units
    currency        text NOT NULL,
    buyer_email     text NOT NULL,
    buyer_name      text NOT NULL,
    buyer_phone     text NOT NULL,
    provider        text NOT NULL,
    payment_id      text, -- null until the provider has answered
    payment_link    text,
    paid            bigint NOT NULL, -- taken by the provider, minor units
    refunded        bigint NOT NULL,
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    paid_at         timestamptz,
    closed_at       timestamptz, -- expired, cancelled or refunded
    PRIMARY KEY (event_id, order_id),
    FOREIGN KEY (event_id, performance_id, layout) REFERENCES performances (event_id, performance_id, layout)
);
CREATE INDEX orders_pending ON orders (event_id, expires_at) WHERE state = 'pending';

-- Who owns a seat or a unit of an area. The primary key is what keeps anything from being
-- sold twice. A row leaves only with its order's state, in the same transaction.
CREATE TABLE order_seats (
    event_id        uuid NOT NULL,
    performance_id  uuid NOT NULL,
    seat_index      integer NOT NULL CHECK (seat_index >= 0),
    order_id        uuid NOT NULL,
    state           text NOT NULL CHECK (state IN ('reserved', 'sold')),
    PRIMARY KEY (event_id, performance_id, seat_index),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, order_id)
);

-- What a holder ('session:…', 'person:…') may still buy: of its slots 1..max, those not here.
CREATE TABLE purchase_slots (
    event_id    uuid NOT NULL,
    holder      text NOT NULL,
    slot        integer NOT NULL CHECK (slot > 0),
    order_id    uuid NOT NULL,
    PRIMARY KEY (event_id, holder, slot),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, order_id)
);

-- The outcome of each Idempotency-Key. While answer is null the first request, or the one
-- that resumed it, has not finished yet.
CREATE TABLE idempotency (
    event_id    uuid NOT NULL,
    session     text NOT NULL,
    key         text NOT NULL,
    body_hash   bytea NOT NULL,
    order_id    uuid NOT NULL,
    status      integer,
    answer      bytea, -- JSON
    busy_until  timestamptz NOT NULL, -- until then nobody else resumes it
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (event_id, session, key)
);

CREATE TABLE tickets (
    event_id        uuid NOT NULL,
    order_id        uuid NOT NULL,
    seat_index      integer NOT NULL,
    performance_id  uuid NOT NULL,
    ticket_id       uuid NOT NULL,
    code            text NOT NULL, -- unguessable; whoever has it may enter
    void            boolean NOT NULL,
    used_at         timestamptz,
    used_where      text,
    PRIMARY KEY (event_id, order_id, seat_index),
    UNIQUE (event_id, code),
    FOREIGN KEY (event_id, order_id) REFERENCES orders (event_id, order_id)
);

-- Webhooks that were acted upon, by the provider's id.
CREATE TABLE payment_events (
    event_id    uuid NOT NULL,
    provider    text NOT NULL,
    id          text NOT NULL,
    order_id    uuid NOT NULL,
    kind        text NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, provider, id)
);

-- What the sandbox provider remembers by itself: the far side of the wire, no sale table.
CREATE TABLE sandbox_payments (
    payment_id      text PRIMARY KEY,
    idempotency_key text NOT NULL UNIQUE,
    event_id        uuid NOT NULL,
    order_id        uuid NOT NULL,
    amount          bigint NOT NULL,
    currency        text NOT NULL,
    state           text NOT NULL CHECK (state IN ('open', 'declined', 'paid', 'cancelled')),
    refunded        bigint NOT NULL,
    return_url      text NOT NULL,
    created_at      timestamptz NOT NULL
);
