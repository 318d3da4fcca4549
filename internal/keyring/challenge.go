package keyring

// ChallengeSecret signs challenges: derived from the session key, so that all gateways
// have the same, and a rotation of places and passes leaves it alone. No room's name
// begins with a zero byte, so it is no session's id.
func (r *Ring) ChallengeSecret() string { return r.SessionID("\x00challenge", "", 0) }
