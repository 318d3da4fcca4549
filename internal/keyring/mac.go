package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// macs makes HMACs under one key for one purpose, which every message begins with. Each
// request of a visitor checks one, so the hashes are kept with the key already in them.
type macs struct {
	purpose []byte
	hashes  sync.Pool // of *keyed
}

// keyed is a hash under the key, and room for what it has to see and say without any
// memory of its own.
type keyed struct {
	hash hash.Hash
	msg  []byte
	sum  [sha256.Size]byte
}

func newMACs(secret []byte, purpose Purpose) *macs {
	m := &macs{purpose: []byte(purpose)}
	m.hashes.New = func() any { return &keyed{hash: hmac.New(sha256.New, secret)} }
	return m
}

func (m *macs) of(msg []byte) (mac [sha256.Size]byte) {
	k := m.hashes.Get().(*keyed)
	k.hash.Reset()
	k.msg = append(append(k.msg[:0], m.purpose...), msg...)
	k.hash.Write(k.msg)
	mac = [sha256.Size]byte(k.hash.Sum(k.sum[:0]))
	m.hashes.Put(k)
	return mac
}
