-- +goose Up

-- Which places have given their session, as bitmaps of 65,536 ranks a row: no loss of Redis
-- lets a place be called again that has been admitted.
CREATE TABLE room_claims (
    room        text NOT NULL,
    epoch       uuid NOT NULL,
    chunk       bigint NOT NULL, -- ranks from chunk × 65,536 on, the first in the highest bit
    bits        bytea NOT NULL,
    PRIMARY KEY (room, epoch, chunk),
    FOREIGN KEY (room, epoch) REFERENCES room_epochs (room, epoch)
);
