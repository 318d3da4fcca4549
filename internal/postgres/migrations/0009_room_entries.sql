-- +goose Up

-- What a room knows of single places: which have moved to another device (kind moved:
-- number → generation), and which an invited identity has (kind invited: digest → place).
CREATE TABLE room_entries (
    room        text NOT NULL,
    epoch       uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('moved', 'invited')),
    field       text NOT NULL,
    value       text NOT NULL COLLATE "C", -- of two the greater is the later one
    PRIMARY KEY (room, epoch, kind, field),
    FOREIGN KEY (room, epoch) REFERENCES room_epochs (room, epoch)
);
