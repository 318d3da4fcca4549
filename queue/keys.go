package queue

// Keys outside of rooms.
const (
	roomsKey      = "usher:rooms"       // set of the names of all rooms
	eventRoomsKey = "usher:event-rooms" // hash: event → room ("" for none); booking writes it
	recordKey     = "usher:record"      // which record this Redis has
	recordedKey   = "usher:recorded"    // set once the Recorder has brought back what Redis lost
	releasesKey   = "usher:releases"    // stream of booking's {room, session}: orders paid
)

// endedKeys are sorted sets of the sessions that ended before their passes: by when these
// are refused from, and by when they expire. A room of that name has other keys.
var endedKeys = []string{"usher:{ended}:from", "usher:{ended}:till"}

// Keys of a room, in the order in which every script gets them (lua/lib.lua names
// them again). The hash tag puts them all into one slot.
var keyNames = []string{
	"state",   // hash: what the scripts need of the settings, epoch, counters, clocks
	"counted", // bitmaps, one bit a rank (in the lobby: a number) from state.base on
	"live",    // present: the OR of the slots
	"slot:0",
	"slot:1",
	"slot:2",
	"called",    // open first calls
	"claimed",   // gave a session, ever
	"expired",   // called and not claimed
	"returning", // missed, back, and not called again yet
	"once",      // came back once
	"left",      // left, or took a session in bypass
	"calls",     // batches of open calls, each a run of ranks
	"absent",    // batches passed while absent that may come back
	"missed",    // batches called and not claimed that may come back
	"recalls",   // sorted set: ranks called a second time, by expiry on the room's clock
	"sessions",  // sorted set: session ids by expiry
	"tmp",
	"changes", // stream of operators' changes for the Recorder
	"seconds", // streams of figures
	"minutes",
	"lobby:counted", // the lobby's bitmaps by number, from the opening until the draw is in force
	"lobby:live",
	"lobby:left",
	"settings", // JSON
	"tmp:2",
	"cleared",  // in the quiet time: who counts no longer, for some gateway
	"extended", // sorted set: ranks whose open call was extended, by expiry on the room's clock
	"phones:0", // presence of phones, which lasts longer
	"phones:1",
	"lobby:phones",
	"tmp:3", // with tmp and tmp:2: bitmaps that a caller brings, in the transaction of the script that takes them
	"tmp:4",
	"moved",   // hash: number → generation of the places that have moved to another device
	"moves",   // list of the same, in order
	"invited", // hash: epoch and digest of an invited identity → its place
	"entries", // stream of moves and invitations for the Recorder
}

// keysOf returns all keys of a room.
func keysOf(room string) []string {
	keys := make([]string, len(keyNames))
	for i, name := range keyNames {
		keys[i] = keyOf(room, name)
	}
	return keys
}

func keyOf(room, name string) string { return "usher:{" + room + "}:" + name }
